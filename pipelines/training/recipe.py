"""A training recipe: one TOML file per pipeline that names every number of its training."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

RECIPES = Path(__file__).parent / "recipes"
RELEASED = Path(__file__).parents[2] / "weights"


@dataclass(frozen=True, slots=True)
class Contrasts:
    """What goes in, one channel each in this order, and what comes out: names of `phantoms.sequences.DRAWN`.

    Of a recipe of the kind radiograph, what goes in is one and called X-ray.
    """

    sources: tuple[str, ...]
    target: str


@dataclass(frozen=True, slots=True)
class NetworkSizes:
    """The generator's registered name and its sizes, and the discriminator's.

    `start` is a released pipeline of the same architecture whose weights training begins with, where its one source is
    the last of these; empty starts from noise.
    """

    architecture: str
    ngf: int
    downs: int
    ndf: int
    layers: int
    start: str


@dataclass(frozen=True, slots=True)
class CycleSizes:
    """Channels of both generators and their depth: blocks of a resnet, halvings of a unet; and the discriminators'.

    `start` is a released pipeline of the same architecture whose weights training begins with; empty starts from noise.
    """

    architecture: str
    ngf: int
    depth: int
    ndf: int
    layers: int
    start: str


@dataclass(frozen=True, slots=True)
class DenoiserSizes:
    """Channels and layers of the denoiser, and the channels of the critic's first layer."""

    architecture: str
    width: int
    depth: int
    ndf: int


@dataclass(frozen=True, slots=True)
class ResidualSizes:
    """Channels and residual blocks of the generator, and the channels of the discriminator's first layer."""

    architecture: str
    width: int
    blocks: int
    ndf: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """Optimiser and duration; from step `decay_from` the learning rate falls on a line to zero at `steps`."""

    steps: int
    decay_from: int
    batch: int
    learning_rate: float
    betas: tuple[float, float]
    ema: float
    validate_every: int


@dataclass(frozen=True, slots=True)
class TranslationSchedule(Schedule):
    """The weights of the two terms of pix2pix; in L1 a pixel of a lesion counts `lesion_weight` times.

    With another weight than 1 the last averaged generator is kept, otherwise the best on validation patients.
    """

    gan_weight: float
    l1_weight: float
    lesion_weight: float


@dataclass(frozen=True, slots=True)
class CycleSchedule(Schedule):
    """Weights of the terms of CycleGAN, and the share of the steps that see a pair, with L1 and L2 in their place."""

    paired_share: float
    gan_weight: float
    cycle_weight: float
    identity_share: float  # of the weight of the cycle
    structure_weight: float
    l1_weight: float
    l2_weight: float


@dataclass(frozen=True, slots=True)
class LateAdversarySchedule(Schedule):
    """Pixels and their differences alone until `adversarial_from`, then with a discriminator."""

    adversarial_from: int
    pixel_weight: float
    edge_weight: float
    gan_weight: float


@dataclass(frozen=True, slots=True)
class DenoiseSchedule(LateAdversarySchedule):
    """The discriminator is a critic that learns `critic_steps` times a step, and whose features are compared too."""

    critic_steps: int
    gradient_penalty: float
    feature_weight: float


@dataclass(frozen=True, slots=True)
class PatientSets:
    """Seeds of the virtual patients: training, validation and test never share one."""

    train_first_seed: int
    train_patients: int
    validation_first_seed: int
    validation_patients: int
    test_first_seed: int
    test_patients: int


@dataclass(frozen=True, slots=True)
class PhantomSets(PatientSets):
    """Slices of the lumbar spine."""

    train_slices: int  # from each patient
    lesion_rate: float  # in training; 1 in the other sets
    crop: int  # pixels, a multiple of 2 ** downs


@dataclass(frozen=True, slots=True)
class FineSets(PatientSets):
    """Slices of the lumbar spine, and how they are acquired before they are made coarse.

    `coverage` is the share of k-space of what a scanner draws elsewhere: a fine matrix is mostly interpolated.
    """

    train_slices: int  # from each patient
    matrix: int  # of the fine slice
    patch: int  # fine pixels
    margin: int  # fine pixels along the rim of a patch that no loss looks at
    coverage: float


@dataclass(frozen=True, slots=True)
class BodySets(PatientSets):
    """Slices of the trunk, and how they are scanned.

    `doses` are shares of a routine scan, drawn evenly in their logarithm; `cutoffs_per_mm` those of the kernels.
    """

    test_size: int  # pixels of a measured slice, a part of the field of view
    bench_scans: int  # of the bench phantom
    patch: int
    margin: int  # pixels along the rim of a patch that no loss looks at
    doses: tuple[float, float]
    cutoffs_per_mm: tuple[float, float]
    pixel_spacing_mm: tuple[float, float]


