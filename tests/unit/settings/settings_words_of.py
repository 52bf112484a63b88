"""The words in which settings are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.errors import ConfigurationError

WriteSettings = Callable[[str], Path]


def refusal(read: Callable[[], object]) -> str:
    """The message of the ConfigurationError that `read` raises."""
    with pytest.raises(ConfigurationError) as raised:
        read()
    return str(raised.value)
