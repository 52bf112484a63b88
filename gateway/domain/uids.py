"""Unique Identifiers (PS3.5 section 9): which texts are UIDs, and UIDs that follow from what they name.

A derived UID is a function of its parts, so that a second attempt at the same work names the same objects and
a different model, source or revision never does. How the UID is written depends on the root:

no root           ``2.25.<n>``, n a name-based UUID (PS3.5 B.2). Nothing may be appended to such an arc, so
                  these UIDs share no prefix and only a ledger of what was made can recognise them.
registered root   ``<root>.<n>``, n a number of at least 112 bits. Every UID below the root is ours.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import sha256
from uuid import UUID, uuid5

from gateway.errors import ConfigurationError

_MAX_LENGTH = 64
_UID = re.compile(r"[0-9]+(\.[0-9]+)*", re.ASCII)
_ROOT = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+", re.ASCII)
_MIN_DIGITS = 34  # 10**34 is a little more than 2**112
_MAX_DIGITS = 39  # 2**128 has no more
_NAMESPACE = UUID("c1ab7b0e-6f0e-4a43-9a5e-5f2d4f6e2b31")

# Roots of the standard itself, or given to everybody who uses a library: objects below them are not ours.
_SHARED_ROOTS = {
    "1.2.840.10008": "the DICOM standard",
    "1.2.826.0.1.3680043.8.498": "pydicom",
    "1.2.826.0.1.3680043.9.3811": "pynetdicom",
    "1.2.826.0.1.3680043.10.511": "highdicom",
    "1.2.276.0.7230010.3": "DCMTK",
    "2.25": "UUIDs, which take no further arcs (PS3.5 B.2)",
}


@lru_cache(maxsize=4096)  # of each instance the same few are asked again and again
def is_valid_uid(text: str) -> bool:
    """Whether `text` has the form of PS3.5 9.1: components of digits between dots, at most 64 characters.

    A leading zero in a component is against 9.1 and tolerated: devices send it, and a file name may hold it.
    """
    return len(text) <= _MAX_LENGTH and _UID.fullmatch(text) is not None


def check_root(root: str) -> str:
    """`root` as it was given, either empty (none) or a registered UID root without a trailing dot.

    Raises ConfigurationError for a text that is no root, one too long to leave room, or one of somebody else.
    """
    if not root:
        return root
    if not _ROOT.fullmatch(root):
        raise ConfigurationError(
            f"UID root: found {root!r}, expected numbers between dots such as 1.2.826.0.1.3680043.10.9999; "
            "register one or leave it empty"
        )
    if len(root) + 1 + _MIN_DIGITS > _MAX_LENGTH:
        raise ConfigurationError(
            f"UID root: found {len(root)} characters, expected at most {_MAX_LENGTH - 1 - _MIN_DIGITS}; "
            "use a shorter arc"
        )
    for shared, owner in _SHARED_ROOTS.items():
        if is_below(root, shared) or root == shared:
            raise ConfigurationError(
                f"UID root: found {root}, which belongs to {owner}; register your own root or leave it empty"
            )
    return root


def derived_uid(root: str, *parts: str) -> str:
    """The UID that `parts` name, in their order, below `root` (see `check_root`; empty: a UUID-derived UID).

    Each part is taken with its length, so ("ab", "c") and ("a", "bc") name different things.
    """
    name = "".join(f"{len(part)}:{part}" for part in parts)
    if not root:
        return f"2.25.{uuid5(_NAMESPACE, name).int}"
    digits = min(_MAX_DIGITS, _MAX_LENGTH - 1 - len(root))
    number = int.from_bytes(sha256(name.encode()).digest()) % 10**digits
    return f"{root}.{number}"


def is_below(uid: str, root: str) -> bool:
    """Whether `uid` lies below `root`; never with an empty root, which recognises nothing."""
    return bool(root) and uid.startswith(f"{root}.")


IMPLEMENTATION_CLASS_UID = "2.25.256054445383098610110522200787786619564"
"""Implementation Class UID (PS3.7 D.3.3.2) of this software in associations and file meta information."""

IMPLEMENTATION_VERSION_NAME = "ATHANOR_0_1"
"""Implementation Version Name (PS3.7 D.3.3.2), at most 16 characters."""
