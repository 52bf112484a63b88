"""C-STORE of bytes that no file holds: what a broken or hostile peer sends."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from gateway.network.destination import Clock, DestinationAddress
from gateway.network.dimse import CommandField
from gateway.network.negotiation import ProposedContext
from gateway.network.requestor import open_association


def encoded(path: Path, **changes: object) -> bytes:
    """The data set of a file, with some attributes changed whatever their values, as C-STORE carries it."""
    ds = pydicom.dcmread(path)
    with pydicom.config.disable_value_validation():
        for keyword, value in changes.items():
            setattr(ds, keyword, value)
        ds.save_as(buffer := BytesIO())
    content = buffer.getvalue()
    # PS3.10 7.1: the group length says where the data set begins
    return content[144 + int.from_bytes(content[140:144], "little") :]


def store(port: int, data_set: bytes, sop_instance_uid: str, calling_ae_title: str = "RAW") -> tuple[int, str]:
    """Status and Error Comment that answer one C-STORE of these very bytes."""
    address = DestinationAddress("ATHANOR", "127.0.0.1", port, calling_ae_title)
    proposed = [ProposedContext(MRImageStorage, ExplicitVRLittleEndian)]
    association = open_association(address, proposed, Clock(address))
    (context,) = association.contexts.values()
    step = association.piece_bytes
    pieces = (data_set[start : start + step] for start in range(0, len(data_set), step))
    answer = association.request(context, CommandField.C_STORE_RQ, sop_instance_uid, pieces)
    association.release()
    assert answer.status is not None
    return answer.status, answer.error_comment or ""
