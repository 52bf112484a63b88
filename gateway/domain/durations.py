"""Durations in the words of people."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Seconds in the unit that people would choose."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
