"""What a released model is and what it takes, read from ``weights/<id>/manifest.toml`` without loading torch.

A pipeline is a manifest plus a kind: a folder under ``weights/`` adds a model, and no code does. A complete
manifest, where every key that is not marked optional is required and an unknown key is refused::

    schema = 1
    id = "t2-to-stir"                    # also the folder's name
    version = "1.0.0"
    kind = "translate"                   # pipelines/kinds/<kind>.py; KINDS below names them
    title = "Sagittal T2W spine to STIR"
    summary = "One sentence for lists."
    method = "pix2pix conditional GAN"
    licence = "MIT"
    intended_use = "Research and education; not for diagnosis."
    caution = "Fat and fluid ..."        # optional: a known weakness, reported as a flag with every result
    enabled = true

    [[inputs]]                           # one per channel of the generator, in the order of the channels
    role = "T2W"
    modality = "MR"
    grid = true                          # optional: the result lies on this input's grid; default the first input
    sop_classes = ["1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"]  # optional: empty takes all
    planes = ["sagittal"]                # optional: sagittal, coronal, axial, oblique; empty takes all
                                         # of radiographs: lateral, frontal, projection (no known view)
    body_parts = ["SPINE", "LSPINE"]     # optional: corroborates; a series that names none is taken
    refused_image_types = ["PHASE MAP"]  # optional: values of Image Type
    scanning_sequences = ["SE", "RM"]    # optional: at least one of them must be present
    inversion = "refused"                # optional: refused | accepted | required; default accepted
    fat_suppression = "refused"          # optional, same
    contrast_agent = "refused"           # optional, same
    may_be_missing = ["age_years"]       # optional: quantities below that the headers may lack

    [inputs.ranges]                      # each optional, [lowest, highest], both included
    tr_ms = [1800, 12000]
    te_ms = [70, 160]
    ti_ms = [130, 180]
    slices = [1, 64]
    matrix = [128, 1024]                 # rows and columns
    pixel_spacing_mm = [0.3, 1.6]        # between rows and between columns
    slice_spacing_mm = [1.0, 8.0]
    slice_gap_mm = [-0.3, 0.3]           # spacing less thickness; below 0 slices overlap
    field_of_view_mm = [150, 500]        # rows and columns times their spacing
    age_years = [18, 120]

    [inputs.description]                 # optional: Series Description may only contradict
    confirms = ["T2"]
    contradicts = ["STIR", "TIRM", "FLAIR", "FS"]
    contradicts_unless_confirmed = ["T1", "PD"]   # "C7-T1" beside "T2" is a vertebra

    [geometry]
    pixel_spacing_mm = 0.9375            # in-plane spacing of the training slices
    tolerance = 0.1                      # fraction of it that needs no resampling
    multiple = 64                        # slices are padded to multiples of this

    [intensity]
    percentiles = [0.5, 99.5]            # of the series, taken to [-1, 1]; translate needs it
    # window = [-160, 240]               # translate: these values instead, the same for every series
    # hu = [-1024, 3071]                 # the same for every series; the kinds for CT need it instead

    [output]
    contrast = "STIR"
    modality = "MR"
    unit = "1"                           # HU, ms or 1
    marker = "STIR"                      # for Series Description and the burned-in label, 16 characters
    range = [0, 4095]                    # what -1 and 1 become, in `unit`

    [generator]
    architecture = "unet"                # a name in pipelines.networks.GENERATORS, or onnx
    file = "generator.safetensors"
    sha256 = "64 hexadecimal digits"

    [generator.parameters]               # arguments of the architecture
    in_channels = 1
    out_channels = 1
    ngf = 16
    downs = 6
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.contract import QUANTITIES, DescriptionWords, InputContract, Presence, Range, SeriesFacts, Violation
from pipelines.errors import ManifestError
from pipelines.manifest import Table

__all__ = [
    "PROJECTIONS",
    "GeneratorSpec",
    "GeometrySpec",
    "InputContract",
    "IntensitySpec",
    "OutputSpec",
    "PipelineSpec",
    "SeriesFacts",
    "Violation",
    "read_manifest",
]

MANIFEST = "manifest.toml"
SCHEMA = 1
KINDS = {  # and the key of [intensity] that each needs
    "translate": "percentiles",
    "denoise": "hu",
    "thin-slice": "hu",
    "super-resolve": "percentiles",
}
UNITS = ("HU", "ms", "1")
PROJECTIONS = ("lateral", "frontal", "projection")  # views of a radiograph; the last where headers do not say which
PLANES = ("sagittal", "coronal", "axial", "oblique", *PROJECTIONS)

_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_VERSION = re.compile(r"\d+\.\d+\.\d+([-+][0-9A-Za-z.-]+)?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_WEIGHTS_FILE = re.compile(r"[A-Za-z0-9_-]+\.(safetensors|onnx)")
_MARKER = re.compile(r"[ -~]{1,16}")

Parameter = int | float | bool | str


@dataclass(frozen=True, slots=True)
class GeometrySpec:
    """The grid on which the generator was trained; see `pipelines.geometry`."""

    pixel_spacing_mm: float
    tolerance: float
    multiple: int


@dataclass(frozen=True, slots=True)
class IntensitySpec:
    """What becomes -1 and 1: these percentiles of each series, or these two values; see `pipelines.intensity`.

    `window` holds the two values of a translation that does not scale each series by itself.
    """

    percentiles: tuple[float, float] = (0.5, 99.5)
    hu: tuple[float, float] = (-1024.0, 3071.0)
    window: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """What comes out: `range` is what -1 and 1 of the generator become, in `unit`."""

    contrast: str
    modality: str
    unit: str
    marker: str
    range: tuple[float, float]


@dataclass(frozen=True, slots=True)
class GeneratorSpec:
    """Which network, and the file that must hold exactly its weights."""

    architecture: str
    file: str
    sha256: str
    parameters: Mapping[str, Parameter]


@dataclass(frozen=True, slots=True)
class PipelineSpec:
    """One released model; `path` is its folder."""

    id: str
    version: str
    kind: str
    title: str
    summary: str
    method: str
    licence: str
    intended_use: str
    caution: str
    enabled: bool
    inputs: tuple[InputContract, ...]
    geometry: GeometrySpec
    intensity: IntensitySpec
    output: OutputSpec
    generator: GeneratorSpec
    path: Path

    @property
    def weights_path(self) -> Path:
        """The generator's weights file."""
        return self.path / self.generator.file

    @property
    def grid_role(self) -> str:
        """The role on whose grid the result lies; the other inputs are brought to it."""
        return next((one.role for one in self.inputs if one.grid), self.inputs[0].role)

    def input(self, role: str) -> InputContract:
        """The contract of `role`; raises KeyError for a role that this pipeline does not have."""
        for contract in self.inputs:
            if contract.role == role:
                return contract
        raise KeyError(role)


