"""The asyncio client of ChatCluster: answers that stream, and are never lost, doubled or reordered.

Reading order: `client` (what a program holds) -> `answer` -> `machine` (the pure core) -> `driver`
(the edge: tasks and sockets). The wire is described in docs/protocol.md.
"""

from chatcluster.answer import Answer, AnswerEvent
from chatcluster.client import ChatClient
from chatcluster.client_frames import Cursor
from chatcluster.errors import (
    ChatError,
    ClientClosed,
    Damaged,
    NotAuthenticated,
    Rejected,
    SessionRefused,
    TooManyAnswers,
    TryLater,
    Unfollowed,
    Unreachable,
)
from chatcluster.events import (
    Connected,
    ConnectionEvent,
    GoingAway,
    Reconnecting,
    Unreadable,
    Warned,
)
from chatcluster.follow import Stats
from chatcluster.frames import (
    Accepted,
    Chunk,
    ChunkType,
    Recovery,
    Refusal,
    Reset,
    ResetReason,
    Seal,
    SealStatus,
    Status,
    StreamState,
    Takeover,
)

__all__ = [
    "Accepted",
    "Answer",
    "AnswerEvent",
    "ChatClient",
    "ChatError",
    "Chunk",
    "ChunkType",
    "ClientClosed",
    "Connected",
    "ConnectionEvent",
    "Cursor",
    "Damaged",
    "GoingAway",
    "NotAuthenticated",
    "Reconnecting",
    "Recovery",
    "Refusal",
    "Rejected",
    "Reset",
    "ResetReason",
    "Seal",
    "SealStatus",
    "SessionRefused",
    "Stats",
    "Status",
    "StreamState",
    "Takeover",
    "TooManyAnswers",
    "TryLater",
    "Unfollowed",
    "Unreachable",
    "Unreadable",
    "Warned",
]
