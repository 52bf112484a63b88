"""Lists on the web port lead on by links that keep the filters, and tell programs the keys of the pages beside."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import httpx
import pytest
from web_application import Running

from gateway.commands.bench_web_rows import Filling
from gateway.domain.roles import Role

LISTS = {
    "/api/v1/studies": ("studies", "uid"),
    "/api/v1/studies?calling_ae_title=MR1": ("studies", "uid"),
    "/api/v1/audit": ("entries", "id"),
    "/api/v1/people": ("people", "name"),
    "/api/v1/refusals": ("refusals", "id"),
}


@pytest.fixture
def filled(empty_web: Running) -> Running:
    """A web application with some hundred studies."""
    Filling(empty_web.database, 2000, 120).fill(lambda _: None)
    return empty_web


def pages(client: httpx.Client, address: str, name: str) -> list[dict[str, Any]]:
    """Every answer of a list, from the first page on."""
    found = [client.get(address).raise_for_status().json()]
    while found[-1]["after"]:
        assert found[-1][name]
        found.append(client.get(httpx.URL(address).copy_merge_params({"after": found[-1]["after"]})).json())
    return found


def test_programs_get_every_row_once_and_the_way_back(filled: Running) -> None:
    with filled.client(Role.ADMINISTRATOR) as client:
        for address, (name, key) in LISTS.items():
            found = pages(client, address, name)
            rows = [row[key] for page in found for row in page[name]]
            assert len(rows) == len(set(rows)), address
            assert found[0]["before"] is None
            if len(found) > 1:
                back = client.get(httpx.URL(address).copy_merge_params({"before": found[1]["before"]})).json()
                assert [row[key] for row in back[name]] == [row[key] for row in found[0][name]], address
        assert len(pages(client, "/api/v1/studies", "studies")) == 3
        assert len(pages(client, "/api/v1/people", "people")) == 4


def test_links_of_a_page_keep_its_filters(filled: Running) -> None:
    with filled.client(Role.ADMINISTRATOR) as client:
        first = client.get("/studies?state=UNMATCHED&study_date=2026").text
        after = unescape(re.search(r'rel="next" href="([^"]+)"', first)[1])  # type: ignore[index]
        assert "state=UNMATCHED" in after
        assert "study_date=2026" in after
        assert 'rel="prev"' not in first
        before = unescape(re.search(r'rel="prev" href="([^"]+)"', client.get(after).text)[1])  # type: ignore[index]
        assert "state=UNMATCHED" in before
        uids = r'href="/studies/([0-9.]+)"'
        assert re.findall(uids, client.get(before).text) == re.findall(uids, first)
        for place in ("/audit", "/people", "/senders"):
            assert 'rel="next"' in client.get(place).text, place


def test_a_large_study_shows_no_instance_but_the_way_to_all(filled: Running) -> None:
    with filled.client(Role.ADMINISTRATOR) as client:
        (large,) = client.get("/api/v1/studies?text=A00000060").json()["studies"]
        assert large["instances"] > 100
        page = client.get(f"/studies/{large['uid']}").text
        series = client.get(f"/api/v1/studies/{large['uid']}").json()["series"]
        for one in series:
            assert f'href="/series/{one["id"]}/instances"' in page
            assert one["longest_gap_s"] == pytest.approx(0.05, abs=0.01)
        instances = [
            row
            for one in series
            for answer in pages(client, f"/api/v1/series/{one['id']}/instances", "instances")
            for row in answer["instances"]
        ]
        assert len({row["sop_instance_uid"] for row in instances}) == large["instances"]
        assert instances[0]["sop_instance_uid"] not in page
        shown = client.get(f"/series/{series[0]['id']}/instances").text
        assert instances[0]["sop_instance_uid"] in shown
        assert client.get("/series/999999999/instances").status_code == 404


def test_a_study_of_very_many_series_shows_them_page_by_page(filled: Running) -> None:
    with filled.client(Role.VIEWER) as client:
        (wide,) = client.get("/api/v1/studies?text=A00000040").json()["studies"]
        found = pages(client, f"/api/v1/studies/{wide['uid']}", "series")
        assert len(found) == 2
        assert len({row["id"] for page in found for row in page["series"]}) == wide["series"] == 40
        page = client.get(f"/studies/{wide['uid']}").text
        later = unescape(re.search(r'rel="next" href="([^"]+)"', page)[1])  # type: ignore[index]
        for shown, series in ((page, found[0]), (client.get(later).text, found[1])):
            assert re.findall(r'<h2 id="series-(\d+)"', shown) == [str(row["id"]) for row in series["series"]]
