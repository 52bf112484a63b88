"""What makes a received data set a Part 10 file: preamble, prefix, file meta information (PS3.10 7.1).

The data set itself is kept exactly as it came. The preamble is always ours and always zero, so that no
foreign bytes sit at the start of a stored file (CVE-2019-11687).
"""

from __future__ import annotations

import struct
from functools import lru_cache

from gateway.domain.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


def part10_prefix(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, source_ae_title: str) -> bytes:
    """The bytes that precede the encoded data set in its file.

    All instances of one association and presentation context share everything but the SOP Instance UID: the
    rest is encoded once.
    """
    head, tail = _around_instance_uid(sop_class_uid, transfer_syntax_uid, source_ae_title)
    instance_uid = _short_element(0x0003, b"UI", sop_instance_uid)
    length = len(head) + len(instance_uid) + len(tail)
    group_length = struct.pack("<HH2sHL", 0x0002, 0x0000, b"UL", 4, length)
    return b"".join((_PREAMBLE, group_length, head, instance_uid, tail))


_PREAMBLE = bytes(128) + b"DICM"


@lru_cache(maxsize=1024)
def _around_instance_uid(sop_class_uid: str, transfer_syntax_uid: str, source_ae_title: str) -> tuple[bytes, bytes]:
    version = struct.pack("<HH2sxxL2s", 0x0002, 0x0001, b"OB", 2, b"\x00\x01")
    head = version + _short_element(0x0002, b"UI", sop_class_uid)
    tail = b"".join(
        (
            _short_element(0x0010, b"UI", transfer_syntax_uid),
            _short_element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            _short_element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
            _short_element(0x0016, b"AE", source_ae_title),
        )
    )
    return head, tail


def _short_element(element: int, vr: bytes, value: str) -> bytes:
    """A group 0002 element in Explicit VR Little Endian, padded to even length as its VR asks."""
    encoded = value.encode("ascii")
    encoded += (b"\0" if vr == b"UI" else b" ") * (len(encoded) % 2)
    return struct.pack("<HH2sH", 0x0002, element, vr, len(encoded)) + encoded
