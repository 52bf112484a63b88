"""Every error that a pipeline raises on purpose.

PipelineError
├── ManifestError   a manifest that does not fit; the model is not offered
├── WeightsError    weights that are not the released ones or do not fit the architecture; nothing was loaded
├── RuntimeUnfit    a runtime that cannot take a network or does not give what PyTorch gives; eager does
└── Unsuitable      an image that this model cannot take
"""

from __future__ import annotations


class PipelineError(Exception):
    """Root of every error raised on purpose."""


class ManifestError(PipelineError):
    """A manifest that does not fit."""


class WeightsError(PipelineError):
    """Weights that are not the released ones, or do not fit the architecture."""


class RuntimeUnfit(PipelineError):  # noqa: N818 - the statement, not the suffix, says what it is
    """A runtime that is not installed, cannot take the network, or gives something else than PyTorch does."""


class Unsuitable(PipelineError):  # noqa: N818 - the statement, not the suffix, says what it is
    """An image that this model cannot take.

    `check` is a stable word for tables and metrics (``constant``), `found` and `expected` are for people.
    """

    def __init__(self, check: str, found: str, expected: str, advice: str = "") -> None:
        self.check = check
        self.found = found
        self.expected = expected
        self.advice = advice
        text = f"{check}: found {found}; expected {expected}"
        super().__init__(f"{text}; {advice}" if advice else text)
