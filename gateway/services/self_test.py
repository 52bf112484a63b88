"""The self-test of a pipeline in a process worker, where torch and the device are."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict

from gateway import logs
from gateway.services.models import Models
from gateway.store import self_tests
from gateway.store.database import Database
from pipelines.catalog import Catalog
from pipelines.self_test import Step, self_test

log = logs.get("self-test")


def tester_of(database: Database, catalog: Catalog, models: Models, owner: str) -> Callable[[str], None]:
    """What a process worker does when it is told to test a pipeline. Raises Unavailable."""

    def test(pipeline_id: str) -> None:
        with database.write() as connection:
            if not self_tests.begin(connection, pipeline_id, owner):
                return
        started = time.perf_counter()
        steps = _steps(pipeline_id, catalog, models)
        outcome = {
            "passed": all(step.passed for step in steps),
            "version": catalog[pipeline_id].version if pipeline_id in catalog else "",
            "device": models.device,
            "seconds": round(time.perf_counter() - started, 2),
            "steps": [asdict(step) for step in steps],
        }
        with database.write() as connection:
            self_tests.end(connection, pipeline_id, owner, outcome)
        log.info("self-test ended", pipeline=pipeline_id, passed=outcome["passed"], seconds=outcome["seconds"])

    return test


def _steps(pipeline_id: str, catalog: Catalog, models: Models) -> list[Step]:
    if pipeline_id not in catalog:
        return [Step("weights", False, "this worker does not know the pipeline; restart it after an installation")]
    steps: list[Step] = []
    try:
        steps.extend(self_test(catalog[pipeline_id], models.load_anew))
    except Exception as error:  # noqa: BLE001 - the edge of a self-test: whatever it was is kept and shown
        log.error("self-test broke", pipeline=pipeline_id, **logs.failure(error))
        steps.append(Step("run", False, logs.words_of(error)))
    return steps
