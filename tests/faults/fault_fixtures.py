"""What the fixtures of tests/faults give, as types; not in conftest.py, for there are several of that name."""

from __future__ import annotations

from collections.abc import Callable

from parts import Gateway

CountFault = Callable[..., None]
Tell = Callable[[str], None]
MakeGateway = Callable[..., Gateway]
