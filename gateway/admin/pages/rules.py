"""Rules: the list in force, the editor with its drafts, tests and dry run, every version, import and export."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Annotated, Any

from fastapi import Depends, File, Form, HTTPException, Query, Request, Response, UploadFile
from fastapi.responses import PlainTextResponse, RedirectResponse
from pydicom.datadict import keyword_dict

from gateway.admin import sample
from gateway.admin.access import needs
from gateway.admin.routes import LARGEST_ID, Routes
from gateway.admin.site import Site, address_of
from gateway.dicom.header import Attributes
from gateway.dicom.loop_guard import find_marks
from gateway.dicom.provenance import own_identity
from gateway.domain.comparisons import COMPARISONS
from gateway.domain.conditions import ASSOCIATION_ATTRIBUTES, AssociationFacts
from gateway.domain.roles import Role
from gateway.domain.rule_tables import rule_from_table, rule_to_table
from gateway.domain.rules import PRIORITIES, Rule, Selection, select
from gateway.errors import AthanorError, ConfigurationError
from gateway.store import people, reports, rulebook, switches
from gateway.store.people import Somebody
from gateway.store.rehearsal import rehearse
from gateway.store.rules_file import format_rules, parse_rules
from pipelines.catalog import Catalog

Me = Annotated[Somebody, Depends(needs(Role.ADMINISTRATOR))]
Definition = Annotated[str, Form(max_length=200_000)]
Why = Annotated[str, Form(max_length=500)]
Tables = list[dict[str, Any]]
Days = Annotated[float, Form(gt=0, le=365)]

_LARGEST_SAMPLE = 64 * 1024 * 1024
_NEW = {"name": "", "enabled": True, "pipeline": "", "destinations": [], "when": {"all": []}}


def router(site: Site) -> Routes:
    """The pages, their forms and the REST operations."""
    routes = Routes()

    def in_force() -> list[rulebook.Version]:
        with site.database.read() as connection:
            return rulebook.active(connection)

    def put_in_force(request: Request, me: Somebody, rules: Sequence[Rule], why: str, what: str, subject: str) -> None:
        rulebook.require_usable(rules, site.directory.settings)
        with site.database.write() as connection:
            changes = rulebook.apply(connection, rules, author=me.name, reason=why)
            changed = [f"{one.name}@{one.version} {one.what}" for one in changes if one.what != "unchanged"]
            people.note(connection, me, address_of(request), what, subject, why=why, changes=changed)

    _add_list(routes, site, in_force, put_in_force)
    _add_editor(routes, site, in_force, put_in_force)
    _add_trials(routes, site, in_force)
    return routes


def _add_list(routes: Routes, site: Site, in_force: Callable[[], list[rulebook.Version]], put_in_force: Any) -> None:
    @routes.page("/rules")
    def rules(request: Request) -> Response:
        with site.database.read() as connection:
            return site.page(
                request, "rules.html", versions=rulebook.active(connection), drafts=rulebook.drafts(connection),
                switches=switches.disabled(connection),
            )  # fmt: skip

    @routes.act("/rules/{name}/move", Role.ADMINISTRATOR)
    def move(request: Request, me: Me, name: str, by: Annotated[int, Form(ge=-1, le=1)]) -> Response:
        rules = [version.rule for version in in_force()]
        at = _place_of(rules, name)
        to = min(max(at + by, 0), len(rules) - 1)
        rules.insert(to, rules.pop(at))
        put_in_force(request, me, rules, "moved", "moved a rule", name)
        return RedirectResponse("/rules", 303)

    @routes.act("/rules/{name}/enabled", Role.ADMINISTRATOR)
    def switch(request: Request, me: Me, name: str, enabled: Annotated[bool, Form()]) -> Response:
        rules = [version.rule for version in in_force()]
        at = _place_of(rules, name)
        rules[at] = replace(rules[at], enabled=enabled)
        what = "enabled" if enabled else "disabled"
        put_in_force(request, me, rules, what, f"{what} a rule", name)
        return RedirectResponse("/rules", 303)

    @routes.act("/rules/{name}/retire", Role.ADMINISTRATOR)
    def retire(request: Request, me: Me, name: str) -> Response:
        rules = [version.rule for version in in_force()]
        del rules[_place_of(rules, name)]
        put_in_force(request, me, rules, "retired", "retired a rule", name)
        return RedirectResponse("/rules", 303)

    @routes.page("/rules/export.toml")
    def export() -> Response:
        text = format_rules([version.rule for version in in_force()])
        return PlainTextResponse(text, headers={"Content-Disposition": 'attachment; filename="rules.toml"'})

    @routes.act("/rules/import", Role.ADMINISTRATOR)
    def import_(request: Request, me: Me, file: Annotated[UploadFile, File()], why: Why = "") -> Response:
        text = file.file.read(2_000_000).decode("utf-8", "replace")
        put_in_force(request, me, parse_rules(text, "file"), why or "imported", "imported rules", "")
        return RedirectResponse("/rules", 303)

    @routes.api("GET", "/rules", tags=["rules"], summary="The rules in force, in their order")
    def api_rules() -> Tables:
        return [{"version": version.version, **rule_to_table(version.rule)} for version in in_force()]

    @routes.api("PUT", "/rules", Role.ADMINISTRATOR, tags=["rules"], summary="Make a list of rules the ones in force")
    def api_apply(
        request: Request, me: Me, body: list[dict[str, Any]], why: str = "by the API"
    ) -> list[dict[str, Any]]:
        put_in_force(
            request, me, [rule_from_table(one, f"rules[{n}]") for n, one in enumerate(body)], why, "applied rules", ""
        )
        return api_rules()


def _add_editor(routes: Routes, site: Site, in_force: Callable[[], list[rulebook.Version]], put_in_force: Any) -> None:
    @routes.page("/rules/{name}")
    def edit(request: Request, name: str, version: Annotated[int | None, Query(ge=1, le=10**9)] = None) -> Response:
        with site.database.read() as connection:
            history = rulebook.history(connection, name)
            draft = rulebook.draft(connection, name)
            recent = reports.series_list(connection, 20)
            off = switches.disabled(connection)
        if name != "new" and not history and not draft:
            raise HTTPException(404, f"there is no rule of the name {name}")
        chosen = next((one for one in history if one["version"] == version), None)
        base = next((one for one in history if one["active"]), None)
        definition = (chosen or draft or base or (history or [{"definition": _NEW}])[0])["definition"]
        catalog = Catalog.read(site.settings.models_dir)
        return site.page(
            request, "rule.html", name=name, definition=definition, draft=draft if not chosen else None, base=base,
            shown_version=chosen and chosen["version"], history=_with_differences(history), recent=recent,
            pipelines=[(spec.id, spec.title + " (disabled)" * (spec.id in off)) for spec in catalog.values()],
            destinations=sorted(site.directory.settings.destinations), priorities=list(PRIORITIES),
            operators=list(COMPARISONS), keywords=_KEYWORDS,
        )  # fmt: skip

    @routes.act("/rules/{name}/draft", Role.ADMINISTRATOR)
    def save_draft(request: Request, me: Me, name: str, definition: Definition) -> Response:
        table = _table_of(definition)
        name = _name_of(table, name)
        with site.database.write() as connection:
            rulebook.save_draft(connection, name, table, me.name)
            people.note(connection, me, address_of(request), "saved a draft of a rule", name)
        return RedirectResponse(f"/rules/{name}", 303)

    @routes.act("/rules/{name}/draft/drop", Role.ADMINISTRATOR)
    def drop_draft(request: Request, me: Me, name: str) -> Response:
        with site.database.write() as connection:
            rulebook.drop_draft(connection, name)
            people.note(connection, me, address_of(request), "dropped a draft of a rule", name)
        return RedirectResponse("/rules", 303)

    @routes.act("/rules/{name}/activate", Role.ADMINISTRATOR)
    def activate(
        request: Request,
        me: Me,
        name: str,
        definition: Definition,
        base_version: Annotated[int, Form(ge=0)],
        why: Why = "",
    ) -> Response:
        rule = rule_from_table(_table_of(definition))
        versions = in_force()
        current = next((one.version for one in versions if one.rule.name == rule.name), 0)
        if current != base_version:
            raise ConfigurationError(
                f"rule {rule.name}: found version {current} in force; expected version {base_version}, with which this "
                "page was opened; somebody else changed it: load the page again"
            )
        rules = rulebook.replaced([one.rule for one in versions], rule)
        put_in_force(request, me, rules, why or "edited", "activated a rule", rule.name)
        with site.database.write() as connection:
            rulebook.drop_draft(connection, rule.name)
        return RedirectResponse("/rules", 303)


def _add_trials(routes: Routes, site: Site, in_force: Callable[[], list[rulebook.Version]]) -> None:
    own = own_identity(site.settings)

    @routes.act("/rule-test", Role.VIEWER)
    def test(
        request: Request,
        definition: Definition,
        series_id: Annotated[int | None, Form(ge=1, le=LARGEST_ID)] = None,
        header: Annotated[str, Form()] = "",
        calling_ae_title: Annotated[str, Form(max_length=16)] = "SCANNER",
        file: Annotated[UploadFile | None, File()] = None,
    ) -> Response:
        problem, selection, blocked = "", None, None
        try:
            rule = rule_from_table(_table_of(definition))
            rulebook.require_usable([replace(rule, enabled=True)], site.directory.settings)
            rules = rulebook.replaced([one.rule for one in in_force()], rule)
            content = file.file.read(_LARGEST_SAMPLE) if file is not None else b""
            lookup, sender, attributes = _sample(site, content, header, series_id, calling_ae_title)
            if lookup is not None:
                selection = select(rules, lookup, sender)
                blocked = find_marks(attributes, own, lambda _: False) if attributes is not None else None
        except AthanorError as error:
            problem = str(error)
        return site.page(request, "rule_test.html", problem=problem, selection=_shown(selection), blocked=blocked)

    @routes.act("/rule-rehearsal", Role.VIEWER)
    def rehearsal(request: Request, definition: Definition, days: Days = 7.0) -> Response:
        problem, found = "", None
        try:
            before = [one.rule for one in in_force()]
            rules = rulebook.replaced(before, rule_from_table(_table_of(definition)))
            with site.database.read() as connection:
                found = rehearse(connection, rules, before=before, days=days)
        except AthanorError as error:
            problem = str(error)
        return site.page(request, "rule_rehearsal.html", problem=problem, found=found)

    @routes.api("POST", "/rules/rehearsal", tags=["rules"], summary="What rules would have done in the last days")
    def api_rehearsal(body: Tables, days: Annotated[float, Query(gt=0, le=365)] = 7.0) -> dict[str, Any]:
        rules = [rule_from_table(one, f"rules[{n}]") for n, one in enumerate(body)]
        with site.database.read() as connection:
            return asdict(rehearse(connection, rules, before=[one.rule for one in in_force()], days=days))


def _sample(
    site: Site, content: bytes, header: str, series_id: int | None, calling_ae_title: str
) -> tuple[sample.Lookup | None, AssociationFacts, Attributes | None]:
    """What to try the rule on: the first that was given of file, pasted header and series."""
    sender = AssociationFacts(calling_ae_title or "SCANNER", site.settings.node.ae_title, "127.0.0.1")
    if content:
        attributes = sample.of_file(content)
        return attributes.lookup, sender, attributes
    if header.strip():
        return sample.of_text(header), sender, None
    if series_id is None:
        return None, sender, None
    with site.database.read() as connection:
        kept = reports.series_header(connection, series_id)
    if kept is None:
        raise ConfigurationError(f"series {series_id}: found no kept header; expected a series that was routed")
    attributes = Attributes.from_json(kept["attributes"])
    return (
        attributes.lookup,
        AssociationFacts(kept["calling_ae_title"], kept["called_ae_title"], kept["address"]),
        attributes,
    )


def _place_of(rules: Sequence[Rule], name: str) -> int:
    for at, rule in enumerate(rules):
        if rule.name == name:
            return at
    raise HTTPException(404, f"there is no rule {name} in force")


def _table_of(definition: str) -> dict[str, Any]:
    try:
        table = json.loads(definition)
    except (ValueError, RecursionError):
        raise ConfigurationError("rule: found no JSON; expected what the editor sends") from None
    if not isinstance(table, dict):
        raise ConfigurationError("rule: found no table; expected one")
    return table


def _name_of(table: dict[str, Any], name: str) -> str:
    """The name under which a draft is kept: the rule's own."""
    found = table.get("name") or name
    if not isinstance(found, str) or not 1 <= len(found) <= 64 or found == "new" or "/" in found:
        raise ConfigurationError("rule.name: found none; expected a name before the draft is saved")
    return found


def _shown(selection: Selection | None) -> dict[str, Any] | None:
    return selection.to_table() if selection else None


def _with_differences(history: Tables) -> Tables:
    """Each version with what changed in it, line by line, since the one before."""
    texts = [json.dumps(one["definition"], indent=2).splitlines() for one in history] + [[]]
    for one, new, old in zip(history, texts, texts[1:], strict=False):
        lines = difflib.unified_diff(old, new, lineterm="", n=1)
        one["difference"] = [line for line in lines if not line.startswith(("---", "+++", "@@"))] if old else []
    return history


_KEYWORDS = [*sorted(filter(None, keyword_dict)), *ASSOCIATION_ATTRIBUTES]
