"""STOW-RS, origin server (PS3.18 10.5): instances come in over HTTP with the promises of C-STORE.

200 all are stored, 202 some, 409 none; what is named in Referenced SOP Sequence is durable when the answer leaves.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from gateway import logs
from gateway.admin.senders import Senders
from gateway.admin.stow_request import BodyMalformed, Outcome, StowRequest
from gateway.domain.uids import is_valid_uid
from gateway.network.contexts import IMAGE_STORAGE, decodable_transfer_syntaxes
from gateway.network.receiver import AssociationEnd, AssociationInfo, Receiver
from gateway.network.statuses import OUT_OF_RESOURCES
from gateway.network.upper_layer import MINIMUM_BYTES_PER_S

log = logs.get("stow")

_JSON = "application/dicom+json"


class TooSlow(Exception):  # noqa: N818 - the statement, not the suffix, says what it is
    """The body came more slowly than the minimum rate."""


def router(receiver: Receiver, senders: Senders, called_ae_title: str, patience_s: float) -> APIRouter:
    """The two store transactions; a body may take `patience_s` seconds, then a minimum rate is asked of it."""
    routes = APIRouter(prefix="/dicom-web", tags=["STOW-RS"])

    async def store(request: Request, study_instance_uid: str | None) -> Response:
        sender = senders.sender_of(request)
        boundary = _boundary(request)
        if isinstance(boundary, Response):
            return boundary
        if study_instance_uid is not None and not is_valid_uid(study_instance_uid):
            return _problem(400, "study: found no UID in the address; expected digits and dots (PS3.5 9.1)")
        info = _info(request, sender, called_ae_title)
        with logs.bind(association=info.id):
            return await _receive(request, info, receiver, boundary, study_instance_uid, patience_s)

    @routes.post("/studies", summary="Store instances", status_code=200)
    async def store_instances(request: Request) -> Response:
        return await store(request, None)

    @routes.post("/studies/{study_instance_uid}", summary="Store instances of one study", status_code=200)
    async def store_study(request: Request, study_instance_uid: str) -> Response:
        return await store(request, study_instance_uid)

    return routes


async def _receive(
    request: Request,
    info: AssociationInfo,
    receiver: Receiver,
    boundary: str,
    study_instance_uid: str | None,
    patience_s: float,
) -> Response:
    try:
        body = StowRequest(info, receiver, boundary, _accepted_syntaxes, study_instance_uid)
    except BodyMalformed as error:
        return _problem(400, str(error))
    how: AssociationEnd = "aborted"
    await run_in_threadpool(receiver.association_opened, info)
    try:
        await _feed(request, body, patience_s)
        how = "released"
    except (BodyMalformed, TooSlow, ClientDisconnect) as error:
        # what was stored before stays stored, and the sender will repeat it
        log.warning("request ended early", reason=str(error) or type(error).__name__, stored=len(body.outcomes))
        return _problem(408 if isinstance(error, TooSlow) else 400, str(error))
    finally:
        await run_in_threadpool(_end, body, receiver, info, how)
    return _answer(body.outcomes)


async def _feed(request: Request, body: StowRequest, patience_s: float) -> None:
    began, received = time.monotonic(), 0
    pieces = request.stream().__aiter__()
    while True:
        left_s = began + patience_s + received / MINIMUM_BYTES_PER_S - time.monotonic()
        try:
            piece = await asyncio.wait_for(anext(pieces, None), max(0.0, left_s))
        except TimeoutError:
            raise TooSlow(f"body: found {received} bytes in {time.monotonic() - began:.0f} s; send faster") from None
        if piece is None:
            break
        received += len(piece)
        await run_in_threadpool(body.feed, piece)
    body.close()


def _end(body: StowRequest, receiver: Receiver, info: AssociationInfo, how: AssociationEnd) -> None:
    body.abandon()
    receiver.association_ended(info, how)


def _boundary(request: Request) -> str | Response:
    """The boundary of the body, or the answer that refuses the request."""
    accept = request.headers.get("accept", "*/*")
    if not any(kind in accept for kind in (_JSON, "application/json", "application/*", "*/*")):
        return _problem(406, f"Accept: found {accept[:64]}; expected {_JSON}")
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/related" or options.get(b"type") not in (b"application/dicom", None):
        found = kind.decode("latin-1")[:64]
        return _problem(415, f'Content-Type: found {found}; expected multipart/related; type="application/dicom"')
    boundary = options.get(b"boundary", b"")
    if not boundary:
        return _problem(400, "Content-Type: found no boundary; expected one (RFC 2046 5.1.1)")
    return boundary.decode("latin-1")


def _accepted_syntaxes(sop_class_uid: str) -> frozenset[str]:
    return frozenset(decodable_transfer_syntaxes()) if sop_class_uid in IMAGE_STORAGE else frozenset()


def _info(request: Request, sender: str, called_ae_title: str) -> AssociationInfo:
    client = request.client
    return AssociationInfo(
        id=str(uuid.uuid4()),
        calling_ae_title=sender,
        called_ae_title=called_ae_title,
        address=client.host if client else "",
        port=client.port if client else 0,
        implementation_class_uid="",
        implementation_version_name="STOW-RS",
        opened_at=datetime.now(UTC),
    )


def _answer(outcomes: Sequence[Outcome]) -> Response:
    """The store response (PS3.18 10.5.3, Annex I): which instances are stored, and why the others are not."""
    stored = [outcome for outcome in outcomes if outcome.status == 0]
    failed = [outcome for outcome in outcomes if outcome.status != 0 and outcome.sop_instance_uid]
    unnamed = [outcome for outcome in outcomes if not outcome.sop_instance_uid]
    if not outcomes:
        return _problem(400, "body: found no part; expected at least one of type application/dicom")
    data_set = {
        **_sequence("00081199", stored, _reference),
        **_sequence("00081198", failed, lambda outcome: _reference(outcome) | _reason(outcome)),
        **_sequence("0008119A", unnamed, _reason),  # Other Failures Sequence
    }
    full = all(outcome.status == OUT_OF_RESOURCES for outcome in outcomes)
    code = 200 if len(stored) == len(outcomes) else 202 if stored else 503 if full else 409
    headers = {"Retry-After": "60"} if code == 503 else {}
    return JSONResponse(data_set, code, headers, media_type=_JSON)


def _sequence(tag: str, outcomes: Sequence[Outcome], item: Callable[[Outcome], dict[str, Any]]) -> dict[str, Any]:
    return {tag: {"vr": "SQ", "Value": [item(outcome) for outcome in outcomes]}} if outcomes else {}


def _reference(outcome: Outcome) -> dict[str, Any]:
    return {
        "00081150": {"vr": "UI", "Value": [outcome.sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [outcome.sop_instance_uid]},
    }


def _reason(outcome: Outcome) -> dict[str, Any]:
    return {"00081197": {"vr": "US", "Value": [outcome.status]}}


def _problem(code: int, words: str) -> Response:
    log.warning("request refused", code=code, reason=words)
    return JSONResponse({"error": words}, code)
