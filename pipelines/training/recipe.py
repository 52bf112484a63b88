"""A training recipe: one TOML file per pipeline that names every number of its training."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

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
    """The weights of the two terms of pix2pix; in L1 a pixel of a lesion counts `lesion_weight` times."""

    gan_weight: float
    l1_weight: float
    lesion_weight: float


@dataclass(frozen=True, slots=True)
class DenoiseSchedule(Schedule):
    """Supervised alone until `adversarial_from`, then with a critic that learns `critic_steps` times a step."""

    adversarial_from: int
    critic_steps: int
    gradient_penalty: float
    pixel_weight: float
    edge_weight: float
    feature_weight: float
    gan_weight: float


@dataclass(frozen=True, slots=True)
class PhantomSets:
    """Seeds of the virtual patients: training, validation and test never share one."""

    train_first_seed: int
    train_patients: int
    train_slices: int  # from each patient
    validation_first_seed: int
    validation_patients: int
    test_first_seed: int
    test_patients: int
    lesion_rate: float  # in training; 1 in the other sets
    crop: int  # pixels, a multiple of 2 ** downs


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
class DenoiserSizes:
    """Channels and layers of the denoiser, and the channels of the critic's first layer."""

    architecture: str
    width: int
    depth: int
    ndf: int


@dataclass(frozen=True, slots=True)
class BodySets:
    """Seeds of the virtual patients as above, and how their slices are scanned.

    `doses` are shares of a routine scan, drawn evenly in their logarithm; `cutoffs_per_mm` those of the kernels.
    """

    train_first_seed: int
    train_patients: int
    validation_first_seed: int
    validation_patients: int
    test_first_seed: int
    test_patients: int
    test_size: int  # pixels of a measured slice, a part of the field of view
    bench_scans: int  # of the bench phantom
    patch: int
    margin: int  # pixels along the rim of a patch that no loss looks at
    doses: tuple[float, float]
    cutoffs_per_mm: tuple[float, float]
    pixel_spacing_mm: tuple[float, float]


@dataclass(frozen=True, slots=True)
class HounsfieldScale:
    """What becomes -1 and 1."""

    hu: tuple[float, float]


@dataclass(frozen=True, slots=True)
class ThinSliceSchedule(Schedule):
    """Pixels and their differences along z alone until `adversarial_from`, then with a discriminator."""

    adversarial_from: int
    pixel_weight: float
    edge_weight: float
    gan_weight: float


@dataclass(frozen=True, slots=True)
class ThinSliceSizes:
    """Channels and residual blocks of the generator, and the channels of the discriminator's first layer."""

    architecture: str
    width: int
    blocks: int
    ndf: int


@dataclass(frozen=True, slots=True)
class VolumeSets:
    """Seeds of the virtual patients as above, and how their volumes are scanned.

    `thickness_mm` is that of a thin slice; `doses` are those of the thick ones, as shares of a routine scan.
    """

    train_first_seed: int
    train_patients: int
    validation_first_seed: int
    validation_patients: int
    test_first_seed: int
    test_patients: int
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
class CtScales:
    """Percentiles that scale a source series, the HU that become -1 and 1, and the noise of a CT in training."""

    percentiles: tuple[float, float]
    jitter: float  # relative SD of the source scale in training
    hu: tuple[float, float]
    noise_hu: tuple[float, float]  # its SD is drawn from here


@dataclass(frozen=True, slots=True)
class CycleRecipe:
    """Everything that a training run of a CT from an MR contrast depends on."""

    id: str
    version: str
    kind: str
    seed: int
    contrasts: Contrasts
    networks: CycleSizes
    schedule: CycleSchedule
    phantoms: PhantomSets
    intensity: CtScales


@dataclass(frozen=True, slots=True)
class TranslationRecipe:
    """Everything that a training run of one contrast from others depends on."""

    id: str
    version: str
    kind: str
    seed: int
    contrasts: Contrasts
    networks: NetworkSizes
    schedule: TranslationSchedule
    phantoms: PhantomSets
    intensity: IntensityScales


@dataclass(frozen=True, slots=True)
class DenoiseRecipe:
    """Everything that a training run of a CT denoiser depends on."""

    id: str
    version: str
    kind: str
    seed: int
    networks: DenoiserSizes
    schedule: DenoiseSchedule
    phantoms: BodySets
    intensity: HounsfieldScale


