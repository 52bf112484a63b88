"""An MR series through the whole line by a rule: a CT in HU comes back on its grid, and no one can take it for one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from behaviour import QUICK, destination
from modality import MakeGateway, sent_and_returned, switched_on

from gateway.commands.sandbox import SmallPacs
from gateway.dicom.acquired import Acquisition, write_mr_series
from pipelines.phantoms.spine import T1W, Prescription, Tissue, acquire, truth, virtual_patient

RULES = """
[[rules]]
name = "bone"
pipeline = "mr-to-ct"
destinations = ["pacs"]
when = { attribute = "SeriesDescription", contains = "T1" }
"""
PRESCRIPTION = Prescription(slices=3, matrix=192, fov_mm=211.2)
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"


def test_a_t1w_series_comes_back_in_hu(make_gateway: MakeGateway, pacs: SmallPacs, tmp_path: Path) -> None:
    node = make_gateway(
        RULES,
        weights_dir=str(switched_on("mr-to-ct", tmp_path / "models")),
        destinations={"pacs": destination(pacs.port, iod="source", label=False)},
        assemble=QUICK["assemble"],
    )
    patient = virtual_patient(9601)
    acquisition = Acquisition("T1 TSE SAG", repetition_time_ms=T1W.tr_ms, echo_time_ms=T1W.te_ms)
    paths = write_mr_series(acquire(patient, T1W, PRESCRIPTION), tmp_path / "t1w", seed=9, acquisition=acquisition)
    arrived = sent_and_returned(node, paths, pacs)
    arrived.sort(key=lambda ds: float(ds.ImagePositionPatient[0]))
    assert len(arrived) == len(paths)
    for ds in arrived:
        assert (ds.SOPClassUID, ds.Modality, ds.RescaleType) == (CT_IMAGE, "CT", "HU")
        assert ds.SyntheticData == "YES"
        assert ds.SeriesDescription.startswith("SYNTH-AI")
        assert list(ds.ImageType)[:2] == ["DERIVED", "SECONDARY"]
        assert (float(ds.WindowCenter), float(ds.WindowWidth)) == (40.0, 400.0)
    hu = np.stack([ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept) for ds in arrived])
    assert hu.min() >= -1024
    assert hu.max() <= 3071
    tissues = truth(patient, PRESCRIPTION)
    air, fat, muscle, marrow = (
        float(np.median(hu[tissues == tissue]))
        for tissue in (Tissue.AIR, Tissue.SUBCUTANEOUS_FAT, Tissue.MUSCLE, Tissue.MARROW)
    )
    assert air < -900
    assert -200 < fat < -40
    assert fat < muscle < marrow
