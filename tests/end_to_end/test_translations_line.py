"""Every translation that ships through the whole line by rules: T1W and T2W go in, five series come back."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pydicom
from behaviour import QUICK
from modality import MakeGateway, detail_of, series_uid, storescu

from gateway.commands.phantom import write_phantom
from gateway.commands.sandbox import SmallPacs

SLICES = 3
IS_T1W, IS_T2W = '{ attribute = "EchoTime", less = 30 }', '{ attribute = "EchoTime", greater = 70 }'
MADE = {"t1t2-to-stir": "STIR", "t1-to-t2": "T2W", "t2-to-t1": "T1W", "t2-to-tirm": "TIRM", "t2-to-stir": "STIR"}


def rule(pipeline: str, asks: str) -> str:
    return f"""
[[rules]]
name = "{pipeline}"
pipeline = "{pipeline}"
destinations = ["pacs"]
continue = true
{asks}
"""


BOTH = f"""wait_limit_s = 60

[[rules.inputs]]
role = "T1W"
when = {IS_T1W}

[[rules.inputs]]
role = "T2W"
when = {IS_T2W}
"""
RULES = rule("t1t2-to-stir", BOTH) + "".join(
    rule(name, f"when = {IS_T1W if name.startswith('t1') else IS_T2W}") for name in MADE if name != "t1t2-to-stir"
)


def test_every_translation_comes_back(make_gateway: MakeGateway, tmp_path: Path) -> None:
    sources = {name: write_phantom(tmp_path / name, 17, name, SLICES) for name in ("t1w", "t2w")}
    with SmallPacs(tmp_path / "pacs") as pacs:
        node = make_gateway(
            RULES,
            destinations={"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port}},
            assemble=QUICK["assemble"],
        )
        for paths in sources.values():
            assert storescu(node.port, paths).returncode == 0
        database = node.database()
        for paths in sources.values():
            node.wait_until_finished(database, series_uid(paths), 120)
        jobs = {
            job["rule"]: job for paths in sources.values() for job in detail_of(database, series_uid(paths))["jobs"]
        }
        database.close()
        made = [pydicom.dcmread(file) for _, file in pacs.received]
    assert {name: (job["state"], job["error"]) for name, job in jobs.items()} == dict.fromkeys(
        MADE, ("SUCCEEDED", None)
    )
    assert sorted(Counter(ds.SeriesInstanceUID for ds in made).values()) == [SLICES] * len(MADE)
    texts = [text for (_, text) in {(ds.SeriesInstanceUID, ds.SeriesDescription) for ds in made}]
    for contrast, series in Counter(MADE.values()).items():
        assert len([text for text in texts if contrast in text]) == series, texts
    study = pydicom.dcmread(sources["t2w"][0])
    for ds in made:
        assert (ds.SyntheticData, ds.StudyInstanceUID) == ("YES", study.StudyInstanceUID)
        assert ds.FrameOfReferenceUID == study.FrameOfReferenceUID
