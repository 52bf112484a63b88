"""Destinations that an administrator keeps: a form with errors beside the fields, and C-ECHO before it is saved."""

from __future__ import annotations

import time
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, Form, HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, ConfigDict, Field
from pydicom.uid import UID

from gateway.admin.access import needs
from gateway.admin.routes import Routes
from gateway.admin.site import Site, address_of
from gateway.dicom.encoding import TRANSFER_SYNTAXES
from gateway.domain.roles import Role
from gateway.network import reachable
from gateway.network.destination import StepFailed
from gateway.network.outcomes import EchoReport
from gateway.network.requestor import resolve
from gateway.network.stow import StowAddress
from gateway.network.transfer import ask
from gateway.settings import Destination, Settings
from gateway.settings.line import DestinationTls
from gateway.stages import deliver
from gateway.store import directory_entries, people
from gateway.store.directory_entries import Entry, InvalidEntry, Kind
from gateway.store.people import Somebody

Me = Annotated[Somebody, Depends(needs(Role.ADMINISTRATOR))]
Text = Annotated[str, Field(max_length=500)]

GROUPS = (
    ("A storage SCP", ("ae_title", "host", "port")),
    ("Or a STOW-RS server", ("stow_url", "token_file", "batch_bytes")),
    ("How it wants results", ("iod", "transfer_syntax", "modality", "label")),
    ("Storage commitment", ("commitment", "commitment_timeout_s")),
    ("How much at a time, and when", ("concurrency", "bandwidth_bytes_per_s", "quiet_hours", "time_zone")),
    ("TLS", ("tls.ca", "tls.certificate", "tls.key", "tls.server_name")),
)
_CHOICES = {
    "iod": {"secondary-capture": "Secondary Capture Image", "source": "the SOP class of the source, marked DERIVED"},
    "modality": {"source": "that of the source", "OT": "OT"},
    "transfer_syntax": {str(uid): UID(uid).name for uid in TRANSFER_SYNTAXES},
}
_SWITCHES = ("label", "commitment")


class DestinationForm(BaseModel):
    """What the form sends; an empty field has its default."""

    name: Text = ""
    version: int = Field(0, ge=0, le=10**9)
    why: Text = ""
    ae_title: Text = ""
    host: Text = ""
    port: Text = ""
    stow_url: Text = ""
    token_file: Text = ""
    batch_bytes: Text = ""
    iod: Text = ""
    transfer_syntax: Text = ""
    modality: Text = ""
    label: Text = ""
    commitment: Text = ""
    commitment_timeout_s: Text = ""
    concurrency: Text = ""
    bandwidth_bytes_per_s: Text = ""
    quiet_hours: Text = ""
    time_zone: Text = ""
    tls_ca: Text = ""
    tls_certificate: Text = ""
    tls_key: Text = ""
    tls_server_name: Text = ""

    def values(self) -> dict[str, str]:
        """What was written, by the name of the setting."""
        table = self.model_dump(exclude={"name", "version", "why"})
        return {key.replace("tls_", "tls.", 1): text.strip() for key, text in table.items()}

    def definition(self) -> dict[str, Any]:
        """The same as the settings have it."""
        values = self.values()
        table: dict[str, Any] = {key: text for key, text in values.items() if text and not key.startswith("tls.")}
        table |= {switch: values[switch] == "yes" for switch in _SWITCHES}
        tls = {key.removeprefix("tls."): text for key, text in values.items() if text and key.startswith("tls.")}
        return table | ({"tls": tls} if tls else {})


class DestinationBody(BaseModel):
    """A destination as settings.toml has it, and why it is changed."""

    model_config = ConfigDict(extra="forbid")

    definition: dict[str, Any]
    why: str = Field("", max_length=500)


