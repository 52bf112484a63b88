"""The receive stage behind a real storage SCP: what is kept, what is refused with which status, what a crash leaves."""

from __future__ import annotations

import hashlib
import struct
import threading
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
import sqlalchemy as sa
from conftest import Series, Start
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE
from small_series import instance_uids
from stage_line import Line

from gateway.network.outgoing import OutgoingInstance, data_set_pieces
from gateway.stages.receive import adopt_orphans
from gateway.store import intake, reports, tables
from gateway.store.database import Database


def encoded(path: Path, **changes: object) -> bytes:
    """The data set of a file, with some attributes changed, as C-STORE carries it."""
    ds = pydicom.dcmread(path)
    for keyword, value in changes.items():
        with pydicom.config.disable_value_validation():
            setattr(ds, keyword, value)
    ds.save_as(buffer := BytesIO())
    content = buffer.getvalue()
    return content[144 + int.from_bytes(content[140:144], "little") :]


def store(line: Line, data_set: bytes, sop_instance_uid: str, calling_ae_title: str = "RAW") -> int:
    """The status that answers one C-STORE of these very bytes, sent by a foreign peer."""
    entity = AE(calling_ae_title)
    entity.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", line.port, ae_title="ATHANOR")
    assert association.is_established
    context = association.accepted_contexts[0].context_id
    from pynetdicom.dimse_primitives import C_STORE

    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = MRImageStorage
    request._affected_sop_instance_uid = sop_instance_uid  # unchecked: a bad peer would not check either
    request.Priority = 0
    request.DataSet = BytesIO(data_set)
    association.dimse.send_msg(request, context)
    _, answer = association.dimse.get_msg(block=True)
    association.release()
    return int(answer.Status)


def quarantine(line: Line) -> list[dict[str, object]]:
    with line.database.read() as connection:
        return reports.latest_quarantine(connection, 100)


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_ok(line: Line, series: Series) -> None:
    (path,) = series(1)
    (uid,) = instance_uids([path])
    assert store(line, encoded(path), uid) == 0x0000
