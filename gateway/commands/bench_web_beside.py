"""What ``athanor bench web`` fills a database with besides studies: people and what they did, and who was refused."""

from __future__ import annotations

import time
import uuid
from collections import defaultdict
from typing import Any

from gateway.domain.alerts import Severity
from gateway.domain.refusal import Reason
from gateway.domain.roles import Role
from gateway.domain.states import CommitmentState
from gateway.domain.verdicts import Verdict

DESTINATIONS = ("pacs", "archive", "reading-room")
ADDED_DESTINATION = "spare"

Rows = defaultdict[str, list[dict[str, Any]]]
"""Rows by the name of their table."""


def beside(many: int, span_s: float) -> Rows:
    """What is not about a study: people and what they did, who was refused, what was kept beside, requests."""
    at = time.time() - span_s
    rows: Rows = defaultdict(list)
    rows["person"] = [
        {
            "name": f"person-{number:04d}", "role": Role.VIEWER, "password_hash": None,
            "active": True, "created_at": at, "last_login_at": at, "failed_logins": 0, "locked_until": 0.0,
        }
        for number in range(200)
    ]  # fmt: skip
    rows["web_session"] = [
        {
            "digest": f"{number:064x}", "person_id": number + 1, "created_at": time.time(),
            "seen_at": time.time() - number, "address": "192.0.2.200", "agent": "bench",
        }
        for number in range(100)
    ]  # fmt: skip
    rows["audit"] = [
        {
            "at": at + span_s * number / (4 * many), "who": f"person-{number % 200:04d}", "role": Role.OPERATOR,
            "address": "192.0.2.200", "what": "sent failed deliveries again", "subject": DESTINATIONS[number % 3],
            "detail": {"number": number % 7},
        }
        for number in range(4 * many)
    ]  # fmt: skip
    rows["refusal"] = [
        {
            "address": f"198.51.100.{number % 250}", "calling_ae_title": f"UNKNOWN{number}",
            "called_ae_title": "ATHANOR", "reason": Reason.CALLING_AE_TITLE,
            "count": number + 1, "first_at": at, "last_at": time.time() - number,
        }
        for number in range(min(many, 1000))
    ]  # fmt: skip
    rows["quarantine"] = [
        {
            "at": at + number, "status": 0xC000, "reason": "cannot be read", "calling_ae_title": "MR1",
            "address": "192.0.2.1", "path": f"quarantine/{number}.dcm",
        }
        for number in range(many)
    ]  # fmt: skip
    rows["commitment"] = [
        {
            "id": str(uuid.uuid4()), "transaction_uid": f"2.25.{number + 1}", "calling_ae_title": "MR1",
            "called_ae_title": "ATHANOR", "address": "192.0.2.1", "instances": [],
            "state": CommitmentState.FAILED if number % 50 == 0 else CommitmentState.REPORTED, "attempt": 1,
            "not_before": at, "requested_at": at + number, "ended_at": at + number, "give_up_at": at, "not_held": 0,
            "error": "transport connection: refused" if number % 50 == 0 else None,
        }
        for number in range(many)
    ]  # fmt: skip
    rows["alert"] = [
        {
            "cause": f"bench:{number}", "severity": Severity.WARNING, "title": "Deliveries to pacs failed",
            "advice": "When that is repaired, send them again.", "link": "/destinations", "first_at": at + number,
            "last_at": at + number, "times": number % 9 + 1, "reminders": 0,
            "resolved_at": None if number % 100 == 0 else at + number + 60.0,
        }
        for number in range(many)
    ]  # fmt: skip
    rows["reader_feedback"] = [
        {
            "job_id": str(uuid.UUID(int=number)), "pipeline_id": "t2-to-stir", "pipeline_version": "1.0.0",
            "weights_sha256": "0" * 64, "verdict": list(Verdict)[number % len(Verdict)], "words": "seen on two slices",
            "who": "person-0001", "at": at + number,
        }
        for number in range(many)
    ]  # fmt: skip
    spare = {"ae_title": "SPARE", "host": "127.0.0.1", "port": 11112}
    entries = [("destination", ADDED_DESTINATION, spare)]
    entries += [("sender", f"ROOM{number}", {"addresses": ["192.0.2.0/24"], "note": ""}) for number in range(100)]
    rows["directory_entry"] = [
        {
            "kind": kind, "name": name, "version": 1, "definition": definition, "author": "bench", "reason": "",
            "created_at": at,
        }
        for kind, name, definition in entries
    ]  # fmt: skip
    return rows
