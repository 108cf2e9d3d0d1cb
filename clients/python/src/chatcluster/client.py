"""The client: what a program holds."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from types import TracebackType
from typing import Literal, Self

from chatcluster import digest as digests
from chatcluster.answer import Answer
from chatcluster.client_frames import ChatRequest, Cursor, message_name
from chatcluster.driver import Driver
from chatcluster.errors import ClientClosed
from chatcluster.events import ConnectionEvent
from chatcluster.machine import Machine
from chatcluster.tokens import Token, TokenSource
from chatcluster.urls import base_urls


class ChatClient:
    """A session over one or many nodes. It connects by itself, again and again, and gives every
    chunk of every answer exactly once and in order.

        async with ChatClient(urls=["https://chat.example"], token=fetch_token) as client:
            answer = await client.send("Hello")
            async for event in answer:
                ...
            seal = await answer.done()

    Args:
        urls: Nodes or load balancers, `https://host[:port]` or `wss://host[:port]/ws/chat`. After
            a failure another one is taken.
        token: The JWT, or what fetches one, `async` or not: called for every connection, and to
            replace the token in place before it expires. One that raises NotAuthenticated ends the
            session; whatever else it raises is tried again.
        session_id: Whose session, a UUID; absent: the server makes one.
        first: Index in `urls` to begin with; absent: by chance.
        give_up_after: Stop with Unreachable when no socket was open for so many seconds; None:
            never.
        on_event: Told what happens to the connection. It must not block.
        tls: For https and wss; absent: the system's certificates.
        rng: Where chance comes from; absent: the operating system.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        urls: str | Iterable[str],
        token: Token,
        *,
        session_id: str | None = None,
        first: int | None = None,
        give_up_after: float | None = 60.0,
        on_event: Callable[[ConnectionEvent], None] | None = None,
        tls: ssl.SSLContext | None = None,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._urls = base_urls(urls)
        self._tokens = TokenSource(token)
        self._session_id = None if session_id is None else message_name(session_id)
        self._first = first
        self._give_up_after = give_up_after
        self._on_event = on_event
        if tls is None and any(url.startswith("https:") for url in self._urls):
            # Once: reading the system's certificates takes longer than a handshake.
            tls = ssl.create_default_context()
        self._tls = tls
        self._rng = rng or random.SystemRandom()
        self._clock = clock
        self._machine: Machine | None = None
        self._driver: Driver | None = None
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begins to connect, and does not wait for it."""
        if self._running is not None:
            raise ClientClosed("a client is used once")
        self._machine = Machine(
            self._urls,
            self._rng,
            self._clock(),
            first=self._first,
            session_id=self._session_id,
            give_up_after_s=self._give_up_after,
            can_renew=self._tokens.can_renew,
        )
        self._driver = Driver(self._machine, self._tokens, self._tls, self._clock, self._on_event)
        self._running = asyncio.create_task(self._driver.run(), name="chatcluster")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Says goodbye on every socket and ends every task. Answers go on without us; the ones here
        that have no seal end with ClientClosed."""
        if self._driver is not None and self._running is not None:
            self._driver.close(ClientClosed("the client is closed"))
            await self._running

    @property
    def session_id(self) -> str | None:
        """The session in use."""
        return self._session_id if self._machine is None else self._machine.session_id

    @property
    def is_connected(self) -> bool:
        """Whether a socket is open and welcomed."""
        return self._machine is not None and self._machine.is_connected

    async def send(
        self,
        content: str,
        *,
        conversation_id: str | None = None,
        request_id: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        on_disconnect: Literal["continue", "cancel"] = "continue",
    ) -> Answer:
        """Starts an answer and follows it; returns when the request is in the log.

        The request is repeated under one requestId until then, so a lost connection starts nothing
        twice. Use a `request_id` of your own to be safe across processes.

        Raises Rejected, TryLater, TooManyAnswers, ValueError, and what ends a session:
        NotAuthenticated, SessionRefused, Unreachable, ClientClosed.
        """
        request = ChatRequest(
            content=content,
            request_id=request_id or f"{self._rng.getrandbits(128):032x}",
            conversation_id=conversation_id,
            model=model,
            temperature=temperature,
            max_tokens=max_tokens,
            on_disconnect=on_disconnect,
        )
        request.encode()
        return await self._open_driver().send(request)

    def follow(self, message: str | Cursor) -> Answer:
        """Follows an answer from its start (a message id) or from a cursor: to resume it in another
        process, to join it from another device, or to read a finished one.

        Raises TooManyAnswers, ValueError, and what ends a session. What becomes of the answer,
        NOT_FOUND included, its iteration and `done()` tell.
        """
        cursor = Cursor(message) if isinstance(message, str) else message
        if cursor.digest is not None:
            digests.from_text(cursor.digest)
        if cursor.last_index < -1:
            raise ValueError("last_index: -1 or more")
        cursor = replace(cursor, message_id=str(uuid.UUID(cursor.message_id)))
        return self._open_driver().follow(cursor)

    def _open_driver(self) -> Driver:
        if self._driver is None:
            raise ClientClosed("the client is not open: use `async with`")
        return self._driver
