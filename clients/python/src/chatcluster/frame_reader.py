"""The strict reader of server frames: one text message in, one typed frame out, or BadFrame. Pure.
What a hostile server may send ends here."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeVar

from chatcluster import digest as digests
from chatcluster.frames import (
    MAX_CHUNK_CHARS,
    MAX_CHUNKS,
    PROTOCOL,
    Accepted,
    Chunk,
    Chunks,
    ChunkType,
    Goaway,
    HeartbeatAck,
    Recovery,
    RecoveryStatus,
    Refusal,
    Reset,
    ResetReason,
    Seal,
    SealStatus,
    ServerFrame,
    Status,
    StreamState,
    Takeover,
    TokenExpiring,
    Usage,
    Welcome,
)

MAX_NUMBER: Final = 2**53
"""Largest number on the wire."""
_MAX_NAME_CHARS: Final = 1_024
_MAX_ERROR_CHARS: Final = 4_096

_E = TypeVar("_E", bound=StrEnum)


class BadFrame(Exception):
    """A message that is no frame of this protocol; it names the field and quotes nothing."""


def parse(message: str | bytes) -> ServerFrame | None:
    """Reads one message of a server; None for a type of a later version, which is ignored.

    Raises BadFrame for anything that is no frame.
    """
    if isinstance(message, bytes):
        raise BadFrame("a binary message")
    try:
        envelope = json.loads(message, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        # No cause: its text would quote the message.
        raise BadFrame("no JSON") from None
    top = _Fields.of(envelope, "the message")
    reader = _READERS.get(top.text("type"))
    if reader is None:
        return None
    top.time("timestamp")
    return reader(top, _Fields.of(top.value("data"), "data"))


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


class _Fields:
    """The fields of one JSON object, each read with its type."""

    __slots__ = ("_fields",)

    def __init__(self, fields: dict[str, object]) -> None:
        self._fields = fields

    @classmethod
    def of(cls, value: object, name: str) -> _Fields:
        if not isinstance(value, dict):
            raise BadFrame(f"{name} is no object")
        return cls(value)

    def value(self, name: str) -> object:
        return self._fields.get(name)

    def text(self, name: str, most: int = _MAX_NAME_CHARS) -> str:
        value = self._fields.get(name)
        if not isinstance(value, str) or len(value) > most:
            raise BadFrame(name)
        return value

    def optional_text(self, name: str) -> str | None:
        return None if self._fields.get(name) is None else self.text(name)

    def number(self, name: str) -> int:
        value = self._fields.get(name)
        # bool is an int to Python and not to JSON.
        if type(value) is not int or not 0 <= value <= MAX_NUMBER:
            raise BadFrame(name)
        return value

    def optional_number(self, name: str) -> int | None:
        return None if self._fields.get(name) is None else self.number(name)

    def flag(self, name: str) -> bool:
        value = self._fields.get(name)
        if not isinstance(value, bool):
            raise BadFrame(name)
        return value

    def optional_flag(self, name: str) -> bool | None:
        return None if self._fields.get(name) is None else self.flag(name)

    def one_of(self, name: str, kind: type[_E]) -> _E:
        try:
            return kind(self.text(name))
        except ValueError:
            raise BadFrame(name) from None

    def time(self, name: str) -> datetime:
        try:
            time = datetime.fromisoformat(self.text(name))
        except ValueError:
            raise BadFrame(name) from None
        if time.tzinfo is None:
            raise BadFrame(name)
        return time

    def digest(self, name: str) -> str:
        text = self.text(name)
        try:
            digests.from_text(text)
        except ValueError:
            raise BadFrame(name) from None
        return text


def _welcome(_top: _Fields, data: _Fields) -> Welcome:
    if data.text("protocol") != PROTOCOL:
        raise BadFrame("protocol")
    return Welcome(
        session_id=data.text("sessionId"),
        user_id=data.text("userId"),
        server_time=data.time("serverTime"),
        node=data.text("node"),
        heartbeat_ms=data.number("heartbeatMs"),
        max_content_chars=data.number("maxContentChars"),
        coalesce_ms=data.number("coalesceMs"),
        token_expires_at=data.time("tokenExpiresAt"),
        resume_token=data.text("resumeToken"),
    )


def _accepted(_top: _Fields, data: _Fields) -> Accepted:
    return Accepted(
        request_id=data.optional_text("requestId"),
        conversation_id=data.text("conversationId"),
        user_message_id=data.text("userMessageId"),
        message_id=data.text("messageId"),
        duplicate=data.flag("duplicate"),
    )


def _content_of(data: _Fields) -> str:
    content = data.text("content", MAX_CHUNK_CHARS)
    if not content:
        raise BadFrame("content")
    try:
        # JSON can name halves of surrogate pairs, which are no text and have no digest.
        content.encode()
    except UnicodeEncodeError:
        raise BadFrame("content") from None
    return content


def _chunk_of(data: _Fields, message_id: str, index: int, epoch: int) -> Chunk:
    metadata = data.value("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise BadFrame("metadata")
    kind = data.one_of("type", ChunkType)
    return Chunk(message_id, index, epoch, kind, _content_of(data), metadata)


def _chunk(_top: _Fields, data: _Fields) -> Chunks:
    message_id, index, epoch = data.text("messageId"), data.number("index"), data.number("epoch")
    return Chunks(message_id, epoch, index, (_chunk_of(data, message_id, index, epoch),))


def _chunks(_top: _Fields, data: _Fields) -> Chunks:
    message_id, index, epoch = data.text("messageId"), data.number("index"), data.number("epoch")
    entries = data.value("chunks")
    if not isinstance(entries, list) or not 0 < len(entries) <= MAX_CHUNKS:
        raise BadFrame("chunks")
    chunks = (
        _chunk_of(_Fields.of(entry, "a chunk"), message_id, index + k, epoch)
        for k, entry in enumerate(entries)
    )
    return Chunks(message_id, epoch, index, tuple(chunks))


def _seal(_top: _Fields, data: _Fields) -> Seal:
    usage = _Fields.of(data.value("usage"), "usage")
    return Seal(
        message_id=data.text("messageId"),
        conversation_id=data.text("conversationId"),
        status=data.one_of("status", SealStatus),
        total_chunks=data.number("totalChunks"),
        digest=data.digest("digest"),
        finish_reason=data.text("finishReason"),
        model=data.text("model"),
        usage=Usage(usage.number("promptTokens"), usage.number("completionTokens")),
        latency_ms=data.number("latencyMs"),
        first_token_ms=data.optional_number("firstTokenMs"),
        code=data.optional_text("code"),
        retryable=data.optional_flag("retryable"),
    )


def _recovery(_top: _Fields, data: _Fields) -> Recovery:
    return Recovery(
        message_id=data.text("messageId"),
        status=data.one_of("status", RecoveryStatus),
        from_index=data.number("from"),
        tail=data.number("tail"),
        epoch=data.number("epoch"),
        live=data.flag("live"),
        digest=data.digest("digest"),
        source=data.text("source"),
    )


def _reset(_top: _Fields, data: _Fields) -> Reset:
    reason = data.one_of("reason", ResetReason)
    if reason is ResetReason.INCONSISTENT:
        raise BadFrame("reason")
    return Reset(data.text("messageId"), reason, data.number("truncateTo"), data.number("epoch"))


def _takeover(_top: _Fields, data: _Fields) -> Takeover:
    return Takeover(
        message_id=data.text("messageId"),
        epoch=data.number("epoch"),
        from_index=data.number("from"),
        mode=data.text("mode"),
    )


def _status(_top: _Fields, data: _Fields) -> Status:
    state = data.one_of("state", StreamState)
    return Status(data.text("messageId"), state, data.optional_text("reason"))


def _goaway(_top: _Fields, data: _Fields) -> Goaway:
    return Goaway(
        reason=data.text("reason"),
        deadline_ms=data.number("deadlineMs"),
        reconnect_after_ms=data.number("reconnectAfterMs"),
        resume_token=data.text("resumeToken"),
    )


def _token_expiring(_top: _Fields, data: _Fields) -> TokenExpiring:
    return TokenExpiring(data.time("expiresAt"))


def _heartbeat_ack(_top: _Fields, _data: _Fields) -> HeartbeatAck:
    return HeartbeatAck()


def _refusal(top: _Fields, data: _Fields) -> Refusal:
    return Refusal(
        error=top.text("error", _MAX_ERROR_CHARS),
        code=data.text("code"),
        retryable=data.flag("retryable"),
        retry_after_ms=data.optional_number("retryAfterMs"),
        request_id=data.optional_text("requestId"),
        message_id=data.optional_text("messageId"),
        final=data.optional_flag("final") or False,
    )


_READERS: Final[dict[str, Callable[[_Fields, _Fields], ServerFrame]]] = {
    "WELCOME": _welcome,
    "ACCEPTED": _accepted,
    "CHUNK": _chunk,
    "CHUNKS": _chunks,
    "COMPLETE": _seal,
    "RECOVERY": _recovery,
    "RESET": _reset,
    "TAKEOVER": _takeover,
    "STATUS": _status,
    "GOAWAY": _goaway,
    "TOKEN_EXPIRING": _token_expiring,
    "HEARTBEAT_ACK": _heartbeat_ack,
    "ERROR": _refusal,
}
