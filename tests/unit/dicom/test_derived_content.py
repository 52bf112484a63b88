"""What a derived instance takes over from its source, its values, its names and its bytes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import CREATED, Derive, decoded, source_of
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage, SecondaryCaptureImageStorage

from gateway.dicom.encoding import TRANSFER_SYNTAXES
from gateway.dicom.secondary_capture import DerivedInstance, Encoding, Equipment, Marks
from gateway.dicom.volume import SourceSeries
from gateway.errors import ConfigurationError, UnsuitableSeries
from pipelines.volume import Volume

PLAIN = Encoding(label=False)
TAKEN_OVER = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientWeight", "StudyInstanceUID",
    "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber", "ReferringPhysicianName",
    "SpecificCharacterSet", "TimezoneOffsetFromUTC", "FrameOfReferenceUID", "PositionReferenceIndicator",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices",
    "SliceLocation", "AcquisitionDate", "AcquisitionTime", "AcquisitionNumber", "InstanceNumber",
    "BodyPartExamined", "PatientPosition",
)  # fmt: skip
LEFT_BEHIND = (
    "RepetitionTime", "EchoTime", "InversionTime", "ScanningSequence", "SequenceName", "ProtocolName", "FlipAngle",
    "MagneticFieldStrength", "SmallestImagePixelValue", "LargestImagePixelValue", "PixelPaddingValue",
    "IconImageSequence", "DigitalSignaturesSequence", "MACParametersSequence",
    "PerformedProcedureStepID", "ReferencedPerformedProcedureStepSequence",
)  # fmt: skip


def test_patient_study_and_plane_are_taken_over(mr_derived: list[DerivedInstance], mr_paths: list[Path]) -> None:
    sources = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, mr_paths)}
    assert len(mr_derived) == len(sources)
    for instance in mr_derived:
        ds, source = decoded(instance), sources[instance.source_sop_instance_uid]
        assert {keyword: ds[keyword].value for keyword in TAKEN_OVER} == {
            keyword: source[keyword].value for keyword in TAKEN_OVER
        }


def test_what_describes_the_acquired_pixels_is_left_behind(
    mr_sources: list[Dataset], marks: Marks, derive: Derive, tmp_path: Path
) -> None:
    for ds in mr_sources:
        ds.private_block(0x0019, "ACME", create=True).add_new(1, "LO", "private")
        for keyword in ("SmallestImagePixelValue", "LargestImagePixelValue", "PixelPaddingValue"):
            ds.add_new(keyword, "US", 0)
        ds.add_new(0x60000010, "US", 96)
        ds.IconImageSequence = [Dataset()]
        ds.PerformedProcedureStepID = "1"
        item = Dataset()
        item.private_block(0x0041, "ACME", create=True).add_new(1, "LO", "private")
        item.ScheduledProcedureStepID = "S1"
        ds.RequestAttributesSequence = [item]
    source, _ = source_of(mr_sources, tmp_path)
    ds = decoded(derive(source, source.volume, marks)[0])
    assert not [keyword for keyword in LEFT_BEHIND if keyword in ds]
    assert not [element for element in ds.iterall() if element.tag.is_private or element.tag.group == 0x6000]
    assert ds.RequestAttributesSequence[0].ScheduledProcedureStepID == "S1"


@pytest.mark.parametrize(
    ("character_set", "encoding", "text"),
    [
        (None, "latin-1", "M\u00fcller"),  # undeclared, as many devices send it
        ("ISO_IR 100", "latin-1", "M\u00fcller"),
        ("ISO_IR 192", "latin-1", "M\u00fcller"),  # declared wrongly
        ("ISO_IR 192", "utf-8", "\u8170\u690e"),
        ("ISO_IR 144", "iso8859_5", "\u0418\u0432\u0430\u043d\u043e\u0432"),
        ("ISO_IR 13", "shift_jis", "\uff94\uff8f\uff80\uff9e"),
        ("GB18030", "gb18030", "\u738b\u5c0f\u4e1c"),
        ("ISO_IR 999", "latin-1", "M\u00fcller"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom says that the declared sets are wrong: they are
def test_text_is_taken_over_byte_by_byte(
    mr_sources: list[Dataset],
    marks: Marks,
    derive: Derive,
    tmp_path: Path,
    character_set: str | None,
    encoding: str,
    text: str,
) -> None:
    encoded = text.encode(encoding)
    for ds in mr_sources:
        if character_set is None:
            del ds.SpecificCharacterSet
        else:
            ds.SpecificCharacterSet = character_set
        for keyword in ("PatientID", "StudyDescription", "SeriesDescription"):
            ds[keyword]._value = encoded
    source, _ = source_of(mr_sources, tmp_path)
    part10 = derive(source, source.volume, marks)[0].part10
    ds = pydicom.dcmread(pydicom.filebase.DicomBytesIO(part10))
    padded = encoded + b" " * (len(encoded) % 2)
    for keyword in ("PatientID", "StudyDescription"):
        assert ds.get_item(keyword).value == padded
    assert ds.get("SpecificCharacterSet") == character_set
    assert ds.SeriesDescription.startswith("SYNTH-AI STIR <- ")


def test_names_of_the_gateway_fit_the_source_s_character_set(
    mr_sources: list[Dataset], marks: Marks, derive: Derive, equipment: Equipment, tmp_path: Path
) -> None:
    from gateway.dicom.secondary_capture import derive_series

    here = replace(equipment, institution_name="Universit\u00e4tsklinik \u6771")
    found = {}
    for character_set in ("ISO_IR 6", "ISO_IR 100", "ISO_IR 192"):
        for ds in mr_sources:
            ds.SpecificCharacterSet = character_set
        source, _ = source_of(mr_sources, tmp_path)
        instance = next(
            derive_series(
                source, source.volume, marks, PLAIN, here, uid_root="", revision=1, options_digest="",
                series_number=401, created=CREATED,
            )
        )  # fmt: skip
        found[character_set] = decoded(instance).InstitutionName
    assert found == {
        "ISO_IR 6": "Universitatsklinik",
        "ISO_IR 100": "Universitatsklinik",
        "ISO_IR 192": "Universit\u00e4tsklinik \u6771",
    }


def test_dates_are_in_the_source_s_time_zone(
    mr_sources: list[Dataset], marks: Marks, derive: Derive, tmp_path: Path
) -> None:
    for ds in mr_sources:
        ds.TimezoneOffsetFromUTC = "-0730"
    source, _ = source_of(mr_sources, tmp_path)
    ds = decoded(derive(source, source.volume, marks)[0])
    assert (ds.SeriesDate, ds.SeriesTime, ds.TimezoneOffsetFromUTC) == ("20260404", "223708", "-0730")
    assert ds.ContributingEquipmentSequence[1].ContributionDateTime == "20260404223708-0730"


@pytest.mark.parametrize(("body_part", "expected"), [("HEAD", "YES"), ("LSPINE", "NO"), ("", None)])
def test_recognizable_features_follow_the_body_part(
    mr_sources: list[Dataset], marks: Marks, derive: Derive, tmp_path: Path, body_part: str, expected: str | None
) -> None:
    for ds in mr_sources:
        ds.BodyPartExamined = body_part
    source, _ = source_of(mr_sources, tmp_path)
    assert decoded(derive(source, source.volume, marks)[0]).get("RecognizableVisualFeatures") == expected


def test_once_lossy_always_lossy(mr_sources: list[Dataset], marks: Marks, derive: Derive, tmp_path: Path) -> None:
    for ds in mr_sources:
        ds.LossyImageCompression, ds.LossyImageCompressionRatio = "01", "12.5"
        ds.LossyImageCompressionMethod = "ISO_10918_1"
    source, _ = source_of(mr_sources, tmp_path)
    ds = decoded(derive(source, source.volume, marks)[0])
    assert (ds.LossyImageCompression, ds.LossyImageCompressionMethod) == ("01", "ISO_10918_1")
    assert float(ds.LossyImageCompressionRatio) == 12.5


def test_the_native_object_claims_no_acquisition(
    mr_source: SourceSeries, marks: Marks, ct_source: SourceSeries, ct_marks: Marks, derive: Derive
) -> None:
    mr = decoded(derive(mr_source, mr_source.volume, marks, Encoding(iod="source"))[0])
    assert mr.SOPClassUID == MRImageStorage
    assert mr.ScanningSequence == "SE"  # required to have a value
    assert [mr[keyword].is_empty for keyword in ("EchoTime", "RepetitionTime", "EchoTrainLength")] == [True] * 3
    assert "ConversionType" not in mr
    ct = decoded(derive(ct_source, ct_source.volume, ct_marks, Encoding(iod="source"))[0])
    assert ct.SOPClassUID == CTImageStorage
    assert list(ct.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
    assert ct["KVP"].is_empty


def test_modality_of_the_result_or_other(mr_source: SourceSeries, marks: Marks, derive: Derive) -> None:
    other = decoded(derive(mr_source, mr_source.volume, marks, Encoding(modality="OT"))[0])
    assert (other.Modality, other.SOPClassUID) == ("OT", SecondaryCaptureImageStorage)
    without_unit = replace(marks, modality="CT")
    assert decoded(derive(mr_source, mr_source.volume, without_unit, Encoding(iod="source"))[0]).SOPClassUID == (
        SecondaryCaptureImageStorage
    )
    positron = replace(marks, modality="PT")
    assert decoded(derive(mr_source, mr_source.volume, positron, Encoding(iod="source"))[0]).SOPClassUID == (
        SecondaryCaptureImageStorage
    )


@pytest.mark.parametrize(
    "given",
    [
        {"transfer_syntax_uid": "1.2.840.10008.1.2.4.50"},
        {"iod": "source", "modality": "OT"},
        {"series_prefix": "  "},
        {"series_prefix": "K\u0130"},
    ],
)
def test_encodings_that_cannot_be_written(given: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="expected"):
        Encoding(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["method", "marker", "pipeline_id"])
@pytest.mark.parametrize("text", ["", "pix2pix \u2013 conditional", "a\\b", "a\nb"])
def test_marks_must_fit_every_character_set(marks: Marks, field: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=field):
        replace(marks, **{field: text})


# values


def test_signal_is_stored_in_twelve_bits_and_exactly(
    mr_source: SourceSeries, mr_result: Volume, marks: Marks, derive: Derive
) -> None:
    for index, instance in enumerate(derive(mr_source, mr_result, marks, PLAIN)):
        ds = decoded(instance)
        assert (ds.BitsAllocated, ds.BitsStored, ds.PixelRepresentation) == (16, 12, 0)
        assert not [keyword for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType") if keyword in ds]
        assert np.array_equal(ds.pixel_array, np.rint(mr_result.voxels[index]))
        assert instance.clipped_voxels == 0


def test_the_scale_is_the_model_s_and_not_the_series_s(
    mr_source: SourceSeries, mr_result: Volume, marks: Marks, derive: Derive
) -> None:
    of_one = replace(marks, value_range=(-1.0, 1.0))
    result = mr_source.volume.with_voxels(np.full(mr_source.volume.shape, 0.5, np.float32))
    assert set(decoded(derive(mr_source, result, of_one, PLAIN)[0]).pixel_array.flat) == {round(0.75 * 4095)}


def test_hounsfield_units_survive_unchanged(ct_source: SourceSeries, ct_marks: Marks, derive: Derive) -> None:
    for index, instance in enumerate(derive(ct_source, ct_source.volume, ct_marks, PLAIN)):
        ds = decoded(instance)
        assert (ds.BitsStored, ds.PixelRepresentation, ds.RescaleType) == (13, 1, "HU")
        assert (ds.WindowCenter, ds.WindowWidth) == (300, 1500)
        assert np.array_equal(
            ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept), ct_source.volume.voxels[index]
        )


def test_synthetic_ct_from_mr_has_units_and_a_window_of_its_own(
    mr_source: SourceSeries, ct_marks: Marks, derive: Derive
) -> None:
    hu = mr_source.volume.with_voxels(mr_source.volume.voxels - 1000.0, unit="HU")
    ds = decoded(derive(mr_source, hu, ct_marks, PLAIN)[0])
    assert (ds.Modality, ds.RescaleType, ds.PixelRepresentation, ds.BitsStored) == ("CT", "HU", 1, 16)
    assert (ds.WindowCenter, ds.WindowWidth) == (40, 400)
    assert ds.pixel_array.min() == -1000


def test_values_out_of_range_are_clipped_and_counted(mr_source: SourceSeries, marks: Marks, derive: Derive) -> None:
    voxels = np.full(mr_source.volume.shape, 100.0, np.float32)
    voxels[1, 0, :3] = (-7.0, 5000.0, 4095.4)
    instances = derive(mr_source, mr_source.volume.with_voxels(voxels), marks, PLAIN)
    assert [instance.clipped_voxels for instance in instances] == [0, 2, 0, 0, 0]
    assert list(decoded(instances[1]).pixel_array[0, :3]) == [0, 4095, 4095]


def test_one_window_for_the_whole_series(mr_derived: list[DerivedInstance]) -> None:
    assert len({(decoded(one).WindowCenter, decoded(one).WindowWidth) for one in mr_derived}) == 1


@pytest.mark.parametrize("change", ["shape", "nan", "unit"])
def test_results_that_cannot_be_stored(mr_source: SourceSeries, marks: Marks, derive: Derive, change: str) -> None:
    volume = mr_source.volume
    if change == "shape":
        with pytest.raises(ValueError, match="found shape"):
            derive(mr_source, replace(volume, voxels=volume.voxels[:, :-1]), marks)
    elif change == "nan":
        with pytest.raises(ValueError, match="not finite"):
            derive(mr_source, volume.with_voxels(np.full(volume.shape, np.nan, np.float32)), marks)
    else:
        with pytest.raises(UnsuitableSeries, match="unit"):
            derive(mr_source, replace(volume, unit="ms"), marks)


# names


def test_uids_depend_on_everything_that_shapes_the_series(
    mr_source: SourceSeries, mr_result: Volume, marks: Marks, derive: Derive
) -> None:
    variants = [
        derive(mr_source, mr_result, marks),
        derive(mr_source, mr_result, replace(marks, pipeline_version="1.2.4")),
        derive(mr_source, mr_result, replace(marks, weights_sha256="a0" * 32)),
        derive(mr_source, mr_result, marks, PLAIN),
        derive(mr_source, mr_result, marks, Encoding(transfer_syntax_uid="1.2.840.10008.1.2")),
        derive(mr_source, mr_result, marks, revision=2),
        derive(mr_source, mr_result, marks, options_digest="x"),
        derive(mr_source, mr_result, marks, series_number=402),
        derive(mr_source, mr_result, marks, uid_root="1.2.3.4"),
    ]
    series = [instances[0].series_instance_uid for instances in variants]
    instances = [instance.sop_instance_uid for variant in variants for instance in variant]
    assert len(set(series)) == len(series)
    assert len(set(instances)) == len(instances)
    assert all(uid.startswith("1.2.3.4.") for uid in (series[-1], variants[-1][0].sop_instance_uid))


def test_the_same_input_gives_the_same_bytes(
    mr_source: SourceSeries, mr_result: Volume, marks: Marks, derive: Derive, mr_derived: list[DerivedInstance]
) -> None:
    assert derive(mr_source, mr_result, marks) == mr_derived
    later = derive(mr_source, mr_result, marks, created=CREATED + timedelta(hours=1))
    assert [one.sop_instance_uid for one in later] == [one.sop_instance_uid for one in mr_derived]
    assert later != mr_derived


# bytes


@pytest.mark.parametrize("syntax", TRANSFER_SYNTAXES, ids=lambda uid: uid.name.split(" (")[0])
@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_every_transfer_syntax_is_bit_exact(
    request: pytest.FixtureRequest, syntax: str, modality: str, derive: Derive
) -> None:
    source: SourceSeries = request.getfixturevalue(f"{modality.lower()}_source")
    made_by: Marks = request.getfixturevalue("marks" if modality == "MR" else "ct_marks")
    expected = derive(source, source.volume, made_by, PLAIN)
    found = derive(source, source.volume, made_by, replace(PLAIN, transfer_syntax_uid=syntax))
    for one, other in zip(expected, found, strict=True):
        assert (other.transfer_syntax_uid, decoded(other).file_meta.TransferSyntaxUID) == (syntax, syntax)
        assert np.array_equal(decoded(one).pixel_array, decoded(other).pixel_array)


def test_files_start_with_nothing_and_name_their_writer(mr_derived: list[DerivedInstance]) -> None:
    part10, ds = mr_derived[0].part10, decoded(mr_derived[0])
    assert part10[:132] == bytes(128) + b"DICM"
    assert ds.file_meta.ImplementationClassUID.startswith("2.25.")
    assert ds.file_meta.ImplementationVersionName.startswith("ATHANOR")
    assert ds.file_meta.MediaStorageSOPInstanceUID == mr_derived[0].sop_instance_uid == ds.SOPInstanceUID
