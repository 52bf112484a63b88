"""`Found`: what a file from elsewhere turned out to be, before anybody has said what it is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from pipelines.spec import Parameter


@dataclass(frozen=True, slots=True)
class Question:
    """A parameter of the generator that the file does not hold: what it is at first, and what it may be.

    Without `choices` any value of the same type will do.
    """

    usual: Parameter
    choices: tuple[Parameter, ...]
    meaning: str


@dataclass(frozen=True, slots=True)
class Found:
    """One generator: its architecture, what the file says of it, and its weights.

    words       one line for people
    parameters  of the architecture, as inferred
    weights     tensors under the names of the architecture, or an ONNX file
    multiple    of which rows and columns have to be; 1 where the file does not say
    questions   by parameter, what somebody has to answer
    notes       what was left out or filled in, for the card
    about       what the file says of itself, for the card; nothing else is made of it
    """

    words: str
    architecture: str
    parameters: Mapping[str, Parameter]
    weights: Mapping[str, Tensor] | Path
    in_channels: int
    multiple: int
    questions: Mapping[str, Question] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    about: Mapping[str, str] = field(default_factory=dict)


RANGE_QUESTIONS: Mapping[str, Question] = {
    "input_range": Question("-1..1", ("-1..1", "0..1"), "grey values that the network takes"),
    "output_range": Question("-1..1", ("-1..1", "0..1"), "grey values that it gives"),
}
