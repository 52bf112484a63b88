"""What a network from elsewhere takes and gives, and how that meets slices of one grey value in [-1, 1]."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

COLOURS = 3  # red, green and blue of a network that was trained on PNG or JPEG files
RANGES = {"-1..1": (1.0, 0.0), "0..1": (0.5, 0.5)}  # by name: factor and offset that make it of [-1, 1]


@dataclass(frozen=True, slots=True)
class Conventions:
    """Channels in, and grey values in and out, of one network; raises ValueError for what has no grey image.

    A network for colour images sees one grey slice three times, and its three results are averaged.
    """

    in_channels: int
    out_channels: int
    input_range: str = "-1..1"
    output_range: str = "-1..1"

    def __post_init__(self) -> None:
        if self.in_channels < 1 or self.out_channels not in (1, COLOURS):
            raise ValueError(
                f"found {self.in_channels} channels in and {self.out_channels} out, expected 1 or {COLOURS} out"
            )
        for value in (self.input_range, self.output_range):
            if value not in RANGES:
                raise ValueError(f"range of grey values: found {value!r}, expected one of {', '.join(RANGES)}")

    def to_network(self, slices: Tensor) -> Tensor:
        """(N, roles, H, W) in [-1, 1] -> (N, in_channels, H, W) as the network takes them."""
        if slices.shape[1] == 1 and self.in_channels == COLOURS:
            slices = slices.expand(-1, COLOURS, -1, -1)
        if slices.shape[1] != self.in_channels:
            raise ValueError(f"found {slices.shape[1]} images in, expected {self.in_channels}")
        factor, offset = RANGES[self.input_range]
        return slices if (factor, offset) == (1.0, 0.0) else slices * factor + offset

    def from_network(self, result: Tensor) -> Tensor:
        """(N, out_channels, H, W) as the network gives them -> (N, 1, H, W) in [-1, 1]."""
        if result.shape[1] == COLOURS:
            result = result.mean(dim=1, keepdim=True)
        factor, offset = RANGES[self.output_range]
        return result if (factor, offset) == (1.0, 0.0) else (result - offset) / factor
