"""The body of a STOW-RS request (PS3.18 10.5) on its way to the receiver: parts, files, data sets, as they come.

Nothing is collected: the bytes of an instance go to the spool while the next ones are on the wire.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, MultipartState

from gateway.dicom.file_meta import FileMeta, FileMetaReader
from gateway.errors import NotDicom
from gateway.network.receiver import AssociationInfo, Incoming, Receiver, StoreRequest
from gateway.network.statuses import CANNOT_UNDERSTAND, SOP_CLASS_NOT_SUPPORTED

TRANSFER_SYNTAX_NOT_SUPPORTED = 0xC122  # of the failure reasons of PS3.18 Table I.2-2

_MAX_HEADER_BYTES = 8 * 1024


class BodyMalformed(Exception):  # noqa: N818 - the statement, not the suffix, says what it is
    """The body is not what Content-Type says: the request is answered 400, what was stored before stays stored."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one part; without UIDs when it was no Part 10 file."""

    sop_class_uid: str
    sop_instance_uid: str
    status: int
    comment: str = ""


class StowRequest:
    """Feeds the receiver from the body of one request; blocks, so it belongs in a thread.

    `accepts` says whether a SOP Class is stored here, and in which transfer syntaxes.
    """

    def __init__(
        self,
        info: AssociationInfo,
        receiver: Receiver,
        boundary: str,
        accepts: Callable[[str], frozenset[str]],
        study_instance_uid: str | None = None,
    ) -> None:
        self.outcomes: list[Outcome] = []
        self._info = info
        self._receiver = receiver
        self._accepts = accepts
        self._study_instance_uid = study_instance_uid
        self._meta: FileMeta | None = None
        self._reader: FileMetaReader | None = None
        self._incoming: Incoming | None = None
        self._refusal: Outcome | None = None
        callbacks: Any = {"on_part_begin": self._begin, "on_part_data": self._data, "on_part_end": self._end}
        try:
            self._parser = MultipartParser(boundary, callbacks, max_header_size=_MAX_HEADER_BYTES)
        except (MultipartParseError, ValueError) as error:
            raise BodyMalformed(f"Content-Type: boundary: {error}") from None

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the body. Raises BodyMalformed."""
        try:
            self._parser.write(piece)
        except MultipartParseError as error:
            raise BodyMalformed(f"multipart body: {error}") from None

    def close(self) -> None:
        """The body is over. Raises BodyMalformed when its closing boundary has not come."""
        if self._parser.state != MultipartState.END:
            raise BodyMalformed("multipart body: found its end before the closing boundary; expected --boundary--")

    def abandon(self) -> None:
        """Forget the instance that was under way; those before it stay."""
        if self._incoming is not None:
            self._incoming.discard()
            self._incoming = None

    def _begin(self) -> None:
        self._meta, self._incoming, self._refusal = None, None, None
        self._reader = FileMetaReader()

    def _data(self, data: bytes, start: int, end: int) -> None:
        piece = data[start:end]
        if self._incoming is not None:
            self._incoming.write(piece)
        elif self._reader is not None:
            self._begin_data_set(self._reader, piece)

    def _begin_data_set(self, reader: FileMetaReader, piece: bytes) -> None:
        try:
            found = reader.feed(piece)
        except NotDicom as error:
            self._refuse(Outcome("", "", CANNOT_UNDERSTAND, str(error)))
            return
        if found is None:
            return
        meta, data_set = found
        syntaxes = self._accepts(meta.sop_class_uid)
        if not syntaxes:
            self._refuse(_outcome(meta, SOP_CLASS_NOT_SUPPORTED, "SOP Class: not one that is stored here"))
        elif meta.transfer_syntax_uid not in syntaxes:
            self._refuse(_outcome(meta, TRANSFER_SYNTAX_NOT_SUPPORTED, "transfer syntax: not one that is stored here"))
        else:
            self._meta, self._reader = meta, None
            self._incoming = self._receiver.begin(self._request(meta))
            self._incoming.write(data_set)

    def _request(self, meta: FileMeta) -> StoreRequest:
        return StoreRequest(
            association=self._info,
            message_id=len(self.outcomes) + 1,
            sop_class_uid=meta.sop_class_uid,
            sop_instance_uid=meta.sop_instance_uid,
            transfer_syntax_uid=meta.transfer_syntax_uid,
            study_instance_uid=self._study_instance_uid,
        )

    def _refuse(self, outcome: Outcome) -> None:
        self._refusal, self._reader = outcome, None

    def _end(self) -> None:
        if self._incoming is not None and self._meta is not None:
            answer = self._incoming.finish()
            self._incoming = None
            self.outcomes.append(_outcome(self._meta, answer.status, answer.error_comment))
        else:
            nothing = Outcome("", "", CANNOT_UNDERSTAND, "the part ends before its file meta information")
            self.outcomes.append(self._refusal or nothing)


def _outcome(meta: FileMeta, status: int, comment: str) -> Outcome:
    return Outcome(meta.sop_class_uid, meta.sop_instance_uid, status, comment)
