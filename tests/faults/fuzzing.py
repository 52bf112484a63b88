"""Mutated DICOM: data sets, command sets, PDUs and their order, each case a function of a seed and a number.

Nothing here uses our own encoders, so that no fault of ours can hide in both peers.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
MR, CT, VERIFICATION = b"1.2.840.10008.5.1.4.1.1.4", b"1.2.840.10008.5.1.4.1.1.2", b"1.2.840.10008.1.1"
EXPLICIT, IMPLICIT, DEFLATED = b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1.99"
JPEG_2000 = b"1.2.840.10008.1.2.4.90"

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
C_STORE_RQ, C_ECHO_RQ = 0x0001, 0x0030

_UNDEFINED = 0xFFFFFFFF
_NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    8,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x10000,
    0x7FFFFFFF,
    0xFFFFFFFE,
    _UNDEFINED,
)
_UIDS = (
    b"", b"\0", b"..", b"../../../../tmp/fuzz", b"/etc/passwd", b"1.2.3\0../x", b"1.2.3\0", b" 1.2.3 ", b"1..2", b".1",
    b"1.", b"1." + b"2" * 62, b"1." + b"2" * 63, b"9" * 64, b"1.2\\3.4", b"1.2.3\n", b"\xff\xfe", b"1.02.3", b"-1.2",
    b"%s%n", b"1.2.a", b"\xd9\xa1.\xd9\xa2", b"A" * 5000,
)  # fmt: skip
_CHARACTER_SETS = (
    b"", b"ISO_IR 192", b"ISO_IR 100", b"\\ISO 2022 IR 87", b"ISO 2022 IR 6\\ISO 2022 IR 149", b"GB18030", b"UTF-8",
    b"\\" * 40, b"ISO_IR 999", b"\0\0", b"iso8859", b"undefined\\hex", b"ISO_IR 192\\ISO 2022 IR 87",
)  # fmt: skip
_TEXTS = (
    b"\x1b$B\x1b$B",
    b"\xff" * 9,
    b"\0" * 8,
    b"\\" * 300,
    b"^" * 90,
    b"\x1b",
    b"1e400",
    b"NaN",
    b"-0",
    b"9" * 400,
    b"'; DROP--",
)
_TAGS = (
    0x00000002, 0x00020010, 0x00080005, 0x00080016, 0x00080018, 0x0020000D, 0x0020000E, 0x00280008, 0x00281052,
    0x00091001, 0x52009230, 0x7FE00010, 0x7FE00008, 0xFFFCFFFC, 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD, 0xFFFFFFFF,
)  # fmt: skip
_VRS = (
    b"SQ",
    b"UN",
    b"OB",
    b"OW",
    b"UI",
    b"UT",
    b"UC",
    b"LO",
    b"PN",
    b"US",
    b"AT",
    b"\0\0",
    b"ZZ",
    b"zz",
    b"S\xff",
    b"OV",
)
_LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))

Mutator = Callable[[random.Random, list[bytes], bool], None]


# --- data sets


def element(tag: int, vr: bytes, value: bytes, *, implicit: bool, length: int | None = None) -> bytes:
    """An element; `length` may lie."""
    size = len(value) if length is None else length
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if implicit:
        return head + struct.pack("<I", size) + value
    if vr in _LONG_VRS:
        return head + vr + struct.pack("<2xI", size) + value
    return head + vr + struct.pack("<H", size & 0xFFFF) + value


def even(value: bytes, padding: bytes = b"\0") -> bytes:
    """`value` with even length."""
    return value + padding * (len(value) % 2)


def item(content: bytes, *, undefined: bool) -> bytes:
    """An item of a sequence."""
    if undefined:
        return struct.pack("<HHI", 0xFFFE, 0xE000, _UNDEFINED) + content + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content


def sequence(tag: int, items: Sequence[bytes], *, implicit: bool, undefined: bool) -> bytes:
    """A sequence of encoded items."""
    content = b"".join(items)
    if undefined:
        end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
        return element(tag, b"SQ", content + end, implicit=implicit, length=_UNDEFINED)
    return element(tag, b"SQ", content, implicit=implicit)


def nested(depth: int, *, implicit: bool, undefined: bool) -> bytes:
    """A sequence within a sequence within ..., `depth` of them."""
    if undefined:
        head = element(0x00081140, b"SQ", b"", implicit=implicit, length=_UNDEFINED)
        begin, end = (
            struct.pack("<HHI", 0xFFFE, 0xE000, _UNDEFINED),
            struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0),
        )
        return (head + begin) * depth + end * depth
    step = 8 + (8 if implicit else 12)
    levels = []
    for left in range(depth - 1, -1, -1):
        levels.append(element(0x00081140, b"SQ", b"", implicit=implicit, length=8 + left * step))
        levels.append(struct.pack("<HHI", 0xFFFE, 0xE000, left * step))
    return b"".join(levels)


def plain_elements(sop_class: bytes, uid: bytes, series: int, *, implicit: bool, encapsulated: bool) -> list[bytes]:
    """The elements of a small image that is in order."""
    make = partial(element, implicit=implicit)
    inner = make(0x00081150, b"UI", even(sop_class)) + make(0x00081155, b"UI", even(b"1.2.3.4"))
    pixels = bytes(range(64))
    if encapsulated:
        fragments = struct.pack("<HHI", 0xFFFE, 0xE000, 0) + struct.pack("<HHI", 0xFFFE, 0xE000, 64) + pixels
        end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
        pixel_data = make(0x7FE00010, b"OB", fragments + end, length=_UNDEFINED)
    else:
        pixel_data = make(0x7FE00010, b"OW", pixels)
    return [
        make(0x00080005, b"CS", b"ISO_IR 192"),
        make(0x00080008, b"CS", b"ORIGINAL\\PRIMARY\\M "),
        make(0x00080016, b"UI", even(sop_class)),
        make(0x00080018, b"UI", even(uid)),
        make(0x00080020, b"DA", b"20260101"),
        make(0x00080060, b"CS", b"MR"),
        make(0x00080070, b"LO", b"Maker "),
        make(0x0008103E, b"LO", even("Wirbelsäule".encode(), b" ")),
        sequence(0x00081140, [item(inner, undefined=False)] * 2, implicit=implicit, undefined=False),
        sequence(0x00082218, [item(inner, undefined=True)], implicit=implicit, undefined=True),
        make(0x00090010, b"LO", b"FUZZ BLOCK"),
        make(0x00091001, b"UN", b"\1\2\3\4"),
        make(0x00100010, b"PN", b"Fuzz^Patient"),
        make(0x00100020, b"LO", b"FUZZ-1"),
        make(0x0020000D, b"UI", even(b"2.25.1%07d" % series)),
        make(0x0020000E, b"UI", even(b"2.25.2%07d" % series)),
        make(0x00200011, b"IS", b"7 "),
        make(0x00200013, b"IS", b"12"),
        make(0x00200032, b"DS", b"-10.5\\-70\\80 "),
        make(0x00200037, b"DS", b"1\\0\\0\\0\\1\\0 "),
        make(0x00280002, b"US", b"\1\0"),
        make(0x00280010, b"US", b"\10\0"),
        make(0x00280011, b"US", b"\4\0"),
        make(0x00280100, b"US", b"\20\0"),
        pixel_data,
    ]


_UID_ELEMENTS = (2, 3, 14, 15)  # SOP Class, SOP Instance, Study and Series


def _flip(choose: random.Random, parts: list[bytes], implicit: bool) -> None:
    del implicit
    index = choose.randrange(len(parts))
    changed = bytearray(parts[index])
    for _ in range(choose.choice((1, 1, 2, 8))):
        changed[choose.randrange(len(changed))] ^= 1 << choose.randrange(8)
    parts[index] = bytes(changed)


def _number(choose: random.Random, parts: list[bytes], implicit: bool) -> None:
    """A length, or whatever else stands there, becomes another number."""
    del implicit
    index = choose.randrange(len(parts))
    changed = bytearray(parts[index])
    at = choose.choice((4, 6, 8, choose.randrange(len(changed))))
    width = choose.choice((2, 4))
    changed[at : at + width] = (choose.choice(_NUMBERS) & (256**width - 1)).to_bytes(width, "little")
    parts[index] = bytes(changed)


def _truncate(choose: random.Random, parts: list[bytes], implicit: bool) -> None:
    del implicit
    whole = b"".join(parts)
    parts[:] = [whole[: choose.randrange(len(whole))]]


def _cut(choose: random.Random, parts: list[bytes], implicit: bool) -> None:
    """Bytes are missing, or there are more."""
    del implicit
    index = choose.randrange(len(parts))
    part, at = parts[index], choose.randrange(len(parts[index]))
    size = choose.choice((1, 2, 8, 40))
    parts[index] = (
        part[:at] + part[at + size :] if choose.random() < 0.5 else part[:at] + choose.randbytes(size) + part[at:]
    )


def _shuffle(choose: random.Random, parts: list[bytes], implicit: bool) -> None:
    del implicit
    act = choose.randrange(3)
    first, second = choose.randrange(len(parts)), choose.randrange(len(parts))
    if act == 0:
        parts[first], parts[second] = parts[second], parts[first]
    elif act == 1:
        parts.insert(first, parts[second])
    elif len(parts) > 1:
        del parts[first]


def _another_tag(choose: random.Random, parts: list[bytes], implicit: bool) -> None:
    del implicit
    index, tag = choose.randrange(len(parts)), choose.choice(_TAGS)
    parts[index] = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + parts[index][4:]


def _another_vr(choose: random.Random, parts: list[bytes], implicit: bool) -> None:
    del implicit
    index = choose.randrange(len(parts))
    parts[index] = parts[index][:4] + choose.choice(_VRS) + parts[index][6:]


def _another_uid(choose: random.Random, parts: list[bytes], implicit: bool) -> None:
    index = choose.choice(_UID_ELEMENTS) % len(parts)
    group, number = struct.unpack_from("<HH", parts[index].ljust(4, b"\0"))
    parts[index] = element(group << 16 | number, b"UI", choose.choice(_UIDS), implicit=implicit)


def _another_text(choose: random.Random, parts: list[bytes], implicit: bool) -> None:
    if choose.random() < 0.4:
        parts[0] = element(0x00080005, b"CS", choose.choice(_CHARACTER_SETS), implicit=implicit)
        return
    tag, vr = choose.choice(
        ((0x00100010, b"PN"), (0x0008103E, b"LO"), (0x00200013, b"IS"), (0x00200032, b"DS"), (0x00280008, b"IS"))
    )
    parts.insert(len(parts) // 2, element(tag, vr, choose.choice(_TEXTS), implicit=implicit))


def _deep(choose: random.Random, parts: list[bytes], implicit: bool) -> None:
    depth = choose.choice((3, 63, 64, 65, 66, 300, 1000))
    content = nested(depth, implicit=implicit, undefined=choose.random() < 0.5)
    parts.insert(min(8, len(parts)), content[: choose.choice((len(content), choose.randrange(1, len(content))))])


def _many(choose: random.Random, parts: list[bytes], implicit: bool) -> None:
    """Many empty elements, or an item that holds them."""
    run = b"".join(
        element(0x00190000 | 0x1000 + n, b"UN", b"", implicit=implicit) for n in range(choose.choice((50, 400)))
    )
    if choose.random() < 0.5:
        run = sequence(
            0x00081140, [item(run, undefined=choose.random() < 0.5)], implicit=implicit, undefined=choose.random() < 0.5
        )
    parts.insert(min(10, len(parts)), run)


def _deflate(choose: random.Random, parts: list[bytes], implicit: bool) -> None:
    """A deflated data set where none was agreed."""
    del choose, implicit
    packer = zlib.compressobj(wbits=-15)
    parts[:] = [packer.compress(b"".join(parts)) + packer.flush()]


def _noise(choose: random.Random, parts: list[bytes], implicit: bool) -> None:
    del implicit
    parts[:] = [choose.randbytes(choose.choice((1, 7, 8, 12, 200)))]


_MUTATORS: tuple[Mutator, ...] = (
    *(_flip, _number, _truncate, _cut, _shuffle, _another_tag, _another_vr, _another_uid, _another_text) * 3,
    *(_deep, _many, _deflate, _noise),
)


@dataclass(frozen=True, slots=True)
class DataSetCase:
    """One C-STORE that is in order but for its data set."""

    context_id: int
    sop_class: bytes
    transfer_syntax: bytes
    uid: bytes
    data_set: bytes
    is_in_order: bool


CONTEXTS = {1: (MR, EXPLICIT), 3: (MR, IMPLICIT), 5: (CT, JPEG_2000), 7: (VERIFICATION, IMPLICIT)}
"""The presentation contexts that the cases use, by id."""


def data_set_case(seed: int, number: int) -> DataSetCase:
    """The case of this seed and number."""
    choose = random.Random(f"data set {seed} {number}")
    context_id = choose.choice((1, 1, 3, 3, 5))
    sop_class, syntax = CONTEXTS[context_id]
    uid = b"2.25.3%d%09d" % (seed, number)
    implicit = syntax == IMPLICIT
    parts = plain_elements(sop_class, uid, number % 50, implicit=implicit, encapsulated=syntax == JPEG_2000)
    in_order = choose.random() < 0.1
    if not in_order:
        for _ in range(choose.choice((1, 1, 1, 2, 3))):
            choose.choice(_MUTATORS)(choose, parts, implicit)
            parts = [part for part in parts if part] or [b"\0"]
    return DataSetCase(context_id, sop_class, syntax, uid, b"".join(parts), in_order)


# --- PDUs


def pdu(kind: int, content: bytes, length: int | None = None) -> bytes:
    """A PDU; `length` may lie."""
    return struct.pack(">BxI", kind & 0xFF, len(content) if length is None else length & _UNDEFINED) + content


def pdv(context_id: int, flags: int, value: bytes, length: int | None = None) -> bytes:
    """A presentation data value (PS3.8 9.3.5.1): flags 1 for a command, 2 for the last fragment."""
    size = len(value) + 2 if length is None else length & _UNDEFINED
    return struct.pack(">IBB", size, context_id & 0xFF, flags & 0xFF) + value


def sub_item(kind: int, content: bytes, length: int | None = None) -> bytes:
    """An item of an A-ASSOCIATE-RQ."""
    return struct.pack(">BxH", kind & 0xFF, (len(content) if length is None else length) & 0xFFFF) + content


def command_set(elements: Sequence[tuple[int, bytes]], group_length: int | None = None) -> bytes:
    """A command set in Implicit VR Little Endian (PS3.7 6.3.1)."""
    body = b"".join(struct.pack("<HHI", 0, number, len(value)) + value for number, value in elements)
    return struct.pack("<HHII", 0, 0, 4, len(body) if group_length is None else group_length) + body


def store_elements(sop_class: bytes, uid: bytes, message_id: int) -> list[tuple[int, bytes]]:
    """The elements of a C-STORE-RQ (PS3.7 9.3.1.1)."""
    return [
        (0x0002, even(sop_class)), (0x0100, struct.pack("<H", C_STORE_RQ)), (0x0110, struct.pack("<H", message_id)),
        (0x0700, b"\0\0"), (0x0800, b"\1\0"), (0x1000, even(uid)),
    ]  # fmt: skip


def store_pdus(context_id: int, sop_class: bytes, uid: bytes, message_id: int, data_set: bytes) -> bytes:
    """A C-STORE as two PDUs."""
    command = command_set(store_elements(sop_class, uid, message_id))
    return pdu(P_DATA, pdv(context_id, 3, command)) + pdu(P_DATA, pdv(context_id, 2, data_set))


def echo_pdu(message_id: int) -> bytes:
    """A C-ECHO."""
    elements = [
        (0x0002, even(VERIFICATION)), (0x0100, struct.pack("<H", C_ECHO_RQ)), (0x0110, struct.pack("<H", message_id)),
        (0x0800, struct.pack("<H", 0x0101)),
    ]  # fmt: skip
    return pdu(P_DATA, pdv(7, 3, command_set(elements)))


RELEASE = pdu(RELEASE_RQ, bytes(4))


def request_items(ae_title: bytes = b"FUZZ") -> tuple[bytes, list[bytes]]:
    """What an A-ASSOCIATE-RQ for `CONTEXTS` is made of: its fixed fields, and its items."""
    fixed = struct.pack(">HH16s16s32x", 1, 0, b"ATHANOR".ljust(16), ae_title.ljust(16))
    contexts = [
        sub_item(0x20, struct.pack(">B3x", number) + sub_item(0x30, sop_class) + sub_item(0x40, syntax))
        for number, (sop_class, syntax) in CONTEXTS.items()
    ]
    user = [
        sub_item(0x51, struct.pack(">I", 16384)), sub_item(0x52, b"2.25.98765"),
        sub_item(0x53, struct.pack(">HH", 9, 9)), sub_item(0x54, struct.pack(">H", len(MR)) + MR + b"\1\1"),
        sub_item(0x55, b"FUZZER"),
    ]  # fmt: skip
    return fixed, [sub_item(0x10, APPLICATION_CONTEXT), *contexts, sub_item(0x50, b"".join(user))]


def request() -> bytes:
    """An A-ASSOCIATE-RQ that is in order."""
    fixed, items = request_items()
    return pdu(ASSOCIATE_RQ, fixed + b"".join(items))


@dataclass(frozen=True, slots=True)
class StreamCase:
    """Everything that a peer says on one transport connection."""

    sent: bytes
    uid: bytes
    data_set: bytes


def stream_case(seed: int, number: int) -> StreamCase:
    """The case of this seed and number."""
    choose = random.Random(f"stream {seed} {number}")
    uid = b"2.25.4%d%09d" % (seed, number)
    data_set = b"".join(plain_elements(MR, uid, 60, implicit=False, encapsulated=False))
    make = choose.choice((_odd_request, _odd_command, _odd_command, _odd_fragments, _odd_fragments, _odd_order))
    return StreamCase(make(choose, uid, data_set), uid, data_set)


def _odd_request(choose: random.Random, uid: bytes, data_set: bytes) -> bytes:
    fixed, items = request_items()
    act = choose.randrange(9)
    at = choose.randrange(len(items))
    if act == 0:
        items[at] = items[at][:2] + struct.pack(">H", choose.choice(_NUMBERS) & 0xFFFF) + items[at][4:]
    elif act == 1:
        items[at : at + 1] = [items[at]] * choose.choice((0, 2, 200))
    elif act == 2:
        items[at] = sub_item(choose.randrange(256), choose.randbytes(choose.choice((0, 1, 3, 40))))
    elif act == 3:
        content = sub_item(0x30, choose.choice(_UIDS)) + sub_item(0x40, choose.choice((*_UIDS, DEFLATED)))
        items[1] = sub_item(0x20, struct.pack(">B3x", choose.choice((0, 1, 2, 3, 255))) + content)
    elif act == 4:
        title = choose.choice(
            (b"FUZZ\0\0", b"", b"\0" * 16, b" " * 16, b"\x1b[31mRED", b"A\\B", b"\xff" * 16, b"F" * 16)
        )
        fixed = struct.pack(">HH16s16s32x", choose.choice((1, 1, 3, 0, 0xFFFE)), 0, b"ATHANOR\0\0", title)
    elif act == 5:
        user = [sub_item(0x51, choose.choice((b"", b"\0\0\0\0", b"\0\0\0\1", b"\xff" * 4, b"\0" * 5)))]
        user += [
            sub_item(
                choose.choice((0x52, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x99)),
                choose.randbytes(choose.randrange(12)),
            )
        ]
        items[-1] = sub_item(0x50, b"".join(user))
    whole = fixed + b"".join(items)
    if act == 6:
        changed = bytearray(whole)
        for _ in range(choose.choice((1, 4, 16))):
            changed[choose.randrange(len(changed))] = choose.randrange(256)
        whole = bytes(changed)
    length = choose.choice((len(whole) - 1, len(whole) + 7, 0, 67, 0xFFFFFFFF)) if act == 7 else None
    if act == 8:
        whole = whole[: choose.randrange(len(whole))]
    return pdu(ASSOCIATE_RQ, whole, length) + store_pdus(1, MR, uid, 1, data_set) + echo_pdu(2) + RELEASE


def _odd_command(choose: random.Random, uid: bytes, data_set: bytes) -> bytes:
    elements = store_elements(MR, uid, 1)
    at = choose.randrange(len(elements))
    number = elements[at][0]
    act = choose.randrange(7)
    if act == 0:
        del elements[at]
    elif act == 1:
        elements[at] = (number, choose.randbytes(choose.choice((0, 1, 2, 3, 70))))
    elif act == 2:
        elements[5] = (0x1000, choose.choice(_UIDS))
    elif act == 3:
        elements[1] = (
            0x0100,
            struct.pack(
                "<H", choose.choice((0x0020, 0x0021, 0x0010, 0x0030, 0x0FFF, 0x8001, 0x0140, 0x0130, 0xFFFF, 0))
            ),
        )
    elif act == 4:
        elements[4] = (0x0800, struct.pack("<H", choose.choice((0x0101, 0, 0x0102, 0xFFFF))))
    elif act == 5:
        elements.insert(
            at,
            (
                choose.choice((0x0000, 0x0002, 0x0900, 0x1005, 0x1030, 0x1031, 0xFFFF)),
                choose.randbytes(choose.choice((2, 4, 9))),
            ),
        )
    command = command_set(elements, choose.choice((None, None, 0, 7, _UNDEFINED)))
    if act == 6:
        changed = bytearray(command)
        for _ in range(choose.choice((1, 3))):
            changed[choose.randrange(len(changed))] = choose.randrange(256)
        command = bytes(changed)[: choose.choice((len(changed), len(changed), choose.randrange(len(changed))))]
    message = pdu(P_DATA, pdv(1, 3, command)) + pdu(P_DATA, pdv(1, 2, data_set))
    return request() + message + echo_pdu(2) + RELEASE


def _odd_fragments(choose: random.Random, uid: bytes, data_set: bytes) -> bytes:
    command = command_set(store_elements(MR, uid, 1))
    size = choose.choice((1, 7, 64, 500))
    pieces = [pdv(1, 0, data_set[at : at + size]) for at in range(0, len(data_set), size)]
    pieces[-1] = pieces[-1][:5] + b"\2" + pieces[-1][6:]
    pieces.insert(0, pdv(1, 3, command))
    at = choose.randrange(len(pieces))
    piece = pieces[at]
    act = choose.randrange(9)
    if act == 0:
        pieces[at] = piece[:4] + bytes((choose.randrange(256),)) + piece[5:]
    elif act == 1:
        pieces[at] = piece[:5] + bytes((choose.randrange(256),)) + piece[6:]
    elif act == 2:
        pieces[at] = struct.pack(">I", choose.choice(_NUMBERS)) + piece[4:]
    elif act == 3:
        pieces.insert(at, pdv(choose.choice((1, 1, 3)), choose.randrange(4), b""))
    elif act == 4:
        pieces.insert(at, choose.choice((pdv(1, 3, command), choose.randbytes(6), b"", b"\0\0\0\0")))
    elif act == 5:
        del pieces[at]
    elif act == 6:
        choose.shuffle(pieces)
    together = choose.choice((1, 1, 3, len(pieces) or 1))
    pdus = [pdu(P_DATA, b"".join(pieces[n : n + together])) for n in range(0, len(pieces), together)] or [b""]
    at = choose.randrange(len(pdus))
    if act == 7:
        pdus[at] = pdus[at][:2] + struct.pack(">I", choose.choice(_NUMBERS)) + pdus[at][6:]
    elif act == 8:
        pdus[at] = bytes((choose.randrange(256),)) + pdus[at][1:]
    return request() + b"".join(pdus) + echo_pdu(2) + RELEASE


def _odd_order(choose: random.Random, uid: bytes, data_set: bytes) -> bytes:
    store = store_pdus(1, MR, uid, 1, data_set)
    words = [request(), store, echo_pdu(2), RELEASE]
    others = (
        request(), pdu(RELEASE_RP, bytes(4)), pdu(ABORT, bytes(4)), pdu(ASSOCIATE_RJ, b"\0\1\1\1"),
        pdu(ASSOCIATE_AC, request()[6:]), pdu(RELEASE_RQ, b""), pdu(ABORT, b""), pdu(P_DATA, b""),
        b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\0\x01\0\1\xfc\3\3",
        b"\0", choose.randbytes(choose.choice((1, 6, 100))),
    )  # fmt: skip
    words.insert(choose.randrange(len(words) + 1), choose.choice(others))
    if choose.random() < 0.3:
        choose.shuffle(words)
    whole = b"".join(words)
    return whole[: choose.randrange(1, len(whole))] if choose.random() < 0.4 else whole