@dataclass(frozen=True, slots=True)
class VolumeSets(PatientSets):
    """Volumes of the trunk, and how they are scanned.

    `thickness_mm` is that of a thin slice; `doses` are those of the thick ones, as shares of a routine scan.
    """

    test_size: int  # pixels of a measured slice, a part of the field of view
    thick_slices: int
    stored: int  # pixels of a slice in training
    patch: int
    margin: int  # pixels along the rim of a patch that no loss looks at
    doses: tuple[float, float]
    cutoffs_per_mm: tuple[float, float]
    pixel_spacing_mm: tuple[float, float]
    thickness_mm: tuple[float, float]


@dataclass(frozen=True, slots=True)
class IntensityScales:
    """Percentiles that scale a source series, and two marks of the result's scale.

    `reference` is the intensity of the brighter of CSF and fat at the canal, `full_scale` that of 1.
    """

    percentiles: tuple[float, float]
    reference: float
    full_scale: float
    jitter: float  # relative SD of the source scale in training


@dataclass(frozen=True, slots=True)
class CtScales:
    """Percentiles that scale a source series, the HU that become -1 and 1, and the noise of a CT in training."""

    percentiles: tuple[float, float]
    jitter: float  # relative SD of the source scale in training
    hu: tuple[float, float]
    noise_hu: tuple[float, float]  # its SD is drawn from here


@dataclass(frozen=True, slots=True)
class SeriesScale:
    """Percentiles that scale a slice, and the relative SD of that scale in training."""

    percentiles: tuple[float, float]
    jitter: float


@dataclass(frozen=True, slots=True)
class HounsfieldScale:
    """What becomes -1 and 1."""

    hu: tuple[float, float]


@dataclass(frozen=True, slots=True)
class BaseRecipe:
    """What every recipe begins with; `id` is that of the pipeline."""

    id: str
    version: str
    kind: str
    seed: int


@dataclass(frozen=True, slots=True)
class TranslationRecipe(BaseRecipe):
    """Everything that a training run of one contrast from others depends on."""

    contrasts: Contrasts
    networks: NetworkSizes
    schedule: TranslationSchedule
    phantoms: PhantomSets
    intensity: IntensityScales


@dataclass(frozen=True, slots=True)
class CycleRecipe(BaseRecipe):
    """Everything that a training run of a CT from an MR contrast depends on."""

    contrasts: Contrasts
    networks: CycleSizes
    schedule: CycleSchedule
    phantoms: PhantomSets
    intensity: CtScales


@dataclass(frozen=True, slots=True)
class DenoiseRecipe(BaseRecipe):
    """Everything that a training run of a CT denoiser depends on."""

    networks: DenoiserSizes
    schedule: DenoiseSchedule
    phantoms: BodySets
    intensity: HounsfieldScale


@dataclass(frozen=True, slots=True)
class ThinSliceRecipe(BaseRecipe):
    """Everything that a training run of thin slices from thick ones depends on."""

    networks: ResidualSizes
    schedule: LateAdversarySchedule
    phantoms: VolumeSets
    intensity: HounsfieldScale


@dataclass(frozen=True, slots=True)
class SuperResolutionRecipe(BaseRecipe):
    """Everything that a training run of finer rows and columns depends on."""

    networks: ResidualSizes
    schedule: LateAdversarySchedule
    phantoms: FineSets
    intensity: SeriesScale


Recipe = TranslationRecipe | CycleRecipe | DenoiseRecipe | ThinSliceRecipe | SuperResolutionRecipe
_RECIPES: dict[str, type[Recipe]] = {
    "translate": TranslationRecipe,
    "radiograph": TranslationRecipe,
    "cycle": CycleRecipe,
    "denoise": DenoiseRecipe,
    "thin-slice": ThinSliceRecipe,
    "super-resolve": SuperResolutionRecipe,
}


def read_recipe(path: Path) -> Recipe:
    """The recipe in the TOML file `path`; raises ValueError that names a missing or unknown key."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    if table.get("kind") not in _RECIPES:
        raise ValueError(f"{path.name}: kind: found {table.get('kind')!r}, expected one of {', '.join(_RECIPES)}")
    recipe: Recipe = _build(_RECIPES[table["kind"]], table, f"{path.name}: ")
    return recipe


def _build(whole: Any, table: dict[str, Any], where: str) -> Any:
    """An instance of the dataclass `whole`; fields that are dataclasses themselves are built of the tables inside."""
    expected = get_type_hints(whole)
    for name in sorted(expected.keys() ^ table.keys()):
        raise ValueError(
            f"{where}{name}: {'missing' if name in expected else 'unknown key'}, expected {sorted(expected)}"
        )
    values = dict(table)
    for name, value in table.items():
        if is_dataclass(expected[name]):
            values[name] = _build(expected[name], value, f"{where}{name}.")
        elif isinstance(value, list):
            values[name] = tuple(value)
    return whole(**values)
