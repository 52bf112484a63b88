"""What a STOW-RS server answers (PS3.18 10.5.3): the store response, instance by instance, and what codes mean.

The response is a data set in the DICOM JSON Model (PS3.18 F) or as Native DICOM Model (PS3.19 A.1). A server may send
anything, so nothing of its shape is taken for granted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from xml.etree import ElementTree

from gateway.network.outcomes import InstanceOutcome
from gateway.network.outgoing import OutgoingInstance
from gateway.network.statuses import PROCESSING_FAILURE, SUCCESS, describe_status, is_worth_retrying

FINAL = frozenset({400, 406, 409, 411, 414, 415, 422, 431})
"""Codes that the same request is answered with again. All others may change with the server, or its administrator."""

STORE_RESPONSE = frozenset({200, 202, 400, 409})
"""Codes that may come with a store response."""

_REFERENCED_SOP_SEQUENCE, _FAILED_SOP_SEQUENCE = "00081199", "00081198"
_REFERENCED_SOP_INSTANCE_UID = "00081155"
_FAILURE_REASON, _WARNING_REASON = "00081197", "00081196"
_DEEPEST = 8

# failure reasons of PS3.18 Table I.2-2 that C-STORE does not know
_WORDS = {
    0xC122: "Failure: transfer syntax not supported (0xC122)",
    0x0124: "Failure: not authorised (0x0124)",
}

Attributes = dict[str, list[Any]]
"""Tag -> values; an item of a sequence is an `Attributes` itself."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; `body` is empty when there was none that could be used."""

    code: int
    body: bytes = b""
    location: str = ""
    retry_after_s: float = 0.0

    @property
    def words(self) -> str:
        """The code with its name, where a redirect leads, and what to do about what an administrator repairs."""
        try:
            text = f"HTTP {self.code} {HTTPStatus(self.code).phrase}"
        except ValueError:
            text = f"HTTP {self.code}"
        if 300 <= self.code < 400:
            text += f" to {self.location or 'nowhere'}; redirects are not followed, so set stow_url to where it lives"
        elif self.code in {401, 403}:
            text += "; does token_file hold the right token, and may it store?"
        elif self.code in {404, 405}:
            text += "; is stow_url the base of its store service?"
        elif self.retry_after_s:
            text += f", to be asked again in {self.retry_after_s:.0f} s"
        return text


def outcomes_of(answer: Answer, instances: Sequence[OutgoingInstance]) -> list[InstanceOutcome]:
    """What became of each instance of a request; one that the answer does not name was not accepted."""
    response = _read(answer.body)
    taken = {_uid(item): item for item in _items(response, _REFERENCED_SOP_SEQUENCE)}
    failed = {_uid(item): item for item in _items(response, _FAILED_SOP_SEQUENCE)}
    found = []
    for instance in instances:
        uid = instance.sop_instance_uid
        if uid in failed:
            status = _number(failed[uid], _FAILURE_REASON, PROCESSING_FAILURE)
        elif uid in taken:
            status = _number(taken[uid], _WARNING_REASON, SUCCESS)
        else:
            unnamed = f"{answer.words}, and the answer does not name it"
            found.append(InstanceOutcome(uid, None, unnamed, worth_retrying=answer.code not in FINAL))
            continue
        words = _WORDS.get(status) or describe_status(status)
        found.append(InstanceOutcome(uid, status, words, is_worth_retrying(status), instance.transfer_syntax_uid))
    return found


def _read(body: bytes) -> Attributes:
    """The data set of a body, empty for one that is none."""
    text = body.lstrip()
    try:
        if text.startswith(b"<"):
            return _from_xml(text)
        document = json.loads(text)
    except (ValueError, RecursionError, ElementTree.ParseError):
        return {}
    if isinstance(document, list) and len(document) == 1:
        document = document[0]
    return _from_json(document, 0)


def _from_json(item: Any, depth: int) -> Attributes:
    if not isinstance(item, dict) or depth > _DEEPEST:
        return {}
    found: Attributes = {}
    for tag, attribute in item.items():
        values = attribute.get("Value") if isinstance(attribute, dict) else None
        if isinstance(values, list):
            found[tag.upper()] = [_from_json(one, depth + 1) if isinstance(one, dict) else one for one in values]
    return found


def _from_xml(text: bytes) -> Attributes:
    if b"<!DOCTYPE" in text:  # entities, which could unfold without end, are declared nowhere else
        return {}
    return _from_element(ElementTree.fromstring(text), 0)  # noqa: S314 - bounded, and without declarations


def _from_element(parent: ElementTree.Element, depth: int) -> Attributes:
    found: Attributes = {}
    for attribute in parent if depth <= _DEEPEST else ():
        values: list[Any] = []
        for one in attribute:
            name = one.tag.rpartition("}")[2]
            values += [_from_element(one, depth + 1)] if name == "Item" else [one.text or ""] if name == "Value" else []
        found[attribute.get("tag", "").upper()] = values
    return found


def _items(data_set: Attributes, tag: str) -> Iterator[Attributes]:
    return (item for item in data_set.get(tag, ()) if isinstance(item, dict))


def _uid(item: Attributes) -> str:
    return str(next(iter(item.get(_REFERENCED_SOP_INSTANCE_UID, ())), "")).strip(" \0")


def _number(item: Attributes, tag: str, otherwise: int) -> int:
    value = next(iter(item.get(tag, ())), None)
    try:
        number = int(value) if isinstance(value, int | str) else otherwise
    except ValueError:
        return otherwise
    return number if 0 <= number <= 0xFFFF else otherwise
