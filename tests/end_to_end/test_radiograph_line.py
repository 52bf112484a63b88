"""A radiograph through the whole line by a rule: a plain Secondary Capture with all marks, in no place of a patient."""

from __future__ import annotations

from pathlib import Path

import pydicom
from behaviour import QUICK, destination
from modality import TO_PACS, MakeGateway, sent_and_returned, switched_on

from gateway.commands.phantom import write_phantom
from gateway.commands.sandbox import SmallPacs

RULES = f"""{TO_PACS}
[[rules]]
name = "imagined"
pipeline = "xray-to-t2"
destinations = ["pacs"]
when = {{ all = [{{ attribute = "Modality", equals = "DX" }}, {{ attribute = "ViewPosition", equals = "LL" }}] }}
"""


def test_a_radiograph_comes_back_without_a_position(make_gateway: MakeGateway, pacs: SmallPacs, tmp_path: Path) -> None:
    node = make_gateway(
        RULES,
        weights_dir=str(switched_on("xray-to-t2", tmp_path / "models")),
        destinations={"pacs": destination(pacs.port, iod="source", label=False)},
        assemble=QUICK["assemble"],
    )
    paths = write_phantom(tmp_path / "xray", 31, "xray")
    source = pydicom.dcmread(paths[0])
    (ds,) = sent_and_returned(node, paths, pacs)
    assert ds.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"  # though the destination prefers an MR Image
    assert (ds.SyntheticData, ds.Modality, ds.Rows, ds.Columns) == ("YES", "MR", source.Rows, source.Columns)
    assert "CAUTION" in ds.ImageComments
    assert list(ds.PatientOrientation) == list(source.PatientOrientation)
    assert "ImagePositionPatient" not in ds
    assert "FrameOfReferenceUID" not in ds
