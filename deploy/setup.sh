#!/usr/bin/env bash
# Sets up a checkout: a .venv with the locked versions and, for the tests, the system programs that they run.
#   deploy/setup.sh run     what `athanor` needs
#   deploy/setup.sh test    the same, and what the tests need
# A second call that finds everything in place does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
kind=${1:?expected: run or test}

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else say "missing system packages; run as root: $*"; exit 1
    fi
}

install_packages() {
    say "system packages: $*"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    # a freshly installed server must not start by itself: the tests start their own on free ports
    as_root sh -c 'test -e /usr/sbin/policy-rc.d || { printf "#!/bin/sh\nexit 101\n" > /usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; touch /tmp/.athanor-policy; }'
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
    as_root sh -c 'if [ -e /tmp/.athanor-policy ]; then rm -f /usr/sbin/policy-rc.d /tmp/.athanor-policy; fi'
}

find_python() {
    for python in python3.11 python3.12 python3.13 python3; do
        if command -v "$python" >/dev/null && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            command -v "$python"
            return
        fi
    done
    say "found no Python 3.11 or later; apt-get install python3"; exit 1
}

python=$(find_python)
if [ ! -x .venv/bin/pip ]; then
    "$python" -c 'import ensurepip' 2>/dev/null || install_packages python3-venv
    say "making .venv with $("$python" --version)"
    "$python" -m venv .venv
fi

stamp=.venv/.athanor-$kind
wanted=$(cat "requirements/$kind.lock" pyproject.toml | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    say "installing the locked versions ($kind); torch is the large one"
    .venv/bin/pip install --quiet --disable-pip-version-check -r "requirements/$kind.lock"
    .venv/bin/pip install --quiet --disable-pip-version-check --no-deps --editable .
    printf '%s' "$wanted" > "$stamp"
fi

if [ "$kind" = test ]; then
    missing=()
    command -v storescu >/dev/null || missing+=(dcmtk)
    command -v Orthanc >/dev/null || missing+=(orthanc)
    command -v openssl >/dev/null || missing+=(openssl)
    command -v chromium >/dev/null || missing+=(chromium)
    command -v strace >/dev/null || missing+=(strace)
    command -v redis-server >/dev/null || missing+=(redis-server)
    [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || missing+=(rabbitmq-server)
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing+=(postgresql)
    if [ ${#missing[@]} -gt 0 ]; then install_packages "${missing[@]}"; fi
fi
