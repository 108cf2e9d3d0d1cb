"""Does what the machine says: dials, writes, reads and waits, and tells answers their news.

All tasks live in one TaskGroup inside of `run`: when it returns, none is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, assert_never

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from chatcluster import close_codes
from chatcluster.answer import Answer
from chatcluster.client_frames import ChatRequest, Cursor
from chatcluster.connection import FAREWELL, Target, close_of, open_socket
from chatcluster.dialer import Failure
from chatcluster.effects import (
    Accept,
    Deliver,
    Dial,
    Drop,
    Effect,
    Finish,
    HangUp,
    Notify,
    Refuse,
    Renew,
    Stop,
    Transmit,
)
from chatcluster.errors import ChatError, ClientClosed, NotAuthenticated
from chatcluster.events import ConnectionEvent
from chatcluster.frame_reader import BadFrame, parse
from chatcluster.machine import Machine
from chatcluster.refused import DialFailed
from chatcluster.tokens import TokenSource

MAX_OUTBOX: Final = 512
"""Frames that wait for a full socket: every request and follow, and a cancel for each. More means
that the socket is dead."""

log = logging.getLogger("chatcluster")


@dataclass(slots=True)
class _Wire:
    """The task of one link and the frames that wait for it; None: say goodbye."""

    task: asyncio.Task[None]
    outbox: asyncio.Queue[str | None]


class Driver:
    """Owner of the machine, the sockets, and the answers that are followed."""

    def __init__(
        self,
        machine: Machine,
        tokens: TokenSource,
        tls: ssl.SSLContext | None,
        clock: Callable[[], float],
        on_event: Callable[[ConnectionEvent], None] | None,
    ) -> None:
        self._machine = machine
        self._tokens = tokens
        self._tls = tls
        self._clock = clock
        self._on_event = on_event
        self._error: ChatError | None = None
        self._wires: dict[int, _Wire] = {}
        self._answers: dict[str, Answer] = {}
        self._requests: dict[str, asyncio.Future[Answer]] = {}
        self._todo: deque[Effect] = deque()
        self._performing = False
        self._sleeps_until = 0.0
        self._woken = asyncio.Event()
        self._group = asyncio.TaskGroup()

    async def run(self) -> None:
        """Lives until the machine stops; no task outlives it."""
        try:
            async with self._group:
                while not self._machine.stopped:
                    self._machine.tick(self._clock())
                    self._perform()
                    await self._sleep()
                await self._say_goodbye()
        finally:
            # Where this ends by an error or from outside, nobody may wait for ever.
            self._todo.clear()
            self.close(ClientClosed("the client has ended"))

    async def _sleep(self) -> None:
        now = self._clock()
        self._sleeps_until = self._machine.wake_at(now)
        self._woken.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._sleeps_until - now)):
                if not self._machine.stopped:
                    await self._woken.wait()

    async def _say_goodbye(self) -> None:
        tasks = [wire.task for wire in self._wires.values()]
        if tasks:
            # A peer that does not answer is left to its own time-outs.
            await asyncio.wait(tasks, timeout=FAREWELL)
        for task in tasks:
            task.cancel()

    # --- what the owner wants ---

    async def send(self, request: ChatRequest) -> Answer:
        """Until it is accepted, or refused for good."""
        self._check_open()
        if request.request_id in self._requests:
            raise ValueError("request_id: a request with this one is under way")
        self._machine.send(request, self._clock())
        accepted: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._requests[request.request_id] = accepted
        self._perform()
        try:
            return await accepted
        except asyncio.CancelledError:
            self._withdraw(request.request_id, accepted)
            raise
        finally:
            self._requests.pop(request.request_id, None)

    def _withdraw(self, request_id: str, accepted: asyncio.Future[Answer]) -> None:
        """Nobody waits any more; an answer that nobody has is not followed."""
        self._machine.withdraw(request_id)
        if accepted.done() and not accepted.cancelled() and accepted.exception() is None:
            answer = accepted.result()
            if answer.accepted is not None and answer.accepted.request_id == request_id:
                self.unfollow(answer.message_id)

    def follow(self, cursor: Cursor) -> Answer:
        """The answer; the same one where it is followed already."""
        self._check_open()
        if (known := self._answers.get(cursor.message_id)) is not None:
            return known
        follow = self._machine.follow(cursor, self._clock())
        answer = self._answers[cursor.message_id] = Answer(self, follow)
        self._perform()
        return answer

    def unfollow(self, message_id: str) -> None:
        """Of an answer."""
        self._machine.unfollow(message_id)
        self._perform()

    def cancel(self, message_id: str) -> None:
        """Of an answer."""
        self._machine.cancel(message_id)
        self._perform()

    def close(self, error: ChatError) -> None:
        """Ends everything with this error; `run` returns soon."""
        self._machine.close(error)
        self._perform()

    def _check_open(self) -> None:
        if self._error is not None:
            raise self._error

    # --- effects ---

    def _perform(self) -> None:
        """In order, also where performing one leads to others."""
        self._todo += self._machine.effects()
        if self._performing:
            return
        self._performing = True
        try:
            while self._todo:
                self._do(self._todo.popleft())
                self._todo += self._machine.effects()
        finally:
            self._performing = False
        if self._machine.stopped or self._machine.wake_at(self._clock()) < self._sleeps_until:
            self._woken.set()

    def _do(self, effect: Effect) -> None:
        match effect:
            case Deliver():
                self._answers[effect.message_id].tell(effect.news)
            case Transmit():
                self._queue(effect.link, effect.frame.encode())
            case Dial():
                outbox: asyncio.Queue[str | None] = asyncio.Queue(MAX_OUTBOX)
                task = self._group.create_task(self._serve(effect, outbox))
                self._wires[effect.link] = _Wire(task, outbox)
            case HangUp():
                self._queue(effect.link, None)
            case Drop():
                if (wire := self._wires.pop(effect.link, None)) is not None:
                    wire.task.cancel()
            case Renew():
                self._group.create_task(self._renew(effect.link))
            case Notify():
                self._notify(effect.event)
            case Accept():
                self._accept(effect)
            case Refuse():
                if not (accepted := self._requests[effect.request_id]).done():
                    accepted.set_exception(effect.error)
            case Finish():
                self._answers.pop(effect.message_id).finish(effect.outcome)
            case Stop():
                self._error = effect.error
            case _:
                assert_never(effect)

    def _accept(self, effect: Accept) -> None:
        message_id = effect.accepted.message_id
        answer = self._answers.get(message_id)
        if answer is None:
            answer = Answer(self, effect.follow, effect.accepted)
            self._answers[message_id] = answer
        accepted = self._requests[effect.request_id]
        if not accepted.done():
            accepted.set_result(answer)
        elif answer.accepted is effect.accepted:
            # Whoever asked was cancelled a moment ago.
            self._machine.unfollow(message_id)

    def _queue(self, link: int, text: str | None) -> None:
        wire = self._wires.get(link)
        if wire is None:
            return
        try:
            wire.outbox.put_nowait(text)
        except asyncio.QueueFull:
            wire.task.cancel()
            del self._wires[link]
            self._machine.closed(link, close_codes.CUT, "it takes no frames", self._clock())

    def _notify(self, event: ConnectionEvent) -> None:
        log.debug("%s", event)
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception:
            # The owner's code: its error must not end the session.
            log.exception("on_event failed")

    # --- tasks ---

    async def _serve(self, dial: Dial, outbox: asyncio.Queue[str | None]) -> None:
        """One link from the dial to its end."""
        try:
            socket = await self._open(dial)
        except DialFailed as failed:
            self._wires.pop(dial.link, None)
            self._machine.dial_failed(dial.link, failed.failure, self._clock())
            self._perform()
            return
        try:
            self._machine.opened(dial.link, self._clock())
            self._perform()
            code, reason = await self._converse(dial.link, socket, outbox)
        finally:
            socket.transport.abort()
        self._wires.pop(dial.link, None)
        self._machine.closed(dial.link, code, reason, self._clock())
        self._perform()

    async def _open(self, dial: Dial) -> ClientConnection:
        try:
            token = await self._tokens.fetch()
        except NotAuthenticated as error:
            why = str(error)
            raise DialFailed(Failure(why, explained=True, status=401, is_final=True)) from None
        except Exception as error:  # noqa: BLE001 - the owner's code; it may raise anything.
            # Its text is not repeated: it may hold a secret.
            why = f"the token callable raised {type(error).__name__}"
            raise DialFailed(Failure(why, explained=True)) from None
        target = Target(
            base=dial.url,
            token=token,
            by_ticket=dial.by_ticket,
            session_id=dial.session_id,
            resume_token=dial.resume_token,
            tls=self._tls,
        )
        return await open_socket(target)

    async def _converse(
        self, link: int, socket: ClientConnection, outbox: asyncio.Queue[str | None]
    ) -> tuple[int, str]:
        async with asyncio.TaskGroup() as pair:
            writer = pair.create_task(_write(socket, outbox))
            end = await self._read(link, socket)
            writer.cancel()
        return end

    async def _read(self, link: int, socket: ClientConnection) -> tuple[int, str]:
        """Until the close; its code and reason."""
        while True:
            try:
                message = await socket.recv()
            except ConnectionClosed as closed:
                return close_of(closed)
            try:
                frame = parse(message)
            except BadFrame as bad:
                self._machine.on_unreadable(link, str(bad), self._clock())
            else:
                self._machine.on_frame(link, frame, self._clock())
            self._perform()

    async def _renew(self, link: int) -> None:
        try:
            token = await self._tokens.fetch()
        except Exception as error:  # noqa: BLE001 - the owner's code; it may raise anything.
            log.warning("no new token: %s", type(error).__name__)
            self._machine.renewal_failed(link, self._clock())
        else:
            self._machine.renewed(link, token, self._clock())
        self._perform()


async def _write(socket: ClientConnection, outbox: asyncio.Queue[str | None]) -> None:
    """What waits, in order. That the socket is closed is the reader's to find out."""
    with contextlib.suppress(ConnectionClosed):
        while (text := await outbox.get()) is not None:
            await socket.send(text)
        await socket.close()
