"""The one-time set-up token: there is no default password, and the first administrator is made by who reads our log."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from gateway.admin.access import NotAllowed


class SetupToken:
    """A token in a file that only this system user can read, as long as nobody can log in."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "setup-token"

    def make(self) -> str:
        """The token; made at the first call, the same after a restart."""
        self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            descriptor = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return self.file.read_text(encoding="ascii").strip()
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(token := secrets.token_urlsafe(24))
        return token

    def require(self, token: str) -> None:
        """Raise NotAllowed unless `token` is the one."""
        try:
            expected = self.file.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            expected = ""
        if not expected or not hmac.compare_digest(token.strip().encode(), expected.encode()):
            raise NotAllowed(403, "that is not the set-up token; it stands in the log of the web process")

    def forget(self) -> None:
        """It was used."""
        self.file.unlink(missing_ok=True)
