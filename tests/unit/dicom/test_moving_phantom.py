"""Series that `athanor phantom --motion` writes: sound, read back, repeatable, and never taken for those without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from athanor_command import athanor
from dicom_files import iod_complaints

from gateway.dicom.volume import read_series


def written(folder: Path, *options: str) -> list[Path]:
    assert athanor("phantom", folder, "--seed", 5, "--slices", 2, "--matrix", 96, *options).code == 0
    return sorted(folder.iterdir())


def test_a_series_with_motion_is_a_sound_series_of_its_own(tmp_path: Path) -> None:
    still = written(tmp_path / "still")
    moved, again = (written(tmp_path / name, "--motion", "severe") for name in ("moved", "again"))
    assert [path.read_bytes() for path in moved] == [path.read_bytes() for path in again]
    assert iod_complaints(moved[0]) == set()
    first, second = pydicom.dcmread(still[0]), pydicom.dcmread(moved[0])
    assert second.SeriesDescription == f"{first.SeriesDescription} SEVERE MOTION"
    assert first.StudyInstanceUID == second.StudyInstanceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID
    volumes = [read_series(paths).volume for paths in (still, moved)]
    assert volumes[0].origin_mm == volumes[1].origin_mm
    difference = np.abs(volumes[0].voxels - volumes[1].voxels).mean()
    assert difference > 0.02 * volumes[0].voxels.max()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--motion", "lots"), "--motion: found 'lots'; expected one of: none, mild, severe"),
        (("--motion", "mild", "--sequence", "ct"), "--sequence with --motion mild: found 'ct'; expected one of: t1w"),
    ],
)
def test_a_motion_that_makes_no_sense_is_refused_in_words(tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    ran = athanor("phantom", tmp_path / "out", *options)
    assert ran.code == 2
    assert words in ran.err
    assert not (tmp_path / "out").exists()
