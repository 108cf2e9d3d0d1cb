"""A scripted node: accepts WebSockets on a free port and runs one script per connection."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import server_text as server
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

PATIENCE = 10.0
"""Seconds that any wait of these tests may take."""

Script = Callable[[int, "Peer"], Awaitable[None]]
Gate = Callable[[int, Request], "Response | None"]


class Node:
    """What a test sees of it."""

    def __init__(self, port: int, scheme: str = "http") -> None:
        self.url = f"{scheme}://127.0.0.1:{port}"
        self.offered: list[list[str]] = []
        """Subprotocols of each upgrade, in order."""
        self.paths: list[str] = []
        """Path and query of each request, in order."""
        self.failures: list[BaseException] = []


class Peer:
    """The server's end of one WebSocket."""

    def __init__(self, socket: ServerConnection) -> None:
        self._socket = socket

    async def say(self, *messages: str) -> None:
        """A client that is gone is seen by the next `hear`."""
        try:
            for message in messages:
                await self._socket.send(message)
        except ConnectionClosed:
            pass

    async def hear(self) -> dict[str, Any] | None:
        """The next frame; None once the client is gone."""
        try:
            message = await self._socket.recv()
        except ConnectionClosed:
            return None
        body = json.loads(message)
        assert isinstance(body, dict)
        return body

    async def expect(self, kind: str) -> dict[str, Any]:
        """The next frame of this type; others are passed over."""
        while (body := await self.hear()) is not None:
            if body["type"] == kind:
                return body
        raise AssertionError(f"the client left before it said {kind}")

    async def accept(self, duplicate: bool = False) -> str:
        """Waits for a CHAT_REQUEST and accepts it."""
        request_id = str((await self.expect("CHAT_REQUEST"))["requestId"])
        await self.say(server.accepted(request_id, duplicate=duplicate))
        return request_id

    async def recover(self, tail: int) -> dict[str, Any]:
        """Waits for a RECONNECT and answers with RECOVERY for what it asks."""
        asked = await self.expect("RECONNECT")
        await self.say(server.recovery(asked.get("lastChunkIndex", -1) + 1, tail))
        return asked

    async def finish(self, start: int = 0) -> None:
        """The rest of the answer, and reads until the client leaves."""
        await self.say(server.chunks(start, server.TOKENS), server.complete())
        await self.stay()

    async def stay(self) -> None:
        """Reads until the client leaves."""
        while await self.hear() is not None:
            pass

    async def close(self, code: int) -> None:
        await self._socket.close(code)

    def cut(self) -> None:
        """As a broken cable does."""
        self._socket.transport.abort()


@asynccontextmanager
async def node(
    script: Script, gate: Gate | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Node]:
    """Runs `script(n, peer)` for the n-th connection; `gate` may answer HTTP instead. What a script
    asserts fails the test."""
    count = 0

    async def handle(socket: ServerConnection) -> None:
        nonlocal count
        number, count = count, count + 1
        try:
            await script(number, Peer(socket))
        except Exception as error:  # noqa: BLE001 - handed to the test.
            seen.failures.append(error)

    def process_request(_socket: ServerConnection, request: Request) -> Response | None:
        seen.paths.append(request.path)
        offered = request.headers.get("Sec-WebSocket-Protocol", "")
        seen.offered.append(offered.split(", ") if offered else [])
        return None if gate is None else gate(len(seen.paths) - 1, request)

    async with serve(
        handle,
        "127.0.0.1",
        0,
        subprotocols=[Subprotocol("chatcluster.v1")],
        select_subprotocol=_select,
        process_request=process_request,
        compression=None,
        ping_interval=None,
        ssl=tls,
    ) as listener:
        port = next(iter(listener.sockets)).getsockname()[1]
        seen = Node(port, "http" if tls is None else "https")
        async with asyncio.timeout(PATIENCE):
            yield seen
        listener.close(close_connections=True)
    if seen.failures:
        raise seen.failures[0]


def _select(_socket: ServerConnection, offered: Any) -> Subprotocol | None:
    return Subprotocol("chatcluster.v1") if "chatcluster.v1" in offered else None


async def nowhere() -> str:
    """A port where nobody listens."""
    listener = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    listener.close()
    await listener.wait_closed()
    return f"http://127.0.0.1:{port}"
