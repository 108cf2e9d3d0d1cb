"""When and where the next socket is dialled, by token or by ticket, and when it is given up. Pure:
times are seconds of one monotonic clock."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from chatcluster.backoff import LONGEST, Backoff
from chatcluster.errors import ChatError, NotAuthenticated, SessionRefused, Unreachable

MOST_TOKENS = 2
"""So often a refused token is replaced by a new one before the session stops."""
UNEXPLAINED_BEFORE_TICKET = 3
"""So many failures in a row that nobody explained: something between here and the node may dislike
tokens among the subprotocols, so a ticket in the query takes their place."""
_TOO_EARLY = (408, 425, 429)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why no socket came about, or why one ended before WELCOME."""

    why: str
    """For people; without secrets."""
    explained: bool
    """Whether a node of ours, or the network, said what is wrong."""
    status: int | None = None
    """HTTP status of an answer in place of the upgrade."""
    retry_after_s: float | None = None
    is_final: bool = False
    """Of a token: there is no other one."""

    @property
    def is_about_token(self) -> bool:
        """Whether another token, and nothing else, may help."""
        return self.status == 401

    def is_lasting(self, by_ticket: bool) -> bool:
        """Whether another try is no use."""
        if self.status is None or self.status >= 500 or self.status in _TOO_EARLY:
            return False
        # What nobody explained may still be about the subprotocols, until a ticket failed too.
        return self.explained or by_ticket


class Dialer:
    """One dial at a time."""

    def __init__(
        self,
        urls: list[str],
        rng: Random,
        now: float,
        *,
        first: int | None,
        give_up_after_s: float | None,
        can_renew: bool,
    ) -> None:
        self._urls = urls
        self._rng = rng
        self._at = rng.randrange(len(urls)) if first is None else first % len(urls)
        self._give_up_after_s = give_up_after_s
        self._can_renew = can_renew
        self._backoff = Backoff(rng)
        self._due: float | None = now
        self._down_since: float | None = now
        self._dialling = False
        self._tokens_refused = 0
        self._unexplained = 0
        self._last_why = "nothing was tried"

    @property
    def failures(self) -> int:
        """Failures in a row."""
        return self._backoff.failures

    @property
    def by_ticket(self) -> bool:
        """Whether the next dial takes a ticket."""
        return self._unexplained >= UNEXPLAINED_BEFORE_TICKET

    @property
    def wake_at(self) -> float | None:
        """When there is something to do."""
        due = None if self._dialling else self._due
        times = [time for time in (due, self._gives_up_at) if time is not None]
        return min(times, default=None)

    @property
    def _gives_up_at(self) -> float | None:
        if self._down_since is None or self._give_up_after_s is None:
            return None
        return self._down_since + self._give_up_after_s

    def take(self, now: float) -> str | None:
        """The URL to dial now, if it is time."""
        if self._dialling or self._due is None or self._due > now:
            return None
        self._due, self._dialling = None, True
        return self._urls[self._at]

    def given_up(self, now: float) -> Unreachable | None:
        """Whether there was no socket for too long."""
        at = self._gives_up_at
        if at is None or at > now:
            return None
        return Unreachable(f"no node answered at {', '.join(self._urls)}; last: {self._last_why}")

    def opened(self) -> None:
        """The dial became a socket, which waits for WELCOME."""
        self._dialling = False

    def welcomed(self, by_ticket: bool) -> None:
        """It was welcomed: this way in works."""
        self._down_since = None
        self._tokens_refused = 0
        self._unexplained = UNEXPLAINED_BEFORE_TICKET if by_ticket else 0

    def failed(self, failure: Failure, by_ticket: bool, now: float) -> float | ChatError:
        """The dial failed: seconds to the next one, or the end."""
        self._dialling = False
        self._last_why = failure.why
        if failure.is_about_token:
            self._tokens_refused += 1
            lasting = failure.is_final or not self._can_renew
            if lasting or self._tokens_refused > MOST_TOKENS:
                return NotAuthenticated(failure.why)
        elif failure.is_lasting(by_ticket):
            return SessionRefused(failure.why, failure.status or 0)
        elif not failure.explained:
            self._unexplained += 1
        delay = self._backoff.failed(0.0)
        if len(self._urls) == 1 and failure.retry_after_s is not None:
            delay += min(failure.retry_after_s, LONGEST)
        self.avoid()
        self.dial_after(delay, now)
        return delay

    def lost(self, lived: float, why: str, now: float) -> float:
        """A welcomed socket is gone after `lived` seconds; seconds to the next dial."""
        self._last_why = why
        delay = self._backoff.failed(lived)
        self.avoid()
        if not self._dialling:
            self.dial_after(delay, now)
        return delay

    def replace(self, lived: float, after: float, now: float) -> None:
        """A successor is wanted after so many seconds; not at once where the last one was as
        short-lived: a node that drains greets every socket with GOAWAY."""
        self.avoid()
        pause = self._backoff.failed(lived) if lived < 1.0 else 0.0
        due = now + max(after, pause)
        self._due = due if self._due is None else min(self._due, due)

    def dial_after(self, delay: float, now: float) -> None:
        """The next dial."""
        self._due = now + delay

    def is_down(self, now: float) -> None:
        """There is no welcomed socket."""
        if self._down_since is None:
            self._down_since = now

    def avoid(self) -> None:
        """The next dial goes to another node, chosen by chance, where there is one."""
        others = len(self._urls) - 1
        if others > 0:
            self._at = (self._at + self._rng.randint(1, others)) % len(self._urls)