@dataclass(frozen=True, slots=True)
class ThinSliceRecipe:
    """Everything that a training run of thin slices from thick ones depends on."""

    id: str
    version: str
    kind: str
    seed: int
    networks: ThinSliceSizes
    schedule: ThinSliceSchedule
    phantoms: VolumeSets
    intensity: HounsfieldScale


@dataclass(frozen=True, slots=True)
class FineSets:
    """Seeds of the virtual patients as above, and how their slices are acquired before they are made coarse.

    `coverage` is the share of k-space of what a scanner draws elsewhere: a fine matrix is mostly interpolated.
    """

    train_first_seed: int
    train_patients: int
    train_slices: int  # from each patient
    validation_first_seed: int
    validation_patients: int
    test_first_seed: int
    test_patients: int
    matrix: int  # of the fine slice
    patch: int  # fine pixels
    margin: int  # fine pixels along the rim of a patch that no loss looks at
    coverage: float


@dataclass(frozen=True, slots=True)
class SeriesScale:
    """Percentiles that scale a slice, and the relative SD of that scale in training."""

    percentiles: tuple[float, float]
    jitter: float


@dataclass(frozen=True, slots=True)
class SuperResolutionRecipe:
    """Everything that a training run of finer rows and columns depends on."""

    id: str
    version: str
    kind: str
    seed: int
    networks: ThinSliceSizes
    schedule: ThinSliceSchedule
    phantoms: FineSets
    intensity: SeriesScale


Recipe = CycleRecipe | TranslationRecipe | DenoiseRecipe | ThinSliceRecipe | SuperResolutionRecipe
_RECIPES: dict[str, tuple[Any, dict[str, Any]]] = {
    "translate": (
        TranslationRecipe,
        {
            "contrasts": Contrasts,
            "networks": NetworkSizes,
            "schedule": TranslationSchedule,
            "phantoms": PhantomSets,
            "intensity": IntensityScales,
        },
    ),
    "radiograph": (
        TranslationRecipe,
        {
            "contrasts": Contrasts,
            "networks": NetworkSizes,
            "schedule": TranslationSchedule,
            "phantoms": PhantomSets,
            "intensity": IntensityScales,
        },
    ),
    "cycle": (
        CycleRecipe,
        {
            "contrasts": Contrasts,
            "networks": CycleSizes,
            "schedule": CycleSchedule,
            "phantoms": PhantomSets,
            "intensity": CtScales,
        },
    ),
    "denoise": (
        DenoiseRecipe,
        {
            "networks": DenoiserSizes,
            "schedule": DenoiseSchedule,
            "phantoms": BodySets,
            "intensity": HounsfieldScale,
        },
    ),
    "thin-slice": (
        ThinSliceRecipe,
        {
            "networks": ThinSliceSizes,
            "schedule": ThinSliceSchedule,
            "phantoms": VolumeSets,
            "intensity": HounsfieldScale,
        },
    ),
    "super-resolve": (
        SuperResolutionRecipe,
        {
            "networks": ThinSliceSizes,
            "schedule": ThinSliceSchedule,
            "phantoms": FineSets,
            "intensity": SeriesScale,
        },
    ),
}


def read_recipe(path: Path) -> Recipe:
    """The recipe in the TOML file `path`; raises ValueError that names a missing or unknown key."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    if table.get("kind") not in _RECIPES:
        raise ValueError(f"{path.name}: kind: found {table.get('kind')!r}, expected one of {', '.join(_RECIPES)}")
    whole, parts = _RECIPES[table["kind"]]
    values = {
        name: _build(parts[name], value, f"{path.name}: {name}.") if name in parts else value
        for name, value in table.items()
    }
    recipe: Recipe = _build(whole, values, f"{path.name}: ")
    return recipe


def _build(kind: Any, table: dict[str, Any], where: str) -> Any:
    expected = {field.name for field in fields(kind)}
    for name in sorted(expected ^ table.keys()):
        raise ValueError(
            f"{where}{name}: {'missing' if name in expected else 'unknown key'}, expected {sorted(expected)}"
        )
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in table.items()})
