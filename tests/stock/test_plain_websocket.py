"""A plain WebSocket client, without any package of ours, in both dialects."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote
from zlib import crc32

import pytest
from playground import NodePlace, Playground, playground
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

TOKENS = 80
PROMPT = f"[sim tokens={TOKENS} rate=60 seed=31 types=text,code,thinking] hello"
BASIC = {"WELCOME", "CHUNK", "COMPLETE", "ERROR", "HEARTBEAT_ACK"}
"""All that dialect basic may ever be sent."""


def v1(place: Playground, node: NodePlace) -> connect:
    offered = [Subprotocol("chatcluster.v1"), Subprotocol(f"bearer.{place.token}")]
    return connect(node.ws_url, subprotocols=offered, proxy=None)


def basic(place: Playground, node: NodePlace) -> connect:
    return connect(f"{node.ws_url}?token={quote(place.token)}", proxy=None)


async def say(socket: ClientConnection, kind: str, **fields: Any) -> None:
    await socket.send(json.dumps({"type": kind, **fields}))


async def hear(socket: ClientConnection) -> dict[str, Any]:
    frame = json.loads(await socket.recv())
    assert {"type", "timestamp", "data"} <= set(frame)
    return dict(frame)


def chunks_of(frame: dict[str, Any]) -> list[dict[str, Any]]:
    """Of CHUNK and CHUNKS, each with its index and epoch."""
    data = frame["data"]
    if frame["type"] == "CHUNK":
        return [data]
    if frame["type"] != "CHUNKS":
        return []
    common = {"messageId": data["messageId"], "epoch": data["epoch"]}
    return [
        {**common, **chunk, "index": data["index"] + k} for k, chunk in enumerate(data["chunks"])
    ]


def digest_of(chunks: list[dict[str, Any]]) -> str:
    """As the protocol describes it, in one line of anybody's code."""
    value = 0
    for chunk in chunks:
        value = crc32(f"{chunk['type']}\x1f{chunk['content']}\x1e".encode(), value)
    return f"{value:08x}"


def content_of(chunks: list[dict[str, Any]]) -> str:
    return "".join(chunk["content"] for chunk in chunks if chunk["type"] in ("TEXT", "CODE"))


async def read_until_the_owner_is_killed(
    place: Playground, socket: ClientConnection
) -> list[dict[str, Any]]:
    """Everything up to the cut; the node at the other end is killed after 20 chunks."""
    chunks: list[dict[str, Any]] = []

    async def read() -> None:
        while True:
            before = len(chunks)
            chunks.extend(chunks_of(await hear(socket)))
            if before < 20 <= len(chunks):
                await place.kill(place.nodes[0].name)

    with pytest.raises(ConnectionClosed):
        await read()
    assert 20 <= len(chunks) < TOKENS
    return chunks


async def assert_kept(
    place: Playground, chunks: list[dict[str, Any]], seal: dict[str, Any]
) -> None:
    assert [chunk["index"] for chunk in chunks] == list(range(TOKENS)), "none lost, none doubled"
    kept = await place.message(seal["messageId"])
    assert content_of(chunks) == kept["content"] != ""
    assert digest_of(chunks) == kept["digest"] == seal["digest"]
    assert (seal["status"], seal["totalChunks"]) == ("completed", TOKENS)
    assert len(await place.owners(seal["messageId"])) == 2, "another node went on"


async def test_v1_is_resumed_by_reconnect_after_the_owner_was_killed() -> None:
    async with playground() as place:
        async with v1(place, place.nodes[0]) as socket:
            assert socket.subprotocol == "chatcluster.v1"
            assert (await hear(socket))["type"] == "WELCOME"
            await say(socket, "CHAT_REQUEST", content=PROMPT, requestId="plain")
            accepted = await hear(socket)
            assert (accepted["type"], accepted["data"]["requestId"]) == ("ACCEPTED", "plain")
            chunks = await read_until_the_owner_is_killed(place, socket)
        last, kinds = chunks[-1], []
        async with v1(place, place.nodes[1]) as socket:
            await hear(socket)
            cursor = {"lastChunkIndex": last["index"], "epoch": last["epoch"]}
            message = accepted["data"]["messageId"]
            await say(socket, "RECONNECT", messageId=message, digest=digest_of(chunks), **cursor)
            while (frame := await hear(socket))["type"] != "COMPLETE":
                kinds.append(frame["type"])
                chunks += chunks_of(frame)
                if frame["type"] == "RECOVERY":
                    assert frame["data"]["from"] == last["index"] + 1
        await assert_kept(place, chunks, frame["data"])
    assert kinds[0] == "RECOVERY"
    assert "TAKEOVER" in kinds
    assert set(kinds) <= {"RECOVERY", "TAKEOVER", "STATUS", "CHUNK", "CHUNKS"}


