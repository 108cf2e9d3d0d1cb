"""What this client wants of the servers, whatever sockets there are: requests to be accepted and
messages to be followed; and what each frame does to them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from chatcluster.backoff import FIRST, jittered, patience
from chatcluster.client_frames import (
    CancelStream,
    ChatRequest,
    Cursor,
    Reconnect,
    Unfollow,
)
from chatcluster.effects import Accept, Deliver, Effect, Finish, Notify, Refuse, Transmit
from chatcluster.errors import ChatError, Damaged, Rejected, TooManyAnswers, TryLater, Unfollowed
from chatcluster.events import Warned
from chatcluster.follow import Follow, Verdict
from chatcluster.frames import (
    Accepted,
    Chunks,
    Recovery,
    RecoveryStatus,
    Refusal,
    Reset,
    ResetReason,
    Seal,
    Status,
    Takeover,
)

MOST_WANTED = 256
"""Requests and follows together: as many as a server lets one socket follow."""
REQUEST_TRIES = 30
"""A request that is refused for now counts as failed after it was sent so often,"""
REQUEST_PATIENCE = 90.0
"""and not before so many seconds passed since the first time: a store may be away for a minute."""


@dataclass(slots=True)
class Pending:
    """A request that has not been accepted yet."""

    request: ChatRequest
    sent_on: int | None = None
    first_sent: float | None = None
    retry_at: float | None = None
    tries: int = 0

    def is_hopeless(self, now: float) -> bool:
        """Whether it was refused so often and for so long that trying again is no use."""
        waited = 0.0 if self.first_sent is None else now - self.first_sent
        return self.tries >= REQUEST_TRIES and waited >= REQUEST_PATIENCE


class Wanted:
    """Requests and follows. `primary` is the link that is spoken to; None: there is none."""

    def __init__(self, effects: list[Effect], rng: Random) -> None:
        self._effects = effects
        self._rng = rng
        self._requests: dict[str, Pending] = {}
        self._follows: dict[str, Follow] = {}

    @property
    def wake_at(self) -> float | None:
        """When something is to be sent again."""
        times = [pending.retry_at for pending in self._requests.values()]
        times += [follow.retry_at for follow in self._follows.values()]
        return min((time for time in times if time is not None), default=None)

    def listens_to(self, link: int) -> bool:
        """Whether any follow still needs this link."""
        return any(follow.source == link for follow in self._follows.values())

    # --- what the owner wants ---

    def add_request(self, request: ChatRequest) -> None:
        """A new request. Raises TooManyAnswers."""
        self._check_room()
        self._requests[request.request_id] = Pending(request)

    def add_follow(self, cursor: Cursor) -> Follow:
        """A new follow; one of the same message stays as it is. Raises TooManyAnswers."""
        if (known := self._follows.get(cursor.message_id)) is not None:
            return known
        self._check_room()
        follow = self._follows[cursor.message_id] = Follow(cursor)
        return follow

    def _check_room(self) -> None:
        if len(self._requests) + len(self._follows) >= MOST_WANTED:
            raise TooManyAnswers(f"{MOST_WANTED} requests and answers at a time")

    def withdraw(self, request_id: str) -> None:
        """Nobody waits for this request any more. Where it was accepted all the same, ACCEPTED is
        answered with UNFOLLOW."""
        self._requests.pop(request_id, None)

    def unfollow(self, message_id: str, links: list[int]) -> None:
        """Stops following on all links."""
        if (follow := self._follows.get(message_id)) is not None:
            self._effects += [Transmit(link, Unfollow(message_id)) for link in links]
            self._finish(follow, Unfollowed(f"message {message_id} was unfollowed"))

    def cancel(self, message_id: str, primary: int | None) -> None:
        """Asks for the end of an answer, again with every RECONNECT until it has ended."""
        if (follow := self._follows.get(message_id)) is not None:
            follow.cancelling = True
            if primary is not None:
                self._effects.append(Transmit(primary, CancelStream(message_id)))

    def fail_all(self, error: ChatError) -> None:
        """The session is over."""
        self._effects += [Refuse(request_id, error) for request_id in self._requests]
        self._requests.clear()
        for follow in list(self._follows.values()):
            self._finish(follow, error)

    # --- what links do ---

    def lose(self, link: int) -> None:
        """A link is gone."""
        for follow in self._follows.values():
            follow.lose(link)

    def speak(self, primary: int | None, now: float) -> None:
        """Sends everything that the primary has not got yet, or whose retry is due."""
        if primary is None:
            # It goes out with the next WELCOME.
            for pending in self._requests.values():
                pending.retry_at = None
            for follow in self._follows.values():
                follow.retry_at = None
            return
        for follow in self._follows.values():
            if follow.retry_at is not None and follow.retry_at > now:
                continue
            follow.retry_at = None
            if primary not in (follow.asked, follow.source):
                self._ask(follow, primary)
        for pending in self._requests.values():
            waits = pending.retry_at is not None and pending.retry_at > now
            if not waits and (pending.sent_on != primary or pending.retry_at is not None):
                self._send(pending, primary, now)

    def _ask(self, follow: Follow, primary: int) -> None:
        follow.asked, follow.asked_from = primary, follow.next_index
        self._effects.append(Transmit(primary, Reconnect(follow.cursor)))
        if follow.cancelling:
            self._effects.append(Transmit(primary, CancelStream(follow.message_id)))

    def _send(self, pending: Pending, primary: int, now: float) -> None:
        pending.retry_at, pending.sent_on = None, primary
        pending.first_sent = now if pending.first_sent is None else pending.first_sent
        pending.tries += 1
        self._effects.append(Transmit(primary, pending.request))

    # --- what frames do ---

    def on_accepted(self, link: int, body: Accepted) -> None:
        """A request is in the log; its answer is followed from 0 on this link."""
        pending = self._requests.pop(body.request_id or "", None)
        follow = self._follows.get(body.message_id)
        if pending is None and follow is None:
            # Withdrawn, or it has ended on another link.
            self._effects.append(Transmit(link, Unfollow(body.message_id)))
            return
        if follow is None:
            follow = self._follows[body.message_id] = Follow(Cursor(body.message_id))
        # Repeated on a newer link, it comes from 0 there; what is held is dropped by its index.
        if follow.source is None or follow.source <= link:
            follow.listen_to(link)
        if pending is not None:
            self._effects.append(Accept(pending.request.request_id, body, follow))

    def on_chunks(self, link: int, body: Chunks, now: float) -> None:
        """CHUNK and CHUNKS."""
        if (follow := self._heard(link, body.message_id)) is None:
            return
        verdict, new = follow.take(body)
        if new:
            run = Chunks(body.message_id, body.epoch, new[0].index, new)
            self._effects.append(Deliver(body.message_id, run))
        self._judge(follow, verdict, now)

    def on_seal(self, link: int, body: Seal, now: float) -> None:
        """COMPLETE."""
        if (follow := self._heard(link, body.message_id)) is None:
            return
        verdict = follow.sealed(body)
        if verdict is Verdict.FITS:
            self._finish(follow, body)
        else:
            self._judge(follow, verdict, now)

    def on_recovery(self, link: int, body: Recovery, now: float) -> None:
        """RECOVERY: from here on this link is the one that counts."""
        follow = self._follows.get(body.message_id)
        found = body.status in (RecoveryStatus.RECOVERED, RecoveryStatus.COMPLETED)
        if follow is None or follow.asked != link or not found:
            # Where nothing was found, the final ERROR says why.
            return
        follow.listen_to(link)
        verdict = follow.recovered(body)
        self._effects.append(Deliver(body.message_id, body))
        self._judge(follow, verdict, now)

    def on_reset(self, link: int, body: Reset, now: float) -> None:
        """RESET."""
        if (follow := self._heard(link, body.message_id)) is None:
            return
        verdict = follow.reset(body.truncate_to)
        if verdict is Verdict.FITS:
            self._effects.append(Deliver(body.message_id, body))
        self._judge(follow, verdict, now)

    def on_takeover(self, link: int, body: Takeover) -> None:
        """TAKEOVER."""
        if (follow := self._heard(link, body.message_id)) is not None:
            follow.taken_over(body.epoch)
            self._effects.append(Deliver(body.message_id, body))

    def on_status(self, body: Status) -> None:
        """STATUS, from any link: it may be the answer to CANCEL_STREAM."""
        if body.message_id in self._follows:
            self._effects.append(Deliver(body.message_id, body))

    def on_refusal(self, link: int, body: Refusal, now: float) -> bool:
        """ERROR; whether it was about a request or a follow of ours."""
        if body.final and body.message_id is not None:
            self._on_final(link, body.message_id, body, now)
            return True
        if body.request_id is not None and body.request_id in self._requests:
            self._on_request_refused(body.request_id, body, now)
            return True
        return False

    def _on_final(self, link: int, message_id: str, body: Refusal, now: float) -> None:
        follow = self._follows.get(message_id)
        if follow is None or link not in (follow.source, follow.asked):
            return
        if not body.retryable:
            self._finish(follow, Rejected(body))
            return
        self._effects.append(Notify(Warned(body)))
        older = None if follow.source == link else follow.source
        follow.ask_again(now + patience(body.retry_after_ms, self._rng))
        # A socket that is to be replaced still delivers.
        follow.source = older

    def _on_request_refused(self, request_id: str, body: Refusal, now: float) -> None:
        pending = self._requests[request_id]
        if not body.retryable or pending.is_hopeless(now):
            del self._requests[request_id]
            error = TryLater(body) if body.retryable else Rejected(body)
            self._effects.append(Refuse(request_id, error))
            return
        self._effects.append(Notify(Warned(body)))
        pending.retry_at = now + patience(body.retry_after_ms, self._rng)

    def _heard(self, link: int, message_id: str) -> Follow | None:
        """The follow of a message, if this link is the one it listens to."""
        follow = self._follows.get(message_id)
        return follow if follow is not None and follow.source == link else None

    def _judge(self, follow: Follow, verdict: Verdict, now: float) -> None:
        """Asks again where something is missing or does not fit; at the end of patience it ends."""
        if verdict is Verdict.FITS:
            return
        if verdict is Verdict.INCONSISTENT:
            epoch = follow.cursor.epoch or 0
            follow.start_over()
            reset = Reset(follow.message_id, ResetReason.INCONSISTENT, 0, epoch)
            self._effects.append(Deliver(follow.message_id, reset))
        if follow.is_hopeless:
            follow.damaged()
            why = f"message {follow.message_id}: the server's text does not fit its own digests"
            self._finish(follow, Damaged(why))
            return
        # Not at once: a server that always skips would be asked without pause.
        failures = follow.gaps_in_a_row + follow.stats.mismatches
        follow.ask_again(now + FIRST / 2 + jittered(failures, self._rng))

    def _finish(self, follow: Follow, outcome: Seal | ChatError) -> None:
        del self._follows[follow.message_id]
        self._effects.append(Finish(follow.message_id, outcome))
