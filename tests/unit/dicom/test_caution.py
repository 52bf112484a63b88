"""A known weakness of a model stands in every object that it makes, where viewers show it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from dicom_files import Derive, decoded

from gateway.dicom.provenance import marks_of
from gateway.dicom.secondary_capture import Encoding, Marks
from gateway.dicom.volume import SourceSeries
from gateway.errors import ConfigurationError
from gateway.settings import Settings
from pipelines.catalog import Catalog


def test_the_caution_is_in_the_comments_of_every_instance(
    mr_source: SourceSeries, marks: Marks, derive: Derive
) -> None:
    careful = replace(marks, caution="Hides marrow oedema.")
    made = [decoded(one) for one in derive(mr_source, mr_source.volume, careful, Encoding())]
    assert made
    for ds in made:
        assert ds.ImageComments.startswith("AI-generated (synthetic).")
        assert ds.ImageComments.endswith("CAUTION: Hides marrow oedema.")


def test_what_ships_says_what_it_hides() -> None:
    marks = marks_of(Catalog.read(Settings().models_dir)["t2-to-stir"])
    assert "oedema" in marks.caution


def test_a_caution_that_a_character_set_may_not_hold_is_refused(marks: Marks) -> None:
    with pytest.raises(ConfigurationError, match="caution"):
        replace(marks, caution="œdème")
