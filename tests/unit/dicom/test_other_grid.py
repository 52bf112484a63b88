"""Results on another grid than their source: finer rows and columns, more slices, the same places in the patient."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import Derive, decoded, iod_complaints, run, source_of, written
from pydicom.dataset import Dataset

from gateway.dicom.secondary_capture import Encoding, Marks
from gateway.dicom.volume import SourceSeries, read_series
from pipelines.volume import Volume

PLAIN = Encoding(label=False)


def finer(volume: Volume, factors: tuple[int, int, int]) -> Volume:
    """Each voxel as a block of equal ones, edge on edge."""
    voxels = volume.voxels
    for axis, factor in enumerate(factors):
        voxels = np.repeat(voxels, factor, axis=axis)
    spacing = np.asarray(volume.spacing_mm) / factors
    origin = np.asarray(volume.origin_mm) + volume.direction @ (0.5 * (spacing - volume.spacing_mm))
    return replace(volume, voxels=voxels, spacing_mm=tuple(spacing.tolist()), origin_mm=tuple(origin.tolist()))


def test_finer_rows_and_columns_in_the_planes_of_the_source(
    mr_source: SourceSeries, marks: Marks, derive: Derive, tmp_path: Path
) -> None:
    fine = finer(mr_source.volume, (1, 4, 4))
    instances = derive(mr_source, fine, marks, PLAIN)
    for instance, frame in zip(instances, mr_source.frames, strict=True):
        ds = decoded(instance)
        assert (ds.Rows, ds.Columns) == (384, 512)
        assert list(ds.PixelSpacing) == [0.1875, 0.203125]
        for keyword in ("SliceThickness", "SpacingBetweenSlices", "SliceLocation", "InstanceNumber"):
            assert ds[keyword].value == frame.ds[keyword].value
        (image,) = ds.SourceImageSequence
        assert image.ReferencedSOPInstanceUID == instance.source_sop_instance_uid == frame.sop_instance_uid
        assert image.SpatialLocationsPreserved == "NO"
        assert [item.CodeValue for item in ds.DerivationCodeSequence] == ["SYN-IMG", "113085"]
    back = read_series(written(instances, tmp_path)).volume
    assert back.origin_mm == pytest.approx(fine.origin_mm, abs=1e-4)
    assert back.spacing_mm == pytest.approx(fine.spacing_mm, abs=1e-6)
    assert np.array_equal(back.voxels, np.rint(fine.voxels))


def test_more_slices_name_those_between_which_they_lie(
    ct_source: SourceSeries, ct_marks: Marks, derive: Derive, tmp_path: Path
) -> None:
    thin = finer(ct_source.volume, (5, 1, 1))
    instances = derive(ct_source, thin, ct_marks, PLAIN)
    assert len({one.sop_instance_uid for one in instances}) == len(instances) == 25
    uids = [frame.sop_instance_uid for frame in ct_source.frames]
    named = [[item.ReferencedSOPInstanceUID for item in decoded(one).SourceImageSequence] for one in instances]
    # two of five before the centre of the first slice, one at it, then between it and the next
    assert named[:6] == [uids[:1]] * 3 + [uids[:2]] * 2 + [uids[1::-1]]
    assert [one.source_sop_instance_uid for one in instances] == np.repeat(uids, 5).tolist()
    ds = decoded(instances[3])
    assert (float(ds.SliceThickness), float(ds.SpacingBetweenSlices)) == pytest.approx((0.88, 0.88))
    assert "SliceLocation" not in ds
    assert ds.PixelSpacing == ct_source.frames[0].ds.PixelSpacing
    (series,) = ds.ReferencedSeriesSequence
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence] == uids[:2]
    back = read_series(written(instances, tmp_path)).volume
    assert back.spacing_mm == pytest.approx(thin.spacing_mm, abs=1e-4)
    assert back.origin_mm == pytest.approx(thin.origin_mm, abs=1e-4)
    assert np.array_equal(back.voxels, thin.voxels)


def test_more_slices_are_numbered_the_way_the_source_scrolls(
    mr_sources: list[Dataset], marks: Marks, derive: Derive, tmp_path: Path
) -> None:
    rising, _ = source_of(mr_sources, tmp_path)
    for ds in mr_sources:
        ds.InstanceNumber = 100 - ds.InstanceNumber
    falling, _ = source_of(mr_sources, tmp_path)
    ways = []
    for source in (rising, falling):
        thin = finer(source.volume, (2, 1, 1))
        ways.append([one.instance_number for one in derive(source, thin, marks, PLAIN)])
    assert sorted(ways) == [list(range(1, 11)), list(range(10, 0, -1))]


def test_the_grid_is_part_of_the_names(mr_source: SourceSeries, marks: Marks, derive: Derive) -> None:
    grids = [finer(mr_source.volume, factors) for factors in ((1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 1, 1), (5, 1, 1))]
    made = [derive(mr_source, grid, marks, PLAIN) for grid in grids]
    assert len({one[0].series_instance_uid for one in made}) == len(grids)
    uids = [instance.sop_instance_uid for one in made for instance in one]
    assert len(set(uids)) == len(uids)
    assert made[3] == derive(mr_source, grids[3], marks, PLAIN)


@pytest.mark.parametrize("factors", [(1, 4, 4), (5, 1, 1)])
@pytest.mark.parametrize("iod", ["secondary-capture", "source"])
@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_validators_find_no_error(
    request: pytest.FixtureRequest, factors: tuple[int, int, int], iod: str, modality: str, derive: Derive,
    tmp_path: Path,
) -> None:  # fmt: skip
    sources: list[Path] = request.getfixturevalue(f"{modality.lower()}_paths")
    source: SourceSeries = request.getfixturevalue(f"{modality.lower()}_source")
    made_by: Marks = request.getfixturevalue("marks" if modality == "MR" else "ct_marks")
    paths = written(derive(source, finer(source.volume, factors), made_by, Encoding(iod=iod)), tmp_path)  # type: ignore[arg-type]
    assert iod_complaints(paths[3]) == set()
    assert run("dcentvfy", *sources, *paths).stderr == ""
    assert pydicom.dcmread(paths[0]).BurnedInAnnotation == "YES"


@pytest.mark.parametrize("change", ["beyond", "short", "turned", "shifted"])
def test_results_elsewhere_are_refused(mr_source: SourceSeries, marks: Marks, derive: Derive, change: str) -> None:
    fine = finer(mr_source.volume, (1, 2, 2))
    x, y, z = fine.origin_mm
    elsewhere = {
        "beyond": replace(fine, spacing_mm=(4.4, 0.4, 0.5)),
        "short": replace(fine, voxels=fine.voxels[:, :-4]),
        "turned": replace(fine, direction=fine.direction[:, [0, 2, 1]]),
        "shifted": replace(fine, origin_mm=(x, y, z + 1.0)),
    }
    with pytest.raises(ValueError, match=r"result: found (shape|another orientation)"):
        derive(mr_source, elsewhere[change], marks)