def router(site: Site) -> Routes:
    """The form, what it posts to, and the REST operations."""
    routes = Routes()

    def entry_of(name: str) -> Entry:
        kept = (one for one in site.directory.entries if one.kind is Kind.DESTINATION and one.name == name)
        found = next(kept, None)
        if found is None:
            where = "stands in settings.toml; change it there" if name in site.settings.destinations else "is not there"
            raise HTTPException(404, f"destination {name} {where}")
        return found

    def put(
        request: Request, me: Somebody, name: str, definition: dict[str, Any], why: str, version: int | None = None
    ) -> Entry:
        checked = directory_entries.require_destination(site.settings, name, definition)
        _require_allowed(checked, site.settings)
        with site.database.write() as connection:
            entry = directory_entries.put_destination(
                connection, site.settings, name, definition, author=me.name, reason=why, expected_version=version
            )
            what = "added a destination" if entry.version == 1 else "changed a destination"
            people.note(connection, me, address_of(request), what, name, why=why, **entry.definition)
        site.directory.refresh()
        return entry

    def remove(request: Request, me: Somebody, name: str, why: str = "") -> None:
        with site.database.write() as connection:
            if not directory_entries.remove(
                connection, site.settings, Kind.DESTINATION, name, author=me.name, reason=why
            ):
                raise HTTPException(404, f"there is no destination {name} among those that were added here")
            people.note(connection, me, address_of(request), "removed a destination", name, why=why)
        site.directory.refresh()

    def shown(
        request: Request,
        form: DestinationForm,
        problems: dict[str, str],
        history: list[dict[str, Any]],
        code: int = 200,
    ) -> Response:
        return site.page(
            request, "destination_form.html", code, form=form, values=form.values(), problems=problems, history=history,
            groups=GROUPS, choices=_CHOICES, switches=_SWITCHES, words=_WORDS, defaults=_DEFAULTS,
            files_dir=site.settings.web.files_dir,
        )  # fmt: skip

    @routes.page("/destinations/new", Role.ADMINISTRATOR)
    def new(request: Request) -> Response:
        return shown(request, DestinationForm(label="yes"), {}, [])

    @routes.page("/destinations/{name}/edit", Role.ADMINISTRATOR)
    def edit(request: Request, name: str) -> Response:
        entry = entry_of(name)
        with site.database.read() as connection:
            history = directory_entries.history(connection, Kind.DESTINATION, name)
        return shown(request, _form_of(entry), {}, history)

    @routes.act("/destinations/save", Role.ADMINISTRATOR)
    def save(request: Request, me: Me, form: Annotated[DestinationForm, Form()]) -> Response:
        try:
            put(request, me, form.name.strip(), form.definition(), form.why, form.version)
        except InvalidEntry as error:
            return shown(request, form, error.problems, [], 422)
        return RedirectResponse("/destinations", 303)

    @routes.act("/destinations/ask", Role.ADMINISTRATOR)
    def ask_form(request: Request, me: Me, form: Annotated[DestinationForm, Form()]) -> Response:
        name = form.name.strip() or "new"
        try:
            destination = directory_entries.require_destination(site.settings, name, form.definition())
        except InvalidEntry as error:
            failed = [f"{_WORDS.get(field, field)}: {words}" for field, words in error.problems.items()]
            return site.page(request, "destination_echo.html", report=None, failed=failed)
        report = ask_judged(destination, site.settings)
        return site.page(request, "destination_echo.html", report=report, failed=[])

    @routes.act("/destinations/{name}/remove", Role.ADMINISTRATOR)
    def remove_form(request: Request, me: Me, name: str) -> Response:
        remove(request, me, name)
        return RedirectResponse("/destinations", 303)

    @routes.api("GET", "/destinations/{name}", tags=["destinations"], summary="The settings of a destination")
    def api_get(name: str) -> dict[str, Any]:
        destination = site.directory.destination(name)
        if destination is None:
            raise HTTPException(404, f"there is no destination {name}")
        origin = "settings" if name in site.settings.destinations else "directory"
        return {"name": name, "origin": origin, **destination.model_dump(mode="json")}

    @routes.api("PUT", "/destinations/{name}", Role.ADMINISTRATOR, tags=["destinations"], summary="Add or change one")
    def api_put(request: Request, me: Me, name: str, body: DestinationBody) -> dict[str, Any]:
        entry = put(request, me, name, body.definition, body.why)
        return {"name": entry.name, "version": entry.version, "definition": entry.definition}

    @routes.api("DELETE", "/destinations/{name}", Role.ADMINISTRATOR, tags=["destinations"], summary="Remove one")
    def api_remove(request: Request, me: Me, name: str, why: str = "") -> dict[str, bool]:
        remove(request, me, name, why)
        return {"removed": True}

    return routes


def ask_judged(destination: Destination, settings: Settings) -> EchoReport:
    """Ask a destination that somebody wrote on a page whether it is there, unless its address is not to be reached."""
    address = deliver.address_of(destination, settings.deliver, settings.node.ae_title)
    deadline = time.monotonic() + settings.deliver.connect_timeout_s
    try:
        if isinstance(address, StowAddress):
            reachable.places(*_place_of(destination), deadline, allow_private=True)
        else:
            address = reachable.pinned(address, deadline)
    except StepFailed as failed:
        return EchoReport(failed, None, {})
    return ask(address)


def _require_allowed(destination: Destination, settings: Settings) -> None:
    """Raise InvalidEntry when results would go to an address that is not to be reached; an unknown name passes."""
    host, port = _place_of(destination)
    try:
        found = resolve(host, port, time.monotonic() + settings.deliver.connect_timeout_s)
    except StepFailed:
        return
    for _, (address, _) in found:
        if (words := reachable.refusal_of(address, allow_private=True)) is not None:
            field = "stow_url" if destination.stow_url else "host"
            raise InvalidEntry("destination", {field: f"found {address}, which {words}; expected another address"})


def _place_of(destination: Destination) -> tuple[str, int]:
    if destination.stow_url is None:
        return destination.host, destination.port
    parts = urlsplit(destination.stow_url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _form_of(entry: Entry) -> DestinationForm:
    table = Destination.model_validate(entry.definition).model_dump(mode="json", exclude_defaults=True)
    tls = table.pop("tls", {})
    texts = {key: str(value) for key, value in table.items() if key not in _SWITCHES}
    switches = {key: "yes" if entry.definition.get(key, _DEFAULTS[key]) else "" for key in _SWITCHES}
    files = {f"tls_{key}": str(value) for key, value in tls.items()}
    return DestinationForm(name=entry.name, version=entry.version, **texts, **switches, **files)


_WORDS = {name: field.description or name for name, field in Destination.model_fields.items()} | {
    f"tls.{name}": field.description or name for name, field in DestinationTls.model_fields.items()
}
_DEFAULTS = {name: field.default for name, field in Destination.model_fields.items()}
