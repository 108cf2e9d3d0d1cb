"""What a client tells of its connection. Nothing here needs an answer: it is for people and
logs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from chatcluster.frames import Goaway, Refusal


@dataclass(frozen=True, slots=True)
class Connected:
    """A socket is open and welcomed. `took_s`: from the start of dialling to WELCOME."""

    node: str
    url: str
    took_s: float


@dataclass(frozen=True, slots=True)
class Reconnecting:
    """No socket now; the next try comes after `delay_s`. `attempt` counts failures in a row."""

    attempt: int
    delay_s: float
    why: str


@dataclass(frozen=True, slots=True)
class GoingAway:
    """The node goes away; a new socket is opened before this one is left."""

    goaway: Goaway


@dataclass(frozen=True, slots=True)
class Warned:
    """A refusal that ended nothing, or that is tried again."""

    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A message that is no frame of this protocol; it was left out."""

    why: str


ConnectionEvent: TypeAlias = Connected | Reconnecting | GoingAway | Warned | Unreadable
