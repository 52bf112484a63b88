#!/usr/bin/env bash
# Makes the secrets of compose.yaml, once: random passwords, and the URLs that hold them, in deploy/secrets.
set -euo pipefail
cd "$(dirname "$0")"
if [ -e secrets ]; then echo "found deploy/secrets; expected none; it holds the passwords in use" >&2; exit 1; fi
mkdir --mode=700 secrets
database=$(openssl rand -hex 32)
broker=$(openssl rand -hex 32)
# readable by the users of the containers, who see these files alone; on this machine the folder is closed
printf '%s' "$database" > secrets/database-password
printf '%s' "$broker" > secrets/broker-password
printf 'postgresql://athanor:%s@database/athanor' "$database" > secrets/database-url
printf 'redis://:%s@redis/0' "$broker" > secrets/redis-url
printf 'amqp://athanor:%s@rabbitmq//' "$broker" > secrets/rabbitmq-url
chmod 444 secrets/*
