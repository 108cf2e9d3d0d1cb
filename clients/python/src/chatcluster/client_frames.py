"""Frames that a client sends (protocol section 3), as text messages. Pure."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

MAX_FRAME_BYTES: Final = 256 * 1024
"""Longest message that a server takes; a longer one costs the socket."""
_REQUEST_ID: Final = re.compile(r"[!-~]{1,64}")


def message_name(text: str) -> str:
    """A message's id as servers write it. Raises ValueError for what is no UUID."""
    return str(uuid.UUID(text))


@dataclass(frozen=True, slots=True)
class Cursor:
    """A position in an answer: everything up to `last_index` was received. Keep it to resume in
    another process (`dataclasses.asdict` gives JSON's types); `digest` and `epoch` let the server
    find out whether the text is still the same."""

    message_id: str
    last_index: int = -1
    epoch: int | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """Start an answer and follow it."""

    content: str = field(repr=False)
    request_id: str
    conversation_id: str | None = None
    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    on_disconnect: Literal["continue", "cancel"] = "continue"

    def encode(self) -> str:
        """One text message. Raises ValueError where the server could not even answer it."""
        if not _REQUEST_ID.fullmatch(self.request_id):
            raise ValueError("request_id: 1 to 64 visible ASCII characters")
        options = {
            "model": self.model,
            "temperature": self.temperature,
            "maxTokens": self.max_tokens,
        }
        text = _message(
            "CHAT_REQUEST",
            content=self.content,
            requestId=self.request_id,
            conversationId=self.conversation_id,
            options={k: v for k, v in options.items() if v is not None} or None,
            onDisconnect=None if self.on_disconnect == "continue" else self.on_disconnect,
        )
        # Text that is no Unicode raises UnicodeEncodeError here, which is a ValueError.
        if len(text.encode()) > MAX_FRAME_BYTES:
            raise ValueError(f"the request is longer than {MAX_FRAME_BYTES} bytes")
        return text


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Follow a message from a cursor on."""

    cursor: Cursor

    def encode(self) -> str:
        """One text message."""
        last = self.cursor.last_index
        return _message(
            "RECONNECT",
            messageId=self.cursor.message_id,
            lastChunkIndex=None if last < 0 else last,
            epoch=self.cursor.epoch,
            digest=self.cursor.digest,
        )


@dataclass(frozen=True, slots=True)
class Unfollow:
    """Stop sending a message here."""

    message_id: str

    def encode(self) -> str:
        """One text message."""
        return _message("UNFOLLOW", messageId=self.message_id)


@dataclass(frozen=True, slots=True)
class CancelStream:
    """Stop the answer."""

    message_id: str

    def encode(self) -> str:
        """One text message."""
        return _message("CANCEL_STREAM", messageId=self.message_id)


@dataclass(frozen=True, slots=True)
class Auth:
    """Replace the token in place."""

    token: str = field(repr=False)

    def encode(self) -> str:
        """One text message."""
        return _message("AUTH", token=self.token)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """I am here."""

    def encode(self) -> str:
        """One text message."""
        return _message("HEARTBEAT")


ClientFrame: TypeAlias = ChatRequest | Reconnect | Unfollow | CancelStream | Auth | Heartbeat


def _message(kind: str, **fields: Any) -> str:
    present = {name: value for name, value in fields.items() if value is not None}
    body = {"type": kind, **present}
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
