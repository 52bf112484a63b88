"""What a reader may say of a result."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """A reader's judgement of one synthetic series, or of one slice of it."""

    AGREE = "agree"  # it shows what the reader expects
    ARTEFACT = "artefact"  # something in it is visibly made up
    MISLEADING = "misleading"  # it could lead a reader to a wrong finding
