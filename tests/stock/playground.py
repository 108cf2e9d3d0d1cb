"""A playground of its own for one test: three nodes of the real data plane on free ports.

Standard library only: whatever client is under test, this is none of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

PATIENCE = 30.0
"""Seconds that one test may take."""
_ROOT = Path(__file__).resolve().parents[2]
_FIRST_PORT, _LAST_PORT = 20_000, 32_000
"""Below those that the kernel gives to connections."""
_NODES = 3
_STARTS = 5
_http = build_opener(ProxyHandler({}))


def binary() -> Path:
    """The data plane: CHATCLUSTER_DATAPLANE, or what cargo builds."""
    path = Path(os.environ.get("CHATCLUSTER_DATAPLANE", _ROOT / "target/debug/dataplane"))
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there: build it with `cargo build --workspace --bin dataplane`, "
            "or name another one in CHATCLUSTER_DATAPLANE"
        )
    return path


@dataclass(frozen=True)
class NodePlace:
    """Where one node is."""

    name: str
    base_url: str
    ws_url: str


class Playground:
    """A running one."""

    def __init__(self, front: str, nodes: list[NodePlace], token: str) -> None:
        self.front = front
        self.nodes = nodes
        self.token = token
        """Of alice, for an hour."""

    @property
    def urls(self) -> list[str]:
        """Base URLs of all nodes."""
        return [node.base_url for node in self.nodes]

    async def kill(self, node: str) -> None:
        """SIGKILL."""
        await self._control(node, "kill")

    async def drain(self, node: str, deadline_ms: int) -> None:
        """It hands its answers and sockets over."""
        await self._control(node, "drain", {"deadlineMs": deadline_ms})

    async def pause(self, node: str, ms: int) -> None:
        """SIGSTOP, and SIGCONT later."""
        await self._control(node, "pause", {"ms": ms})

    async def phase(self, node: str) -> str:
        """serving, refusing, handing_over, flushing, done, dead or paused."""
        nodes = await _call(f"{self.front}/dev/nodes")
        return str(next(entry["phase"] for entry in nodes if entry["name"] == node))

    async def owners(self, message_id: str) -> list[NodePlace]:
        """The nodes that called the provider for this answer, in order: the last one owns it."""
        calls = await _call(f"{self.front}/dev/upstream/calls")
        names = [call["node"] for call in calls if call["messageId"] == message_id]
        return [next(node for node in self.nodes if node.name == name) for name in names]

    async def message(self, message_id: str) -> dict[str, Any]:
        """`GET /api/v1/messages/{id}`, of any node that answers."""
        for node in self.nodes:
            if await self.phase(node.name) == "serving":
                url = f"{node.base_url}/api/v1/messages/{message_id}"
                return dict(await _call(url, token=self.token))
        raise AssertionError("no node serves")

    async def start_answer(self, node: NodePlace, content: str) -> str:
        """`POST .../messages`; the message id."""
        url = f"{node.base_url}/api/v1/conversations/new/messages"
        accepted = await _call(url, {"content": content}, token=self.token)
        return str(accepted["messageId"])

    async def _control(self, node: str, verb: str, body: dict[str, Any] | None = None) -> None:
        await _call(f"{self.front}/dev/nodes/{node}/{verb}", body or {})


@asynccontextmanager
async def playground(**environment: str) -> AsyncIterator[Playground]:
    """Starts one, and stops it by its process id. Everything inside has `PATIENCE`."""
    with tempfile.TemporaryFile() as log:
        process, port = await _start(log, environment)
        try:
            async with asyncio.timeout(PATIENCE):
                yield await _found(f"http://127.0.0.1:{port}")
        finally:
            await _stop(process)


async def _start(log: Any, environment: dict[str, str]) -> tuple[asyncio.subprocess.Process, int]:
    for _ in range(_STARTS):
        port = _free_port()
        process = await asyncio.create_subprocess_exec(
            binary(),
            "playground",
            env={**os.environ, **environment, "CHAT_DEV_PORT": str(port), "STORES": "memory"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
        assert process.stdout is not None
        # The banner comes when all nodes serve, and its last line says how to stop.
        async for line in process.stdout:
            if b"Ctrl-C" in line:
                return process, port
        await process.wait()
    log.seek(0)
    raise RuntimeError(f"no playground: {log.read()[-2_000:].decode(errors='replace')}")


async def _found(front: str) -> Playground:
    nodes = await _call(f"{front}/dev/nodes")
    places = [NodePlace(entry["name"], entry["baseUrl"], entry["wsUrl"]) for entry in nodes]
    token = (await _call(f"{front}/dev/token?user=alice"))["token"]
    return Playground(front, places, token)


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGINT)
    try:
        async with asyncio.timeout(5.0):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _free_port() -> int:
    """A port that is free together with those of the nodes and of their admin interfaces."""
    offsets = [0, *range(1, _NODES + 1), *range(101, _NODES + 101)]
    while True:
        port = random.randrange(_FIRST_PORT, _LAST_PORT)
        if all(_is_free(port + offset) for offset in offsets):
            return port


def _is_free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


async def _call(url: str, body: dict[str, Any] | None = None, token: str | None = None) -> Any:
    """GET, or POST where there is a body."""
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    request = Request(url, data=data, headers=headers)

    def ask() -> Any:
        with _http.open(request, timeout=PATIENCE) as response:
            text = response.read()
        return json.loads(text) if text else None

    return await asyncio.to_thread(ask)
