"""The top level of an encoded data set, found without building it (PS3.5 section 7).

Receiving needs some twenty values of each instance, thousands of times a minute, from bytes that a stranger
sent. One flat loop steps from element to element with its own stack, so depth costs memory instead of Python
frames and is bounded; values are sliced only where they were asked for.
"""

from __future__ import annotations

from struct import Struct
from typing import NoReturn

from pydicom.datadict import dictionary_has_tag, dictionary_VR

from gateway.errors import NotDicom

_MAX_DEPTH = 64  # sequences within sequences; Structured Reports of the field stay below 20
_UNDEFINED = 0xFFFFFFFF
_PIXELS = 0x7FE00008  # Float, Double Float and Pixel Data follow; nothing after them is of interest here
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_SHALLOW_BYTES = 16 * _MAX_DEPTH  # a level costs 16 bytes at least, so a shorter value cannot be too deep

# The VRs of PS3.5 table 7.1-2: their length has 16 bits. Every other VR has two reserved bytes and 32 bits.
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())

_header = Struct("<HHI").unpack_from
_length_16 = Struct("<H").unpack_from
_length_32 = Struct("<I").unpack_from


def find_elements(encoded: bytes, wanted: frozenset[int], *, implicit: bool) -> dict[int, bytes]:
    """The values of the `wanted` tags at the top level of a little endian data set, before its pixel data.

    Raises NotDicom for bytes that are not a whole data set, for sequences nested deeper than 64 and for
    elements of the command or file meta groups, which have no place in a data set (PS3.5 7.1).
    """
    found: dict[int, bytes] = {}
    position, end = 0, len(encoded)
    while position < end:
        tag, vr, start, length = _element(encoded, position, implicit=implicit)
        if tag < 0x00080000:
            raise NotDicom(
                f"element {_named(tag)} at byte {position}: expected a data set, whose groups start at 0008; "
                "send it without command and file meta elements"
            )
        if tag >= _PIXELS:
            if length != _UNDEFINED and start + length > end:
                _truncated(tag, start + length, end)
            break
        position = _after(encoded, tag, vr, start, length, implicit=implicit)
        if tag in wanted:
            found[tag] = encoded[start:position]
    return found


def _element(encoded: bytes, position: int, *, implicit: bool) -> tuple[int, bytes, int, int]:
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
            f"element {_named(tag)} at byte {position}: found {vr!r} for a value representation, expected "
            "two capital letters; the data set is not in the transfer syntax of its presentation context"
        )
    if position + 12 > len(encoded):
        _truncated(tag, position + 12, len(encoded))
    return tag, vr, position + 12, _length_32(encoded, position + 8)[0]


def _after(encoded: bytes, tag: int, vr: bytes, start: int, length: int, *, implicit: bool) -> int:
    """Where the element ends whose value starts at `start`."""
    if length == _UNDEFINED:
        if vr in (b"", b"SQ", b"UN"):
            return _after_sequence(encoded, tag, start, length, implicit=implicit or vr == b"UN")
        return _after_fragments(encoded, tag, start)
    end = start + length
    if end > len(encoded):
        _truncated(tag, end, len(encoded))
    if length > _SHALLOW_BYTES and _is_sequence(tag, vr):
        return _after_sequence(encoded, tag, start, length, implicit=implicit)
    return end


def _after_sequence(encoded: bytes, tag: int, position: int, length: int, *, implicit: bool) -> int:
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
            position = _after_fragments(encoded, inner, start) if length == _UNDEFINED else start + length
            if position > (len(encoded) if end == -1 else end):
                _malformed(tag, position)
        if len(open_ends) > 2 * _MAX_DEPTH:
            raise NotDicom(
                f"element {_named(tag)}: found sequences nested deeper than {_MAX_DEPTH} levels; "
                "no device makes such an image"
            )
    return position


def _after_fragments(encoded: bytes, tag: int, position: int) -> int:
    """Where an encapsulated value ends, such as the pixel data of an icon; PS3.5 A.4."""
    while True:
        inner, _, start, length = _element(encoded, position, implicit=True)
        if inner == _SEQUENCE_END:
            return start
        if inner != _ITEM or length == _UNDEFINED:
            _malformed(tag, position)
        position = start + length


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


def _malformed(tag: int, position: int) -> NoReturn:
    raise NotDicom(
        f"element {_named(tag)}: found items at byte {position} that do not fit into each other; "
        "the data set is damaged"
    )
