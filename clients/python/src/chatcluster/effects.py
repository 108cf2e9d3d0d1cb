"""What the machine wants done: the only words between the pure core and its driver."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from chatcluster.client_frames import ClientFrame
from chatcluster.errors import ChatError
from chatcluster.events import ConnectionEvent
from chatcluster.follow import Follow
from chatcluster.frames import Accepted, Chunks, Recovery, Reset, Seal, Status, Takeover

AnswerNews: TypeAlias = Chunks | Reset | Recovery | Takeover | Status
"""What is told to an answer while it lives."""


@dataclass(frozen=True, slots=True)
class Dial:
    """Open a socket. Every dial has a new number, which becomes the link's."""

    link: int
    url: str
    by_ticket: bool
    session_id: str | None
    resume_token: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send a frame."""

    link: int
    frame: ClientFrame


@dataclass(frozen=True, slots=True)
class Renew:
    """Ask for a new token; `Machine.renewed` or `Machine.renewal_failed` answers."""

    link: int


@dataclass(frozen=True, slots=True)
class HangUp:
    """Say goodbye and close, within a bounded time."""

    link: int


@dataclass(frozen=True, slots=True)
class Drop:
    """The link is dead: close it without a word."""

    link: int


@dataclass(frozen=True, slots=True)
class Notify:
    """Tell the owner."""

    event: ConnectionEvent


@dataclass(frozen=True, slots=True)
class Accept:
    """The request became an answer."""

    request_id: str
    accepted: Accepted
    follow: Follow


@dataclass(frozen=True, slots=True)
class Refuse:
    """The request became nothing."""

    request_id: str
    error: ChatError


@dataclass(frozen=True, slots=True)
class Deliver:
    """Something happened to an answer. Chunks are new, consecutive, and come once."""

    message_id: str
    news: AnswerNews


@dataclass(frozen=True, slots=True)
class Finish:
    """An answer has its seal, or an error instead of one."""

    message_id: str
    outcome: Seal | ChatError


@dataclass(frozen=True, slots=True)
class Stop:
    """The session is over."""

    error: ChatError


Effect = (
    Dial | Transmit | Renew | HangUp | Drop | Notify | Accept | Refuse | Deliver | Finish | Stop
)
