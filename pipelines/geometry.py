"""In-plane geometry between a series and the slices a generator was trained on, and exactly back.

Slices are never interpolated across: only rows and columns are resampled, edge to edge, so that the way back
ends on the very grid that the way there began with.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pipelines.spec import GeometrySpec

Size = tuple[int, int]  # (rows, columns)


@dataclass(frozen=True, slots=True)
class InPlane:
    """The sizes of a slice as acquired, at the trained spacing, and padded for the generator."""

    source: Size
    trained: Size
    padded: Size

    @classmethod
    def plan(cls, source: Size, spacing_mm: tuple[float, float], spec: GeometrySpec) -> InPlane:
        """The sizes for slices of `source` with `spacing_mm` (between rows, between columns).

        Nothing is resampled while both spacings are within the tolerance of the trained one.
        """
        ratios = [spacing / spec.pixel_spacing_mm for spacing in spacing_mm]
        near = all(abs(ratio - 1.0) <= spec.tolerance for ratio in ratios)
        rows, columns = source if near else (max(1, round(n * r)) for n, r in zip(source, ratios, strict=True))
        padded = -(-rows // spec.multiple) * spec.multiple, -(-columns // spec.multiple) * spec.multiple
        return cls(source, (rows, columns), padded)

    @property
    def resamples(self) -> bool:
        """Whether slices are interpolated at all."""
        return self.source != self.trained

    def to_trained(self, slices: Tensor) -> Tensor:
        """(N, C, source) in [-1, 1] -> (N, C, padded) in [-1, 1]; the image goes to the middle."""
        x = _resampled(slices, self.trained)  # (N, C, trained)
        for axis in (-2, -1):
            x = _mirrored(x, axis, self.padded[axis])  # (N, C, padded)
        return x

    def to_source(self, slices: Tensor) -> Tensor:
        """(N, C, padded) in [-1, 1] -> (N, C, source) in [-1, 1]."""
        top, left = (_before(inner, outer) for inner, outer in zip(self.trained, self.padded, strict=True))
        x = slices[..., top : top + self.trained[0], left : left + self.trained[1]]  # (N, C, trained)
        return _resampled(x, self.source)  # (N, C, source)


def _resampled(slices: Tensor, size: Size) -> Tensor:
    """Bicubic, low-passed where it shrinks; overshoot beyond [-1, 1] is cut."""
    if slices.shape[-2:] == size:
        return slices
    larger = interpolate(slices, size, mode="bicubic", align_corners=False, antialias=True)
    return larger.clamp(-1.0, 1.0)


def _mirrored(x: Tensor, axis: int, length: int) -> Tensor:
    """`x` continued by its mirror images along `axis`: a black frame would shift the instance norms."""
    inner = x.shape[axis]
    if inner == length:
        return x
    index = torch.arange(length, device=x.device) - _before(inner, length)
    folded = index.remainder(2 * inner)
    return x.index_select(axis, torch.minimum(folded, 2 * inner - 1 - folded))


def _before(inner: int, outer: int) -> int:
    return (outer - inner) // 2