def read_manifest(folder: Path) -> PipelineSpec:
    """The model in `folder`; raises ManifestError with the key, what was found and what was expected."""
    path = folder / MANIFEST
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise ManifestError(
            f"{path}: cannot be read ({error.strerror}); expected a manifest in every folder"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: not TOML ({error})") from error
    root = Table(content, path)
    root.choice("schema", (SCHEMA,))
    spec = PipelineSpec(
        id=root.matching("id", _ID, "lower-case words joined by hyphens"),
        version=root.matching("version", _VERSION, "major.minor.patch"),
        kind=root.choice("kind", tuple(KINDS)),
        title=root.text("title"),
        summary=root.text("summary"),
        method=root.text("method"),
        licence=root.text("licence"),
        intended_use=root.text("intended_use"),
        caution=root.text("caution", default=""),
        enabled=root.flag("enabled"),
        inputs=tuple(_input(table) for table in root.tables("inputs")),
        geometry=_geometry(root.table("geometry")),
        intensity=_intensity(root.table("intensity"), KINDS[root.choice("kind", tuple(KINDS))]),
        output=_output(root.table("output")),
        generator=_generator(root.table("generator")),
        path=folder,
    )
    root.refuse_unknown()
    if spec.id != folder.resolve().name:
        raise ManifestError(f"{path}: id: found {spec.id!r}, expected the folder's name {folder.resolve().name!r}")
    roles = [contract.role for contract in spec.inputs]
    if len(set(roles)) != len(roles):
        raise ManifestError(f"{path}: inputs: found roles {roles}, expected each role once")
    if sum(contract.grid for contract in spec.inputs) > 1:
        raise ManifestError(f"{path}: inputs: found several with grid = true, expected one at most")
    return spec


def _input(table: Table) -> InputContract:
    ranges, description = table.table("ranges", optional=True), table.table("description", optional=True)
    contract = InputContract(
        role=table.text("role"),
        modality=table.text("modality"),
        sop_classes=table.texts("sop_classes"),
        planes=table.choices("planes", PLANES),
        body_parts=table.texts("body_parts"),
        refused_image_types=table.texts("refused_image_types"),
        scanning_sequences=table.texts("scanning_sequences"),
        inversion=Presence(table.choice("inversion", tuple(Presence), default=Presence.ACCEPTED)),
        fat_suppression=Presence(table.choice("fat_suppression", tuple(Presence), default=Presence.ACCEPTED)),
        contrast_agent=Presence(table.choice("contrast_agent", tuple(Presence), default=Presence.ACCEPTED)),
        may_be_missing=frozenset(table.choices("may_be_missing", tuple(QUANTITIES))),
        ranges={name: Range(*ranges.pair(name)) for name in QUANTITIES if name in ranges},
        description=DescriptionWords(
            confirms=description.texts("confirms"),
            contradicts=description.texts("contradicts"),
            contradicts_unless_confirmed=description.texts("contradicts_unless_confirmed"),
        ),
        grid=table.flag("grid", default=False),
    )
    for each in (ranges, description, table):
        each.refuse_unknown()
    return contract


def _geometry(table: Table) -> GeometrySpec:
    spec = GeometrySpec(
        pixel_spacing_mm=table.number("pixel_spacing_mm", above=0.0),
        tolerance=table.number("tolerance", at_least=0.0),
        multiple=table.integer("multiple", at_least=1),
    )
    table.refuse_unknown()
    return spec


def _intensity(table: Table, key: str) -> IntensitySpec:
    if key == "percentiles" and key not in table and "window" in table:
        key = "window"
    low, high = table.pair(key)
    if low >= high or (key == "percentiles" and not (low >= 0.0 and high <= 100.0)):
        table.refuse(key, [low, high], "0 <= low < high <= 100" if key == "percentiles" else "low < high")
    table.refuse_unknown()
    if key == "window":
        return IntensitySpec(window=(low, high))
    return IntensitySpec(percentiles=(low, high)) if key == "percentiles" else IntensitySpec(hu=(low, high))


def _output(table: Table) -> OutputSpec:
    spec = OutputSpec(
        contrast=table.text("contrast"),
        modality=table.text("modality"),
        unit=table.choice("unit", UNITS),
        marker=table.matching("marker", _MARKER, "1 to 16 printable ASCII characters"),
        range=table.pair("range"),
    )
    if spec.range[0] >= spec.range[1]:
        table.refuse("range", list(spec.range), "[low, high] with low < high")
    table.refuse_unknown()
    return spec


def _generator(table: Table) -> GeneratorSpec:
    parameters = table.table("parameters", optional=True)
    spec = GeneratorSpec(
        architecture=table.text("architecture"),
        file=table.matching("file", _WEIGHTS_FILE, "a .safetensors or .onnx file beside the manifest"),
        sha256=table.matching("sha256", _SHA256, "64 lower-case hexadecimal digits"),
        parameters=parameters.scalars(),
    )
    table.refuse_unknown()
    return spec
