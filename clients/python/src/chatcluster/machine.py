"""The reconnecting session: what happened goes in, what is to be done comes out. Pure: no I/O, no
clock, no async; times are seconds of one monotonic clock, chance is a `random.Random`.

Reading order: this file (sockets, and who is told what) -> `wanted` (requests and follows) ->
`follow` (cursor and duplicates of one message); `dialer` and `link` are about sockets alone.
"""

from __future__ import annotations

from random import Random

from chatcluster import close_codes
from chatcluster.backoff import LONGEST
from chatcluster.client_frames import Auth, ChatRequest, Cursor, Heartbeat
from chatcluster.dialer import Dialer, Failure
from chatcluster.effects import Dial, Drop, Effect, HangUp, Notify, Renew, Stop, Transmit
from chatcluster.errors import ChatError, NotAuthenticated, SessionRefused
from chatcluster.events import Connected, GoingAway, Reconnecting, Unreadable, Warned
from chatcluster.follow import Follow
from chatcluster.frames import (
    Accepted,
    Chunks,
    Goaway,
    HeartbeatAck,
    Recovery,
    Refusal,
    Reset,
    Seal,
    ServerFrame,
    Status,
    Takeover,
    TokenExpiring,
    Welcome,
)
from chatcluster.link import MOST_UNREADABLE, Link
from chatcluster.wanted import Wanted

_LONGEST_SLEEP = 60.0


