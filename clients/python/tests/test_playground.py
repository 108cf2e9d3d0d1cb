"""The whole client against the real data plane, whose nodes are killed, drained and frozen: nothing
is lost, nothing doubled, the digest fits, and the text is the one that the server keeps."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playground import Playground, playground

from chatcluster import (
    Answer,
    ChatClient,
    Chunk,
    Connected,
    ConnectionEvent,
    GoingAway,
    Reconnecting,
    Rejected,
    Reset,
    SealStatus,
)
from chatcluster.connection import FAREWELL

TOKENS = 60
PROMPT = f"[sim tokens={TOKENS} rate=60 seed=11 types=text,code,thinking] hello"
HERE = Path(__file__).parent


def client(place: Playground, first: int = 0, **options: Any) -> ChatClient:
    return ChatClient(place.urls, place.token, first=first, **options)


async def read(
    answer: Answer, at: int | None = None, act: Callable[[], Awaitable[None]] | None = None
) -> list[int]:
    """Indexes of all chunks in the order in which they came; at chunk `at` something is done."""
    indexes: list[int] = []
    async for event in answer:
        assert not isinstance(event, Reset), "nothing that was seen is taken back"
        if isinstance(event, Chunk):
            indexes.append(event.index)
            if event.index == at and act is not None:
                await act()
    return indexes


async def assert_whole(
    place: Playground, answer: Answer, indexes: list[int], tokens: int = TOKENS
) -> None:
    seal = await answer.done()
    assert seal.status is SealStatus.COMPLETED
    assert seal.total_chunks == tokens > 0
    lost = set(range(tokens)) - set(indexes)
    doubled = len(indexes) - len(set(indexes))
    assert (lost, doubled, indexes) == (set(), 0, sorted(indexes))
    kept = await place.message(answer.message_id)
    assert answer.content == kept["content"] != ""
    assert answer.stats.digest == seal.digest == kept["digest"]
    assert answer.stats.digest_ok is True
    assert (answer.stats.gaps, answer.stats.mismatches) == (0, 0)


async def test_the_owner_is_killed_in_the_middle_and_a_second_device_watches() -> None:
    events: list[ConnectionEvent] = []
    async with (
        playground() as place,
        client(place, on_event=events.append) as phone,
        client(place, first=1) as laptop,
    ):
        answer = await phone.send(PROMPT)
        owner = (await place.owners(answer.message_id))[0]
        watched = laptop.follow(answer.message_id)
        async with asyncio.TaskGroup() as devices:
            mine = devices.create_task(read(answer, 20, lambda: place.kill(owner.name)))
            theirs = devices.create_task(read(watched))
        await assert_whole(place, answer, mine.result())
        await assert_whole(place, watched, theirs.result())
        assert len(await place.owners(answer.message_id)) == 2, "another node went on"
    assert owner == place.nodes[0], "the phone lost its socket too"
    assert [event for event in events if isinstance(event, Reconnecting)]
    assert answer.stats.recoveries >= 1
    assert watched.stats.takeovers == 1


async def test_a_drain_moves_the_answer_without_a_moment_without_a_socket() -> None:
    events: list[ConnectionEvent] = []
    async with playground() as place, client(place, on_event=events.append) as chat:
        # Nodes claim nothing before they were in touch with the store for one lease, 5 s.
        answer = await chat.send("[sim tokens=210 rate=30 seed=12]")
        name = place.nodes[0].name
        indexes = await read(answer, 10, lambda: place.drain(name, 5_500))
        await assert_whole(place, answer, indexes, 210)
        assert len(await place.owners(answer.message_id)) == 2, "another node went on"
        nodes = [event.node for event in events if isinstance(event, Connected)]
    assert [event for event in events if isinstance(event, GoingAway)]
    assert not [event for event in events if isinstance(event, Reconnecting)]
    assert nodes[0] == name
    assert answer.stats.takeovers == 1
    assert len(nodes) > 1
    assert name not in nodes[1:]


async def test_a_frozen_owner_is_replaced_and_its_own_client_gets_the_rest() -> None:
    async with playground() as place, client(place) as chat:
        answer = await chat.send(PROMPT)
        name = place.nodes[0].name
        indexes = await read(answer, 10, lambda: place.pause(name, 6_500))
        await assert_whole(place, answer, indexes)
        assert len(await place.owners(answer.message_id)) == 2
    assert answer.stats.takeovers == 1


async def test_a_client_can_leave_a_frozen_node() -> None:
    async with playground() as place:
        async with client(place) as chat:
            await chat.send("[sim tokens=500 rate=50]")
            await place.pause(place.nodes[0].name, 4_000)
            began = time.monotonic()
        assert time.monotonic() - began < 2 * FAREWELL


async def test_cancel_ends_the_answer_with_what_was_written() -> None:
    async with playground() as place, client(place) as chat, client(place, first=1) as other:
        answer = await chat.send("[sim tokens=5000 rate=50 seed=2]")

        async def cancel() -> None:
            # From another device, on another node.
            other.follow(answer.message_id).cancel()

        indexes = await read(answer, 10, cancel)
        seal = await answer.done()
        kept = await place.message(answer.message_id)
    assert seal.status is SealStatus.CANCELLED
    assert 10 < seal.total_chunks == len(indexes) < 200
    assert indexes == list(range(seal.total_chunks))
    assert answer.content == kept["content"]
    assert answer.stats.digest_ok is True


async def test_a_cursor_is_resumed_in_a_new_process() -> None:
    async with playground() as place:
        before: list[str] = []
        async with client(place) as chat:
            answer = await chat.send("[sim tokens=60 rate=40 seed=5]")
            async for event in answer:
                if isinstance(event, Chunk):
                    before.append(event.content)
                    if event.index == 15:
                        cursor = json.dumps(asdict(answer.cursor_after(event)))
                        break
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            HERE / "resume_in_another_process.py",
            cursor,
            *place.urls,
            env={**os.environ, "CHAT_TOKEN": place.token},
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0
        resumed = json.loads(output)
        kept = await place.message(answer.message_id)
    assert resumed["indexes"] == list(range(16, 60))
    assert resumed["digestOk"] is True
    assert "".join(before) + resumed["content"] == kept["content"]
    assert kept["totalChunks"] == 60


async def test_what_is_not_mine_is_not_found_and_a_finished_answer_is_read_again() -> None:
    async with playground() as place, client(place) as chat, client(place, first=2) as other:
        answer = await chat.send("[sim tokens=40 rate=0]", request_id="once")
        await assert_whole(place, answer, await read(answer), 40)
        again = await other.send("[sim tokens=40 rate=0]", request_id="once")
        assert again.accepted is not None
        assert (again.message_id, again.accepted.duplicate) == (answer.message_id, True)
        await assert_whole(place, again, await read(again), 40)
        finished = other.follow(answer.message_id)
        await assert_whole(place, finished, await read(finished), 40)
        nobodys = other.follow("018f4d5e-0000-7000-8000-000000000001")
        with pytest.raises(Rejected) as rejected:
            await nobodys.done()
    assert rejected.value.code == "NOT_FOUND"


async def test_a_proxy_that_dislikes_tokens_among_the_subprotocols_is_passed_by_ticket() -> None:
    async with (
        playground() as place,
        strict_proxy(place.nodes[0].base_url) as proxy,
        ChatClient(proxy, place.token) as chat,
    ):
        answer = await chat.send("[sim tokens=30 rate=0]")
        await assert_whole(place, answer, await read(answer), 30)


async def test_the_example_prints_the_answer() -> None:
    async with playground() as place:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            HERE.parent / "examples" / "ask.py",
            "[sim tokens=30 rate=200 seed=8]",
            "hello",
            env={**os.environ, "CHAT_TOKEN": place.token, "CHAT_URLS": ",".join(place.urls)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, end = await process.communicate()
    assert process.returncode == 0
    assert b"completed, 30 chunks, digest ok: True" in end
    assert len(output) > 100


@asynccontextmanager
async def strict_proxy(node: str) -> AsyncIterator[str]:
    """Passes everything on to a node, except upgrades that carry a token; those get a page."""
    address = urlsplit(node)

    async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65_536):
                target.write(data)
                await target.drain()
        target.close()

    async def serve(client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        head = await client.readuntil(b"\r\n\r\n")
        if b"bearer." in head:
            back.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno")
            back.close()
            return
        answers, onward = await asyncio.open_connection(address.hostname, address.port)
        onward.write(head)
        await asyncio.gather(pump(client, onward), pump(answers, back))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
