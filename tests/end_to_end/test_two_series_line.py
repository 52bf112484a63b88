"""Two series of one study through the whole line: storescu sends T1W and T2W, one STIR comes back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pydicom
from modality import MakeGateway, detail_of, series_uid, storescu
from several_series import ACQUISITIONS, RULES, write_models

from gateway.commands.sandbox import SmallPacs
from gateway.dicom.acquired import write_mr_series
from pipelines.phantoms.acquisition import Prescription
from pipelines.phantoms.spine import T1W, T2W, acquire, virtual_patient


def test_t1w_and_t2w_of_one_patient_come_back_as_one_stir(make_gateway: MakeGateway, tmp_path: Path) -> None:
    patient, sources = virtual_patient(31), {}
    # T1W is planned with a smaller field of view, half a slice beside T2W
    plans = {
        "T1W": Prescription(slices=7, matrix=128, fov_mm=200.0),
        "T2W": Prescription(slices=6, matrix=128, fov_mm=190.0),
    }
    for contrast, sequence in (("T1W", T1W), ("T2W", T2W)):
        acquisition = replace(
            ACQUISITIONS[contrast], repetition_time_ms=sequence.tr_ms, echo_time_ms=sequence.te_ms,
            slice_thickness_mm=4.0,
        )  # fmt: skip
        volume = acquire(patient, sequence, plans[contrast])
        sources[contrast] = write_mr_series(volume, tmp_path / contrast, seed=31, acquisition=acquisition)
    with SmallPacs(tmp_path / "pacs") as pacs:
        gateway = make_gateway(
            RULES,
            weights_dir=str(write_models(tmp_path / "models")),
            destinations={"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port}},
        )
        for paths in (sources["T1W"], sources["T2W"]):
            sent = storescu(gateway.port, paths)
            assert sent.returncode == 0, sent.stderr
        database = gateway.database()
        for paths in (sources["T2W"], sources["T1W"]):
            gateway.wait_until_finished(database, series_uid(paths), 120)
        details = [detail_of(database, series_uid(paths)) for paths in (sources["T1W"], sources["T2W"])]
        database.close()
        made = [pydicom.dcmread(file) for _, file in pacs.received]
    assert [detail["state"] for detail in details] == ["ROUTED", "ROUTED"]
    assert details[0]["jobs"] == details[1]["jobs"]
    (job,) = details[0]["jobs"]
    assert (job["rule"], job["state"], job["error"]) == ("t1t2-to-stir", "SUCCEEDED", None)
    assert [(one["state"], one["accepted"]) for one in job["deliveries"]] == [("DELIVERED", 6)]
    assert len({ds.SeriesInstanceUID for ds in made}) == 1
    grid = {str(ds.SOPInstanceUID): ds for ds in map(pydicom.dcmread, sources["T2W"])}
    others = {str(pydicom.dcmread(path).SOPInstanceUID) for path in sources["T1W"]}
    assert {str(ds.SourceImageSequence[0].ReferencedSOPInstanceUID) for ds in made} == set(grid)
    for ds in made:
        source, *beside = (str(one.ReferencedSOPInstanceUID) for one in ds.SourceImageSequence)
        assert ds.SyntheticData == "YES"
        assert ds.ImagePositionPatient == grid[source].ImagePositionPatient
        assert ds.PixelSpacing == grid[source].PixelSpacing
        assert len(beside) == 2
        assert set(beside) <= others