async def test_basic_is_resumed_by_reconnect_after_the_owner_was_killed() -> None:
    async with playground() as place:
        async with basic(place, place.nodes[0]) as socket:
            assert socket.subprotocol is None
            welcome = await hear(socket)
            assert set(welcome["data"]) == {"sessionId", "userId", "serverTime"}
            await say(socket, "CHAT_REQUEST", data={"content": PROMPT})
            chunks = await read_until_the_owner_is_killed(place, socket)
        message, kinds = chunks[0]["messageId"], set()
        async with basic(place, place.nodes[1]) as socket:
            await hear(socket)
            last = chunks[-1]["index"]
            await say(socket, "RECONNECT", data={"messageId": message, "lastChunkIndex": last})
            while (frame := await hear(socket))["type"] != "COMPLETE":
                kinds.add(frame["type"])
                chunks += chunks_of(frame)
        await assert_kept(place, chunks, frame["data"])
        assert frame["data"]["content"] == content_of(chunks)
    assert kinds == {"CHUNK"}


async def test_basic_only_ever_sees_the_frames_of_the_original_design() -> None:
    """Everything that v1 has more words for: acceptance, recovery, cancel, failure, drain."""
    seen: set[str] = set()

    async def until(socket: ClientConnection, *ends: str) -> dict[str, Any]:
        while True:
            frame = await hear(socket)
            seen.add(frame["type"])
            if frame["type"] in ends:
                return frame

    async with playground() as place, basic(place, place.nodes[0]) as socket:
        await until(socket, "WELCOME")
        await say(socket, "CHAT_REQUEST", content="[sim tokens=30 rate=0]", requestId="same")
        first = (await until(socket, "COMPLETE"))["data"]
        await say(socket, "CHAT_REQUEST", content="another body", requestId="same")
        again = (await until(socket, "COMPLETE"))["data"]
        assert (again["messageId"], again["content"]) == (first["messageId"], first["content"])
        await say(socket, "RECONNECT", messageId=first["messageId"], lastChunkIndex=9)
        assert (await until(socket, "COMPLETE"))["data"]["totalChunks"] == 30

        await say(socket, "CHAT_REQUEST", content="[sim tokens=500 rate=100 seed=2]")
        live = (await until(socket, "CHUNK"))["data"]["messageId"]
        await say(socket, "CANCEL_STREAM", messageId=live)
        assert (await until(socket, "COMPLETE"))["data"]["status"] == "cancelled"

        await say(socket, "CHAT_REQUEST", content="[sim tokens=30 rate=0 fail=5]")
        failed = (await until(socket, "ERROR", "COMPLETE"))["data"]
        assert (failed["code"], failed["final"]) == ("UPSTREAM_UNAVAILABLE", True)

        stranger = "018f4d5e-0000-7000-8000-000000000001"
        await say(socket, "RECONNECT", messageId=stranger)
        missing = (await until(socket, "ERROR"))["data"]
        assert (missing["code"], missing["status"]) == ("NOT_FOUND", "NOT_FOUND")
        assert missing["shouldReconnect"] is False
        await say(socket, "RECONNECT", messageId=first["messageId"], lastChunkIndex=999)
        assert (await until(socket, "ERROR"))["data"]["code"] == "RESET"

        await socket.send("{")
        assert (await until(socket, "ERROR"))["data"]["code"] == "INVALID_JSON"
        await say(socket, "DANCE")
        assert (await until(socket, "ERROR"))["data"]["code"] == "UNKNOWN_TYPE"
        await say(socket, "HEARTBEAT", t=7)
        assert (await until(socket, "HEARTBEAT_ACK"))["data"]["t"] == 7

        await say(socket, "CHAT_REQUEST", content="[sim tokens=2000 rate=100 seed=3]")
        await until(socket, "CHUNK")
        await place.drain(place.nodes[0].name, 300)
        with pytest.raises(ConnectionClosed) as closed:
            await until(socket)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    assert seen == BASIC
