"""The burned-in label: where it stands, what it changes, when there is no room."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from dicom_files import Derive, decoded

from gateway.dicom.label import burn_label
from gateway.dicom.secondary_capture import Encoding, Marks
from gateway.dicom.volume import SourceSeries


def noise(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 1000, (3, rows, columns)).astype(np.uint16)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_it_stands_in_the_emptiest_corner_of_all_slices(row: int, column: int) -> None:
    stored = noise(256, 256)
    quarter = stored[:, row * 128 : row * 128 + 128, column * 128 : column * 128 + 128]
    quarter //= 10
    stored += 1
    before, darkest = stored.copy(), stored.min()
    assert burn_label(stored, 4000)
    letters = (stored == 4000).all(axis=0)
    assert np.array_equal(letters, (stored == 4000).any(axis=0)), "the same letters in every slice"
    changed = (stored != before).any(axis=0)
    rows, columns = np.nonzero(changed)
    assert set(rows // 128) == {row}
    assert set(columns // 128) == {column}
    assert set(np.unique(stored[:, changed])) <= {4000, darkest}


def test_letters_can_be_read_on_bright_anatomy() -> None:
    stored = np.full((2, 256, 256), 3900, np.uint16)
    stored[:, 128, 128] = 7
    assert burn_label(stored, 4000)
    letters = np.argwhere(stored[0] == 4000)
    for row, column in letters:
        around = stored[0, row - 1 : row + 2, column - 1 : column + 2]
        assert set(np.unique(around)) <= {4000, 7}, "no bright pixel touches a letter"


@pytest.mark.parametrize(("size", "height"), [(256, 6), (320, 6), (384, 12), (512, 12), (1024, 24)])
def test_letters_grow_with_the_image(size: int, height: int) -> None:
    stored = np.zeros((1, size, size), np.uint16)
    assert burn_label(stored, 1)
    rows, columns = np.nonzero(stored[0])
    assert np.ptp(rows) + 1 == height
    assert size // 7 < np.ptp(columns) + 1 < size // 3
    assert min(rows.min(), columns.min(), size - 1 - rows.max(), size - 1 - columns.max()) == 4


@pytest.mark.parametrize("shape", [(96, 128), (64, 48), (40, 40)])
def test_small_images_have_short_labels(shape: tuple[int, int]) -> None:
    stored = np.zeros((2, *shape), np.uint16)
    assert burn_label(stored, 1)
    assert np.ptp(np.nonzero(stored[0])[1]) + 1 <= shape[1] / 2


def test_an_image_without_room_stays_as_it_is() -> None:
    stored = np.zeros((2, 16, 16), np.uint16)
    assert not burn_label(stored, 1)
    assert not stored.any()


def test_negative_values_of_air_are_the_least_signal() -> None:
    stored = np.full((2, 256, 256), 50, np.int16)
    stored[:, 200:, 150:] = -1000
    assert burn_label(stored, 300)
    assert (stored[:, 200:, 150:] == 300).any()


def test_burned_in_annotation_tells_the_truth(
    mr_source: SourceSeries, ct_source: SourceSeries, marks: Marks, ct_marks: Marks, derive: Derive
) -> None:
    for source, made_by in ((mr_source, marks), (ct_source, ct_marks)):
        plain = [decoded(one) for one in derive(source, source.volume, made_by, Encoding(label=False))]
        labelled = [decoded(one) for one in derive(source, source.volume, made_by, Encoding(label=True))]
        assert {ds.BurnedInAnnotation for ds in plain} == {"NO"}
        assert {ds.BurnedInAnnotation for ds in labelled} == {"YES"}
        top = float(labelled[0].WindowCenter) + float(labelled[0].WindowWidth) / 2
        for before, after in zip(plain, labelled, strict=True):
            changed = after.pixel_array[before.pixel_array != after.pixel_array]
            slope, intercept = float(after.get("RescaleSlope", 1)), float(after.get("RescaleIntercept", 0))
            darkest = float(before.pixel_array.min()) * slope + intercept
            assert np.floor(top) in set(changed * slope + intercept) <= {np.floor(top), darkest}


def test_a_label_of_the_source_is_still_there(mr_source: SourceSeries, marks: Marks, derive: Derive) -> None:
    for frame in mr_source.frames:
        frame.ds.BurnedInAnnotation = "YES"
    try:
        ds = decoded(derive(mr_source, mr_source.volume, replace(marks), Encoding(label=False))[0])
    finally:
        for frame in mr_source.frames:
            del frame.ds.BurnedInAnnotation
    assert ds.BurnedInAnnotation == "YES"
