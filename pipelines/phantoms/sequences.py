"""The signal equations: spin echo and inversion recovery of a voxel with a water and a fat compartment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True)
class Sequence:
    """One acquisition's timing in ms; `ti_ms` None means no inversion pulse.

    `fat_left` is the share of the fat signal that a saturation pulse leaves, 1 without one. Raises ValueError when a
    time is not positive or TI does not lie below TR.
    """

    name: str
    tr_ms: float
    te_ms: float
    ti_ms: float | None = None
    fat_left: float = 1.0

    def __post_init__(self) -> None:
        if self.tr_ms <= 0 or self.te_ms <= 0:
            raise ValueError(f"{self.name}: found TR {self.tr_ms} and TE {self.te_ms} ms, expected positive times")
        if self.ti_ms is not None and not 0 < self.ti_ms < self.tr_ms:
            raise ValueError(f"{self.name}: found TI {self.ti_ms} ms, expected between 0 and TR {self.tr_ms} ms")

    def signal(self, t1_ms: ArrayLike, t2_ms: ArrayLike) -> NDArray[np.float64]:
        """Signed transverse magnetisation at the echo per unit of proton density.

        Spin echo (1 - e^(-TR/T1)) e^(-TE/T2); inversion recovery (1 - 2 e^(-TI/T1) + e^(-TR/T1)) e^(-TE/T2).
        A TSE is taken as a spin echo at its effective echo time.
        """
        t1, t2 = np.asarray(t1_ms, dtype=np.float64), np.asarray(t2_ms, dtype=np.float64)
        recovery = np.exp(-self.tr_ms / t1)
        inverted = 0.0 if self.ti_ms is None else np.exp(-self.ti_ms / t1)
        sign = 1.0 if self.ti_ms is not None else -1.0
        longitudinal = 1.0 - 2.0 * inverted + sign * recovery
        result: NDArray[np.float64] = longitudinal * np.exp(-self.te_ms / t2)
        return result


T1W = Sequence("T1W", tr_ms=550.0, te_ms=11.0)
T2W = Sequence("T2W", tr_ms=3600.0, te_ms=105.0)
STIR = Sequence("STIR", tr_ms=4200.0, te_ms=42.0, ti_ms=165.0)
TIRM = Sequence("TIRM", tr_ms=4200.0, te_ms=70.0, ti_ms=165.0)
PD = Sequence("PD", tr_ms=3000.0, te_ms=32.0)
PD_FS = Sequence("PD FS", tr_ms=3000.0, te_ms=32.0, fat_left=0.1)


def null_ti_ms(t1_ms: float, tr_ms: float) -> float:
    """The inversion time at which a tissue of `t1_ms` gives no signal: T1 (ln 2 - ln(1 + e^(-TR/T1)))."""
    return float(t1_ms * (np.log(2.0) - np.log1p(np.exp(-tr_ms / t1_ms))))


def draw_t1w(rng: np.random.Generator) -> Sequence:
    """A T1-weighted TSE as protocols set it: TR 450-700, TE 8-15 ms."""
    return Sequence("T1W", tr_ms=float(rng.uniform(450, 700)), te_ms=float(rng.uniform(8, 15)))


def draw_t2w(rng: np.random.Generator) -> Sequence:
    """A T2-weighted TSE as protocols set it: TR 3000-4500, effective TE 90-120 ms."""
    return Sequence("T2W", tr_ms=float(rng.uniform(3000, 4500)), te_ms=float(rng.uniform(90, 120)))


def draw_stir(rng: np.random.Generator, fat_t1_ms: float) -> Sequence:
    """A STIR as protocols set it: TR 3500-5000, TE 30-60 ms, TI within 4 % of the patient's fat null."""
    return _inversion("STIR", rng, fat_t1_ms, (30, 60))


def draw_tirm(rng: np.random.Generator, fat_t1_ms: float) -> Sequence:
    """A TIRM (turbo inversion recovery magnitude): a STIR with an effective TE of 60-80 ms."""
    return _inversion("TIRM", rng, fat_t1_ms, (60, 80))


def draw_pd(rng: np.random.Generator, fat_left: tuple[float, float] | None = None) -> Sequence:
    """A PD-weighted TSE: TR 2500-3500, TE 25-40 ms; with `fat_left`, a saturation pulse that leaves such a share."""
    tr_ms, te_ms = float(rng.uniform(2500, 3500)), float(rng.uniform(25, 40))
    if fat_left is None:
        return Sequence("PD", tr_ms, te_ms)
    return Sequence("PD FS", tr_ms, te_ms, fat_left=float(rng.uniform(*fat_left)))


def _inversion(name: str, rng: np.random.Generator, fat_t1_ms: float, te_ms: tuple[float, float]) -> Sequence:
    tr_ms = float(rng.uniform(3500, 5000))
    ti_ms = null_ti_ms(fat_t1_ms, tr_ms) * float(rng.uniform(0.96, 1.04))
    return Sequence(name, tr_ms=tr_ms, te_ms=float(rng.uniform(*te_ms)), ti_ms=float(np.clip(ti_ms, 140, 185)))


# contrast -> a protocol for it; the second argument is the T1 of the patient's fat in ms
DRAWN: Mapping[str, Callable[[np.random.Generator, float], Sequence]] = MappingProxyType(
    {
        "T1W": lambda rng, _: draw_t1w(rng),
        "T2W": lambda rng, _: draw_t2w(rng),
        "STIR": draw_stir,
        "TIRM": draw_tirm,
        "PD": lambda rng, _: draw_pd(rng),
        "PD FS": lambda rng, _: draw_pd(rng, (0.02, 0.25)),
    }
)
