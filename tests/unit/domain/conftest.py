"""Rules, conditions and the series they are asked about."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.domain.conditions import AssociationFacts, Lookup, Values

# what a scanner writes into a sagittal T2-weighted turbo spin echo of the lumbar spine
SAGITTAL_T2W: dict[str, Values] = {
    "Modality": ("MR",),
    "ImageType": ("ORIGINAL", "PRIMARY", "M", "ND"),
    "ScanningSequence": ("SE",),
    "SequenceVariant": ("SK", "SP", "OSP"),
    "RepetitionTime": (3500.0,),
    "EchoTime": (102.0,),
    "SeriesDescription": ("t2_tse_sag_384",),
    "ProtocolName": ("t2_tse_sag",),
    "BodyPartExamined": ("LSPINE",),
    "ScanOptions": ("PFP", "SFS"),
    "ContrastBolusAgent": (),
    "PatientName": ("DOE^JANE",),
    "(0019,10AB)": ("1.5",),
}


@pytest.fixture
def association() -> AssociationFacts:
    return AssociationFacts("MR1", "ATHANOR", "10.20.30.40")


@pytest.fixture
def sagittal_t2w() -> dict[str, Values]:
    return dict(SAGITTAL_T2W)


@pytest.fixture
def lookup() -> Lookup:
    found: Callable[[str], Values | None] = SAGITTAL_T2W.get
    return found
