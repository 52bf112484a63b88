"""``athanor bench web``: every GET operation of a real web process is asked, and answered."""

from __future__ import annotations

from athanor_command import athanor

from gateway.commands.bench_web import GOAL_MS, Timing
from gateway.commands.bench_web_examples import NOT_MEASURED


def test_every_page_and_list_is_asked_and_answered() -> None:
    ran = athanor("bench", "web", "--instances", 2000, "--studies", 30, "--rounds", 1, "--json")
    found = ran.json
    pages = found["pages"]
    assert ran.code == (0 if all(one["good"] for one in pages) else 1), ran.err
    assert not [one for one in pages if one["status"] >= 400]
    # with so few rows only a machine that does much else is slow; what is slow by itself is slow far beyond that
    assert max(one["median_ms"] for one in pages) < 10 * GOAL_MS
    assert found["left_out"] == {path: NOT_MEASURED[path] for path in found["left_out"]}
    paths = {one["path"] for one in pages}
    assert paths >= {"/", "/studies", "/studies/{study_uid}", "/audit", "/events", "/api/v1/studies", "/queue"}
    addresses = {one["address"].partition("=")[0] for one in pages}
    assert addresses >= {"/studies?text", "/studies?state", "/studies?after", "/api/v1/audit?who", "/audit?after"}


def test_what_is_slow_or_refused_is_not_good() -> None:
    assert Timing("/", "/", 200, 199.0, 900.0).is_good
    assert not Timing("/", "/", 200, 200.0, 200.0).is_good
    assert not Timing("/", "/", 404, 1.0, 1.0).is_good