class Machine:
    """See the module. After every call `effects` is to be read; it must be empty before the next
    `tick`."""

    def __init__(
        self,
        urls: list[str],
        rng: Random,
        now: float,
        *,
        first: int | None = None,
        session_id: str | None = None,
        give_up_after_s: float | None = None,
        can_renew: bool = False,
    ) -> None:
        self.session_id = session_id
        self.stopped = False
        self._effects: list[Effect] = []
        self._can_renew = can_renew
        self._dialer = Dialer(
            urls, rng, now, first=first, give_up_after_s=give_up_after_s, can_renew=can_renew
        )
        self._wanted = Wanted(self._effects, rng)
        self._links: dict[int, Link] = {}
        """In the order in which they were dialled."""
        self._dials: dict[int, tuple[str, bool, float]] = {}
        self._last_link = 0
        self._resume_token: str | None = None

    def effects(self) -> list[Effect]:
        """What is to be done, in order; each is given once."""
        taken = self._effects[:]
        self._effects.clear()
        return taken

    @property
    def is_connected(self) -> bool:
        """Whether a welcomed socket is there."""
        return self._primary is not None

    def wake_at(self, now: float) -> float:
        """When `tick` is to be called at the latest."""
        times = [link.wake_at for link in self._links.values()]
        times += [self._dialer.wake_at, self._wanted.wake_at, now + _LONGEST_SLEEP]
        return min(time for time in times if time is not None)

    # --- what the owner wants ---

    def send(self, request: ChatRequest, now: float) -> None:
        """Starts an answer and follows it. Raises TooManyAnswers."""
        self._wanted.add_request(request)
        if self._primary is not None:
            self._wanted.speak(self._primary, now)

    def withdraw(self, request_id: str) -> None:
        """Nobody waits for this request any more."""
        self._wanted.withdraw(request_id)

    def follow(self, cursor: Cursor, now: float) -> Follow:
        """Follows a message from a cursor on. Raises TooManyAnswers."""
        follow = self._wanted.add_follow(cursor)
        if self._primary is not None:
            self._wanted.speak(self._primary, now)
        return follow

    def unfollow(self, message_id: str) -> None:
        """Stops following; the answer goes on."""
        links = [link.no for link in self._links.values() if link.is_usable]
        self._wanted.unfollow(message_id, links)
        self._release_old_links()

    def cancel(self, message_id: str) -> None:
        """Asks for the end of an answer."""
        self._wanted.cancel(message_id, self._primary)

    def close(self, error: ChatError) -> None:
        """Ends everything that has not ended, with this error, and says goodbye."""
        if not self.stopped:
            self._stop(error)

    # --- what happened ---

    def tick(self, now: float) -> None:
        """Does whatever is due."""
        if self.stopped:
            return
        if (error := self._dialer.given_up(now)) is not None:
            self._stop(error)
            return
        if (url := self._dialer.take(now)) is not None:
            self._dial(url, now)
        for link in list(self._links.values()):
            self._mind(link, now)
        due = self._wanted.wake_at
        if due is not None and due <= now:
            self._wanted.speak(self._primary, now)

    def opened(self, no: int, now: float) -> None:
        """The socket of a dial is open."""
        url, by_ticket, dialled = self._dials.pop(no)
        if self.stopped:
            self._effects.append(Drop(no))
            return
        self._dialer.opened()
        self._links[no] = Link(no, url, by_ticket, dialled, now)

    def dial_failed(self, no: int, failure: Failure, now: float) -> None:
        """There is no socket."""
        _, by_ticket, _ = self._dials.pop(no)
        if not self.stopped:
            self._next_dial(failure, by_ticket, now)

    def on_frame(self, no: int, frame: ServerFrame | None, now: float) -> None:
        """A frame came; None: of a type that is not known here."""
        if (link := self._hear(no, now)) is None or frame is None:
            return
        match frame:
            case Chunks():
                self._wanted.on_chunks(no, frame, now)
            case Welcome():
                self._on_welcome(link, frame, now)
            case Accepted():
                self._wanted.on_accepted(no, frame)
            case Seal():
                self._wanted.on_seal(no, frame, now)
            case Recovery():
                self._wanted.on_recovery(no, frame, now)
            case Reset():
                self._wanted.on_reset(no, frame, now)
            case Takeover():
                self._wanted.on_takeover(no, frame)
            case Status():
                self._wanted.on_status(frame)
            case Goaway():
                self._on_goaway(link, frame, now)
            case TokenExpiring():
                self._on_token_expiring(link, now)
            case Refusal():
                self._on_refusal(link, frame, now)
            case HeartbeatAck():
                pass
        if not isinstance(frame, Chunks):
            self._release_old_links()

    def on_unreadable(self, no: int, why: str, now: float) -> None:
        """A message came that is no frame."""
        if (link := self._hear(no, now)) is None:
            return
        self._effects.append(Notify(Unreadable(why)))
        link.unreadable += 1
        if link.unreadable > MOST_UNREADABLE:
            self._lose(link, close_codes.CUT, "too much that is no frame", now)

    def closed(self, no: int, code: int, reason: str, now: float) -> None:
        """The socket is closed; `close_codes.CUT` where nobody said why."""
        if (link := self._links.get(no)) is not None:
            self._lose(link, code, reason, now)

    def renewed(self, no: int, token: str, now: float) -> None:
        """Here is a new token."""
        if (link := self._links.get(no)) is not None and link.is_usable:
            self._effects.append(Transmit(no, Auth(token)))

    def renewal_failed(self, no: int, now: float) -> None:
        """There is no new token."""
        if (link := self._links.get(no)) is not None:
            link.renewal_failed(now)

    # --- sockets ---

    @property
    def _primary(self) -> int | None:
        """The newest link that may be spoken to."""
        return max((no for no, link in self._links.items() if link.is_usable), default=None)

    def _hear(self, no: int, now: float) -> Link | None:
        link = self._links.get(no)
        if link is None or self.stopped:
            return None
        link.hear(now)
        return link

    def _dial(self, url: str, now: float) -> None:
        self._last_link += 1
        by_ticket = self._dialer.by_ticket
        self._dials[self._last_link] = (url, by_ticket, now)
        self._effects.append(
            Dial(self._last_link, url, by_ticket, self.session_id, self._resume_token)
        )

    def _next_dial(self, failure: Failure, by_ticket: bool, now: float) -> None:
        result = self._dialer.failed(failure, by_ticket, now)
        if isinstance(result, ChatError):
            self._end(result, now)
        else:
            self._say_down(result, failure.why, now)

    def _end(self, error: ChatError, now: float) -> None:
        """Trying again would not help; but a socket that is to be replaced still delivers."""
        if self._primary is None:
            self._stop(error)
        elif self._wants_successor():
            self._dialer.dial_after(LONGEST, now)

    def _say_down(self, delay: float, why: str, now: float) -> None:
        """The owner is told where no other socket is open."""
        if self._primary is None:
            self._dialer.is_down(now)
            event = Reconnecting(self._dialer.failures, delay, why)
            self._effects.append(Notify(event))

    def _mind(self, link: Link, now: float) -> None:
        if link.is_silent(now):
            self._lose(link, close_codes.CUT, "silence for 1.5 heartbeats", now)
            return
        if link.beats(now):
            self._effects.append(Transmit(link.no, Heartbeat()))
        if link.renews(now):
            self._effects.append(Renew(link.no))

    def _on_welcome(self, link: Link, body: Welcome, now: float) -> None:
        self.session_id = body.session_id
        self._resume_token = body.resume_token or None
        if not link.welcome(body, now):
            return
        self._dialer.welcomed(link.by_ticket)
        self._effects.append(Notify(Connected(body.node, link.url, now - link.dialled)))
        self._wanted.speak(self._primary, now)

    def _on_goaway(self, link: Link, body: Goaway, now: float) -> None:
        self._resume_token = body.resume_token or self._resume_token
        self._effects.append(Notify(GoingAway(body)))
        if not link.told_to_go and link.no == self._primary:
            link.told_to_go = True
            self._dialer.replace(link.lived(now), body.reconnect_after_ms / 1_000, now)

    def _on_token_expiring(self, link: Link, now: float) -> None:
        if self._can_renew:
            link.renew_soon(now)
            self._mind(link, now)

    def _on_refusal(self, link: Link, body: Refusal, now: float) -> None:
        if self._wanted.on_refusal(link.no, body, now):
            return
        if link.renewing and body.code in ("UNAUTHENTICATED", "TOKEN_EXPIRED", "FORBIDDEN"):
            link.renewal_failed(now)
        self._effects.append(Notify(Warned(body)))

    def _release_old_links(self) -> None:
        """Hangs up every link that a newer one has replaced in all follows."""
        newest = self._primary
        for link in self._links.values():
            replaced = newest is not None and link.no < newest and link.is_usable
            if replaced and not self._wanted.listens_to(link.no):
                link.leaving = True
                self._effects.append(HangUp(link.no))

    def _lose(self, link: Link, code: int, reason: str, now: float) -> None:
        del self._links[link.no]
        self._effects.append(Drop(link.no))
        self._wanted.lose(link.no)
        if link.leaving or self.stopped:
            return
        why = f"{code} {reason}".rstrip()
        if self._primary is not None:
            # Another socket is there: it carries what this one did.
            self._wanted.speak(self._primary, now)
        if not close_codes.reconnects(code):
            text = f"{link.url} closed the session: {why}"
            unauthenticated = code == close_codes.UNAUTHENTICATED
            error = NotAuthenticated(text) if unauthenticated else SessionRefused(text, code)
            self._end(error, now)
        elif not link.is_usable:
            explained = code not in (close_codes.CUT, close_codes.NO_CODE)
            self._next_dial(Failure(why, explained), link.by_ticket, now)
        elif self._primary is None or self._wants_successor():
            self._say_down(self._dialer.lost(link.lived(now), why, now), why, now)

    def _wants_successor(self) -> bool:
        return any(link.told_to_go for link in self._links.values())

    def _stop(self, error: ChatError) -> None:
        self.stopped = True
        self._wanted.fail_all(error)
        self._effects += [HangUp(no) for no, link in self._links.items() if not link.leaving]
        self._effects += [Drop(no) for no in self._dials]
        self._effects.append(Stop(error))
