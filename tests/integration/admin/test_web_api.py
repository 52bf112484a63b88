"""Generated requests over every operation of the OpenAPI document: none is answered with a 5xx."""

from __future__ import annotations

import schemathesis
from hypothesis import HealthCheck, given, settings
from web_application import Running

from gateway.domain.roles import Role

EXAMPLES = 8


def test_no_request_is_answered_with_a_server_error(empty_web: Running) -> None:
    document = schemathesis.openapi.from_url(f"{empty_web.url}/api/openapi.json")
    headers = {"Authorization": f"Bearer {empty_web.keys[Role.ADMINISTRATOR]}"}
    asked = 0

    def ask(operation: schemathesis.schemas.APIOperation) -> None:
        @given(case=operation.as_strategy())
        @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
        def generated(case: schemathesis.Case) -> None:
            nonlocal asked
            answer = case.call(base_url=empty_web.url, headers=headers, timeout=20)
            assert answer.status_code < 500, f"{case.method} {case.path}: {answer.status_code} {answer.text[:300]}"
            asked += 1

        generated()

    # news never end
    operations = [found.ok() for found in document.exclude(path="/events").get_all_operations()]
    for operation in operations:
        ask(operation)
    assert len(operations) >= 30
    assert asked >= 2 * len(operations)
