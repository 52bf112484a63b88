"""What movement during a series does to its k-space: each line sees the patient where he is when it is acquired.

Periodic displacement repeats what moves as ghosts along the phase-encoding axis (Wood and Henkelman 1985, Medical
Physics 12:143). Breathing moves the front of the belly most, and the vertebrae of a patient on his back not at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

PhaseAxis = Literal["AP", "HF"]
Real = NDArray[np.float64]
Complex = NDArray[np.complex64]


@dataclass(frozen=True, slots=True)
class Motion:
    """How a patient moves while a series is acquired. Raises ValueError when a number makes no sense.

    An echo train fills one line in each of `echo_train` bands of k-space, and the next train, a TR later, the lines
    beside them. A train itself is short against a breath, which is a sine.
    """

    breathing_mm: float = 0.0  # amplitude of the front of the belly, half of its way
    period_s: float = 4.0  # of a breath
    shifts: int = 0  # times that the whole patient moves at once and stays there
    shift_mm: float = 0.0  # SD of such a shift along each axis of the slice
    echo_train: int = 16

    def __post_init__(self) -> None:
        if self.breathing_mm < 0 or self.shifts < 0 or self.shift_mm < 0:
            raise ValueError(f"motion: found {self}, expected no negative amplitude or number")
        if self.period_s <= 0 or self.echo_train < 1:
            raise ValueError(f"motion: found {self}, expected a period above 0 s and an echo train of 1 or more")

    @property
    def moves(self) -> bool:
        """Whether anything moves at all."""
        return self.breathing_mm > 0 or (self.shifts > 0 and self.shift_mm > 0)


# the amplitudes are chosen by the look of the images, not measured in patients
STILL = Motion()
MILD = Motion(breathing_mm=2.0, shifts=1, shift_mm=0.5)
SEVERE = Motion(breathing_mm=6.0, shifts=3, shift_mm=2.0)


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """Where the patient is when each phase-encoding line is acquired, in the order of `np.fft.fftfreq`.

    train      number of the echo train, from 0; the middle one fills the centre of k-space: (lines,)
    breathing  of the front of the belly, in mm to the back: (lines,)
    shift      of the whole patient since that middle, in mm to the feet and to the back: (lines, 2)
    """

    train: NDArray[np.intp]
    breathing: Real
    shift: Real


def draw_course(motion: Motion, lines: int, tr_s: float, rng: np.random.Generator) -> Course:
    """A course of `motion` while `lines` are filled, a train every `tr_s`; breath and shifts begin by chance."""
    trains = -(-lines // motion.echo_train)
    train = (np.rint(np.fft.fftfreq(lines) * lines).astype(np.intp) + trains // 2) % trains
    breath = 2.0 * np.pi * (np.arange(trains) * tr_s / motion.period_s + rng.random())
    begins = rng.integers(1, max(trains, 2), motion.shifts)
    steps = rng.normal(0.0, motion.shift_mm, (motion.shifts, 2))
    shift = (np.arange(trains)[:, None] >= begins) @ steps
    return Course(train, (motion.breathing_mm * np.sin(breath))[train], (shift - shift[trains // 2])[train])


def moving_kspace(
    slices: NDArray[np.float32], share: Real, course: Course, spacing_mm: float, phase_axis: PhaseAxis
) -> Complex:
    """The k-space of `slices` that move as `course` says while it is acquired: complex64, both (..., rows, columns).

    `share` says how much of the breathing each column takes part in, 0 to 1: (columns,). The Fourier sum runs over the
    moved columns, so no image is interpolated. With the phase along AP a line is a column of k-space and one matrix
    holds the sums of all; along HF each echo train has its own.
    """
    rows = np.fft.fft(slices, axis=-2).astype(np.complex64)
    frequency = np.fft.fftfreq(share.size)
    still = np.exp(-2j * np.pi * np.outer(np.arange(share.size), frequency)).astype(np.complex64)
    shift, breathing = course.shift / spacing_mm, course.breathing / spacing_mm
    if phase_axis == "AP":
        kspace = rows @ (still * _turned(np.outer(share, frequency * breathing)))
        ramp = frequency[:, None] * shift[:, 0] + frequency * shift[:, 1]
    else:
        kspace = np.empty_like(rows)
        for train in range(int(course.train.max()) + 1):
            lines = np.flatnonzero(course.train == train)
            moved = still * _turned(np.outer(share, frequency * breathing[lines[0]]))
            kspace[..., lines, :] = rows[..., lines, :] @ moved
        ramp = (frequency * shift[:, 0])[:, None] + frequency * shift[:, 1, None]
    return kspace * _turned(ramp)


def _turned(cycles: Real) -> Complex:
    """e^(-2 pi i cycles), from sine and cosine in single precision: ten times as fast as the complex exponential."""
    angle = (-2.0 * np.pi * cycles).astype(np.float32)
    return np.asarray(np.cos(angle) + 1j * np.sin(angle), dtype=np.complex64)
