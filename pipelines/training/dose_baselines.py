"""What a CT denoiser must beat: non-local means, total variation, the bilateral filter, each at its best strength."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from skimage.restoration import denoise_bilateral, denoise_nl_means, denoise_tv_chambolle

from pipelines.intensity import Array

Filter = Callable[[Array, float], Array]  # (slice in HU, SD of its noise in HU) -> slice in HU
LOW_HU, HIGH_HU = -1024.0, 3071.0
STRENGTHS: Mapping[str, tuple[float, ...]] = {
    "nlm": (0.4, 0.6, 0.8, 1.0, 1.3),
    "tv": (0.4, 0.7, 1.0, 1.5, 2.2),
    "bilateral": (1.0, 1.5, 2.2, 3.2, 4.5),
}


def nlm(noisy: Array, sigma: float, strength: float) -> Array:
    """Non-local means (Buades et al. 2005): patches of 5, up to 6 pixels away."""
    return _filtered(denoise_nl_means, noisy, patch_size=5, patch_distance=6, h=strength * sigma, sigma=sigma)


def tv(noisy: Array, sigma: float, strength: float) -> Array:
    """Total variation (Chambolle 2004)."""
    return _filtered(denoise_tv_chambolle, noisy, weight=strength * sigma, max_num_iter=100)


def bilateral(noisy: Array, sigma: float, strength: float) -> Array:
    """The bilateral filter (Tomasi and Manduchi 1998) over 7 x 7 pixels."""
    shifted = noisy - LOW_HU  # scikit-image takes no negative values
    return _filtered(
        denoise_bilateral, shifted, win_size=7, sigma_color=strength * sigma, sigma_spatial=1.8, bins=20_000
    ) + np.float32(LOW_HU)


def _filtered(method: Callable[..., object], image: Array, **settings: float) -> Array:
    return np.asarray(method(image, **settings), dtype=np.float32)


_KINDS: Mapping[str, Callable[[Array, float, float], Array]] = {"nlm": nlm, "tv": tv, "bilateral": bilateral}


def tuned(slices: Sequence[tuple[Array, Array]]) -> dict[str, Filter]:
    """Each filter at the strength that leaves the smallest error on validation `slices` of (noisy, clean) in HU.

    Strengths are in units of the noise, whose true SD every filter is told: more than it would know in use.
    """
    best: dict[str, Filter] = {}
    for name, method in _KINDS.items():
        errors = [
            sum(windowed_error(method(noisy, noise_sigma(noisy, clean), strength), clean) for noisy, clean in slices)
            for strength in STRENGTHS[name]
        ]
        best[name] = partial(_at, method, STRENGTHS[name][int(np.argmin(errors))])
    return best


def _at(method: Callable[[Array, float, float], Array], strength: float, noisy: Array, sigma: float) -> Array:
    return method(noisy, sigma, strength)


def noise_sigma(noisy: Array, clean: Array) -> float:
    """The SD of the noise within the body, in HU."""
    body = (clean > -300.0) & (clean < 300.0)
    return float((noisy - clean)[body].std())


def windowed_error(image: Array, clean: Array, window: tuple[float, float] = (-160.0, 240.0)) -> float:
    """The squared error of what a reader sees of soft tissue."""
    return float(np.mean((np.clip(image, *window) - np.clip(clean, *window)) ** 2))
