"""``athanor token``: a bearer token for a sender of the web port."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.commands.console import out


def token(
    name: Annotated[str, typer.Argument(help="sender, 1 to 16 characters, shown as its calling AE title")],
) -> None:
    """Make a token with which a sender stores over HTTP (STOW-RS), and the line that lets it in.

    The token is shown once and kept nowhere; the settings hold its digest.
    """
    from gateway.admin.senders import digest_of, new_token

    secret = new_token()
    out.print(f"For the sender, shown this once:\n  Authorization: Bearer {secret}", soft_wrap=True, highlight=False)
    out.print(
        f'For settings.toml, under [web.senders]:\n  {name} = "{digest_of(secret)}"',
        soft_wrap=True,
        highlight=False,
        markup=False,
    )


def add_to(app: typer.Typer) -> None:
    """Add this command to the command line."""
    app.command()(token)
