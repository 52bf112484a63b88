"""The top level of an encoded data set, found without building it (PS3.5 section 7).

Receiving needs some twenty values of each instance, thousands of times a minute, from bytes that a stranger
sent. One flat loop steps from element to element with its own stack, so depth costs memory instead of Python
frames; values are sliced only where they were asked for. Depth, bytes and the number of elements have limits: whoever
decodes the whole header later pays some hundred bytes of memory for an element of eight.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap
from struct import Struct
from typing import NoReturn

from pydicom.datadict import dictionary_has_tag, dictionary_VR

from gateway.errors import NotDicom

_UNDEFINED = 0xFFFFFFFF
_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})  # Float, Double Float and Pixel Data
# what names an instance, and what all text hangs on: under another VR every later reader would stumble
_STRICT_VRS = {0x00080005: b"CS", 0x00080016: b"UI", 0x00080018: b"UI", 0x0020000D: b"UI", 0x0020000E: b"UI"}
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_BYTES_OF_A_LEVEL = 16  # at least: a sequence shorter than the deepest allowed one cannot be too deep

# The VRs of PS3.5 table 7.1-2: their length has 16 bits. Every other VR has two reserved bytes and 32 bits.
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())

_NOT_PLAIN = (0, b"", 0, 0)

_header = Struct("<HHI").unpack_from
_short = Struct("<HH2sH").unpack_from
_length_16 = Struct("<H").unpack_from
_length_32 = Struct("<I").unpack_from


Encoded = bytes | mmap
"""A data set in memory, or in a file that is mapped into it."""


class Beginning(bytes):
    """The first bytes of a data set, whose length is that of the whole: enough where only pixel data follows."""

    whole_bytes: int

    @classmethod
    def of(cls, first: bytes, whole_bytes: int) -> Beginning:
        """`first`, of a data set of `whole_bytes`."""
        beginning = cls(first)
        beginning.whole_bytes = whole_bytes
        return beginning

    def __len__(self) -> int:
        """Of the whole data set."""
        return self.whole_bytes


@dataclass(frozen=True, slots=True)
class HeaderLimits:
    """What a data set may have besides its pixel data; one beyond it is refused before anything is decoded."""

    header_bytes: int = 32 * 1024 * 1024
    elements: int = 1_000_000  # and fragments; an enhanced MR of 10,000 frames has 700,000
    depth: int = 64  # sequences within sequences; Structured Reports of the field stay below 20


DEFAULT_LIMITS = HeaderLimits()


class _Budget:
    """How many elements may still come, and how deep."""

    __slots__ = ("depth", "elements", "limits", "shallow_bytes")

    def __init__(self, limits: HeaderLimits) -> None:
        self.limits = limits
        self.elements = limits.elements
        self.depth = 2 * limits.depth  # a sequence and its item
        self.shallow_bytes = _BYTES_OF_A_LEVEL * limits.depth


def find_elements(
    encoded: Encoded,
    wanted: frozenset[int],
    *,
    implicit: bool,
    start_at: int = 0,
    limits: HeaderLimits = DEFAULT_LIMITS,
) -> dict[int, bytes]:
    """The values of the `wanted` tags at the top level of a little endian data set, which begins at `start_at`.

    Raises NotDicom for bytes that are not a whole data set, for a header over its limits, for a wanted element that
    comes twice and for elements of the command or file meta groups, which have no place in a data set (PS3.5 7.1).
    Of a `Beginning` it also raises NotDicom where more of the data set is needed: ask again with the whole.
    """
    try:
        return _find(encoded, wanted, implicit=implicit, start_at=start_at, limits=limits)
    except struct.error:
        raise NotDicom(f"data set: found its first {memoryview(encoded).nbytes} bytes, expected more of it") from None


def _find(
    encoded: Encoded, wanted: frozenset[int], *, implicit: bool, start_at: int, limits: HeaderLimits
) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    budget = _Budget(limits)
    header_bytes = 0
    position, end = start_at, len(encoded)
    while position < end:
        began = position
        tag, vr, start, position = _plain(encoded, position, end) if not implicit else _NOT_PLAIN
        if not tag:
            tag, vr, start, length = _element(encoded, began, implicit=implicit)
            if tag < 0x00080000:
                raise NotDicom(
                    f"element {_named(tag)} at byte {began}: expected a data set, whose groups start at 0008; "
                    "send it without command and file meta elements"
                )
            if tag >> 16 == 0xFFFE:
                _malformed(tag, began)
            position = _after(encoded, tag, vr, start, length, budget, implicit=implicit)
        if tag not in _PIXELS:
            header_bytes += position - began
        budget.elements -= 1
        if header_bytes > limits.header_bytes or budget.elements < 0:
            _too_large(limits)
        if tag in wanted:
            _require_plain(tag, vr, found)
            found[tag] = value = encoded[start:position]
            if len(value) < position - start:
                _truncated(tag, position, start + len(value))
    return found


def _plain(encoded: Encoded, position: int, end: int) -> tuple[int, bytes, int, int]:
    """(tag, VR, where the value starts, where it ends) of a whole element with a short length; tag 0 for any other.

    Most elements are of this kind, and receiving looks at thousands of them a second.
    """
    if position + 8 > end:
        return _NOT_PLAIN
    group, element, vr, length = _short(encoded, position)
    following = position + 8 + length
    if vr not in _SHORT_VRS or not 0x0008 <= group < 0xFFFE or following > end:
        return _NOT_PLAIN
    return group << 16 | element, vr, position + 8, following


def find_items(sequence: bytes, *, implicit: bool) -> Iterator[bytes]:
    """The items of a sequence whose value is `sequence`, each as a data set of its own (PS3.5 7.5).

    Raises NotDicom for bytes that are no whole items.
    """
    budget = _Budget(DEFAULT_LIMITS)
    position, end = 0, len(sequence)
    while position < end:
        tag, _, start, length = _element(sequence, position, implicit=True)
        if tag == _SEQUENCE_END:
            return
        if tag != _ITEM:
            _malformed(tag, position)
        if length != _UNDEFINED:
            position = start + length
            if position > end:
                _truncated(tag, position, end)
            yield sequence[start:position]
            continue
        position = start
        while True:
            tag, vr, value, length = _element(sequence, position, implicit=implicit)
            if tag == _ITEM_END:
                break
            position = _after(sequence, tag, vr, value, length, budget, implicit=implicit)
        yield sequence[start:position]
        position = value


def _element(encoded: Encoded, position: int, *, implicit: bool) -> tuple[int, bytes, int, int]:
    """(tag, VR or b"" when implicit, where the value starts, its length) of the element at `position`."""
    if position + 8 > len(encoded):
        left = len(encoded) - position
        raise NotDicom(f"byte {position}: found {left} more bytes, expected an element of at least 8; it is cut off")
    group, element, length = _header(encoded, position)
    tag = group << 16 | element
    if implicit or group == 0xFFFE:
        return tag, b"", position + 8, length
    vr = encoded[position + 4 : position + 6]
    if vr in _SHORT_VRS:
        return tag, vr, position + 8, _length_16(encoded, position + 6)[0]
    if not (vr.isalpha() and vr.isupper()):
        raise NotDicom(
            f"element {_named(tag)} at byte {position}: found other bytes for a value representation, expected "
            "two capital letters; the data set is not in the transfer syntax of its presentation context"
        )
    if position + 12 > len(encoded):
        _truncated(tag, position + 12, len(encoded))
    return tag, vr, position + 12, _length_32(encoded, position + 8)[0]


def _after(encoded: Encoded, tag: int, vr: bytes, start: int, length: int, budget: _Budget, *, implicit: bool) -> int:
    """Where the element ends whose value starts at `start`."""
    if length == _UNDEFINED:
        if vr in (b"", b"SQ", b"UN"):
            return _after_sequence(encoded, tag, start, length, budget, implicit=implicit or vr == b"UN")
        return _after_fragments(encoded, tag, start, budget)
    end = start + length
    if end > len(encoded):
        _truncated(tag, end, len(encoded))
    if length and _is_sequence(tag, vr):
        if length > budget.shallow_bytes:
            return _after_sequence(encoded, tag, start, length, budget, implicit=implicit)
        budget.elements -= length // _BYTES_OF_A_LEVEL  # not looked at: about as many as it can have
    return end


def _after_sequence(encoded: Encoded, tag: int, position: int, length: int, budget: _Budget, *, implicit: bool) -> int:
    """Where the sequence ends; PS3.5 7.5.

    `open_ends` holds where each open sequence and item ends, -1 for "at its delimiter", and whether it is in
    implicit VR, as a UN of undefined length is whatever surrounds it (PS3.5 6.2.2).
    """
    open_ends = [(-1 if length == _UNDEFINED else position + length, implicit)]
    while open_ends:
        end, implicit = open_ends[-1]
        if position == end:
            open_ends.pop()
            continue
        inner, vr, start, length = _element(encoded, position, implicit=implicit)
        if inner in (_ITEM_END, _SEQUENCE_END):
            if end != -1:
                _malformed(tag, position)
            open_ends.pop()
            position = start
        elif inner == _ITEM or _is_sequence(inner, vr) or (length == _UNDEFINED and vr in (b"", b"UN")):
            inner_end = -1 if length == _UNDEFINED else start + length
            if max(inner_end, start) > (len(encoded) if end == -1 else end):
                _malformed(tag, position)
            open_ends.append((inner_end, implicit or (vr == b"UN" and length == _UNDEFINED)))
            position = start
        else:
            position = _after_fragments(encoded, inner, start, budget) if length == _UNDEFINED else start + length
            if position > (len(encoded) if end == -1 else end):
                _malformed(tag, position)
        budget.elements -= 1
        if budget.elements < 0:
            _too_large(budget.limits)
        if len(open_ends) > budget.depth:
            raise NotDicom(
                f"element {_named(tag)}: found sequences nested deeper than {budget.limits.depth} levels; "
                "no device makes such an image; if one does, raise listener.max_sequence_depth"
            )
    return position


def _after_fragments(encoded: Encoded, tag: int, position: int, budget: _Budget) -> int:
    """Where an encapsulated value ends, such as the pixel data of an icon; PS3.5 A.4."""
    while True:
        inner, _, start, length = _element(encoded, position, implicit=True)
        if inner == _SEQUENCE_END:
            return start
        if inner != _ITEM or length == _UNDEFINED:
            _malformed(tag, position)
        position = start + length
        if position > len(encoded):
            _truncated(tag, position, len(encoded))
        budget.elements -= 1
        if budget.elements < 0:
            _too_large(budget.limits)


def _require_plain(tag: int, vr: bytes, found: dict[int, bytes]) -> None:
    """Raise NotDicom when readers could disagree about the value of this element."""
    if tag in found:
        raise NotDicom(f"element {_named(tag)}: found it twice, expected it once (PS3.5 7.1); correct the sender")
    expected = _STRICT_VRS.get(tag)
    if expected is not None and vr not in (expected, b"UN", b""):
        raise NotDicom(
            f"element {_named(tag)}: found value representation {vr.decode('ascii')}, "
            f"expected {expected.decode('ascii')} (PS3.6); correct the sender"
        )


def _is_sequence(tag: int, vr: bytes) -> bool:
    if vr:
        return vr == b"SQ"
    return dictionary_has_tag(tag) and dictionary_VR(tag) == "SQ"


def _named(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _truncated(tag: int, expected: int, found: int) -> NoReturn:
    raise NotDicom(
        f"element {_named(tag)}: found {found} bytes of data set, expected {expected} or more; it is cut off"
    )


def _too_large(limits: HeaderLimits) -> NoReturn:
    raise NotDicom(
        f"data set: found more than {limits.header_bytes} bytes besides pixel data, or {limits.elements} elements; "
        "no device makes such an image; if one does, raise listener.max_header_bytes or listener.max_header_elements"
    )


def _malformed(tag: int, position: int) -> NoReturn:
    raise NotDicom(
        f"element {_named(tag)}: found items at byte {position} that do not fit into each other; "
        "the data set is damaged"
    )
