"""Frames that the server sends, in dialect v1 (protocol section 4), as types. Pure;
`frame_reader` reads them.

A frame is immutable. Fields with a secret are not shown by `repr`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, TypeAlias

PROTOCOL: Final = "chatcluster.v1"
"""The subprotocol."""
MAX_CHUNK_CHARS: Final = 1_024
MAX_CHUNKS: Final = 100_000
"""Chunks of one answer."""
MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
"""Text of one answer, in UTF-8."""


class ChunkType(StrEnum):
    """Kinds of content."""

    TEXT = "TEXT"
    CODE = "CODE"
    THINKING = "THINKING"
    TOOL_USE = "TOOL_USE"
    CITATION = "CITATION"

    @property
    def is_content(self) -> bool:
        """Whether chunks of this type make up the `content` of a message."""
        return self in (ChunkType.TEXT, ChunkType.CODE)


class SealStatus(StrEnum):
    """How an answer ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RecoveryStatus(StrEnum):
    """What a RECONNECT found."""

    RECOVERED = "RECOVERED"
    COMPLETED = "COMPLETED"
    NOT_FOUND = "NOT_FOUND"
    EXPIRED = "EXPIRED"
    ERROR = "ERROR"


class ResetReason(StrEnum):
    """Why chunks became void."""

    ROLLED_BACK = "ROLLED_BACK"
    RESTARTED = "RESTARTED"
    INCONSISTENT = "INCONSISTENT"
    """Never on the wire: this client found a digest that does not fit and reads again."""


class StreamState(StrEnum):
    """State of a followed answer."""

    WAITING = "waiting"
    PAUSED = "paused"
    LIVE = "live"
    CANCELLING = "cancelling"
    SEALED = "sealed"


@dataclass(frozen=True, slots=True)
class Welcome:
    """First frame of a socket, and the answer to AUTH."""

    session_id: str
    user_id: str
    server_time: datetime
    node: str
    heartbeat_ms: int
    max_content_chars: int
    coalesce_ms: int
    token_expires_at: datetime
    resume_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Accepted:
    """Request and stream are in the log."""

    request_id: str | None
    conversation_id: str
    user_message_id: str
    message_id: str
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk of an answer. Its content is not shown by `repr`, which ends up in logs."""

    message_id: str
    index: int
    epoch: int
    type: ChunkType
    content: str = field(repr=False)
    metadata: Mapping[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Chunks:
    """Consecutive chunks of one epoch. CHUNK is read as a run of one."""

    message_id: str
    epoch: int
    index: int
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counted them."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Seal:
    """COMPLETE: how an answer ended, whatever the end. `latency_ms` counts from acceptance."""

    message_id: str
    conversation_id: str
    status: SealStatus
    total_chunks: int
    digest: str
    finish_reason: str
    model: str
    usage: Usage
    latency_ms: int
    first_token_ms: int | None
    code: str | None = None
    """Of a failed answer."""
    retryable: bool | None = None
    """Of a failed answer: whether asking again, with a new requestId, may help."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a RECONNECT found; precedes what it announces."""

    message_id: str
    status: RecoveryStatus
    from_index: int
    tail: int
    epoch: int
    live: bool
    digest: str
    source: str


@dataclass(frozen=True, slots=True)
class Reset:
    """Indexes >= `truncate_to` are void; chunks follow from there."""

    message_id: str
    reason: ResetReason
    truncate_to: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Takeover:
    """Another node goes on with the answer."""

    message_id: str
    epoch: int
    from_index: int
    mode: str


@dataclass(frozen=True, slots=True)
class Status:
    """State of a followed answer; `reason` of a paused one."""

    message_id: str
    state: StreamState
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Goaway:
    """The node goes away: open a new socket first, then close this one."""

    reason: str
    deadline_ms: int
    reconnect_after_ms: int
    resume_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class TokenExpiring:
    """The token ends soon."""

    expires_at: datetime


@dataclass(frozen=True, slots=True)
class HeartbeatAck:
    """Answer to HEARTBEAT."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """ERROR. With `final` it ends the follow of `message_id`, and only that."""

    error: str
    code: str
    retryable: bool
    retry_after_ms: int | None = None
    request_id: str | None = None
    message_id: str | None = None
    final: bool = False


ServerFrame: TypeAlias = (
    Welcome
    | Accepted
    | Chunks
    | Seal
    | Recovery
    | Reset
    | Takeover
    | Status
    | Goaway
    | TokenExpiring
    | HeartbeatAck
    | Refusal
)
