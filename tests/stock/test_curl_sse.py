"""curl reads an answer as server-sent events, and goes on by Last-Event-ID on another node."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from playground import NodePlace, Playground, playground

TOKENS = 80
PROMPT = f"[sim tokens={TOKENS} rate=60 seed=21 types=text,code,thinking] hello"


@dataclass(frozen=True)
class SseEvent:
    """One event, as the WHATWG's stream interpretation reads it."""

    name: str
    id: str
    data: dict[str, Any]


def curl(place: Playground, node: NodePlace, message: str, *options: str) -> list[str]:
    url = f"{node.base_url}/api/v1/messages/{message}/stream"
    quiet = ["curl", "--silent", "--no-buffer", "--noproxy", "*"]
    return [*quiet, "-H", f"Authorization: Bearer {place.token}", *options, url]


async def events(
    place: Playground, node: NodePlace, message: str, last_event_id: str | None = None
) -> AsyncIterator[SseEvent]:
    """Until curl ends, for whatever reason."""
    options = [] if last_event_id is None else ["-H", f"Last-Event-ID: {last_event_id}"]
    process = await asyncio.create_subprocess_exec(
        *curl(place, node, message, *options), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    fields: dict[str, str] = {}
    async for raw in process.stdout:
        name, _, value = raw.decode().rstrip("\r\n").partition(":")
        if name:
            fields[name] = value.removeprefix(" ")
        elif not raw.strip() and "data" in fields:
            yield SseEvent(
                fields.get("event", "message"), fields.get("id", ""), json.loads(fields["data"])
            )
            fields.clear()
        else:
            fields.clear()
    await process.wait()


async def status(place: Playground, node: NodePlace, message: str, last_event_id: str) -> str:
    options = ("-H", f"Last-Event-ID: {last_event_id}", "-w", "%{http_code}", "--max-time", "5")
    process = await asyncio.create_subprocess_exec(
        *curl(place, node, message, *options), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return output.decode()


def content_of(chunks: list[SseEvent]) -> str:
    shown = ("TEXT", "CODE")
    return "".join(chunk.data["content"] for chunk in chunks if chunk.data["type"] in shown)


async def test_curl_goes_on_by_last_event_id_after_the_owner_was_killed() -> None:
    async with playground() as place:
        owner, other, third = place.nodes
        message = await place.start_answer(owner, PROMPT)
        first: list[SseEvent] = []
        async for event in events(place, owner, message):
            assert event.name == "chunk", "the end does not come before the kill"
            first.append(event)
            if len(first) == 20:
                await place.kill(owner.name)
        rest = [event async for event in events(place, other, message, first[-1].id)]
        chunks = first + [event for event in rest if event.name == "chunk"]
        end = rest[-1]
        kept = await place.message(message)
        again = await status(place, third, message, end.id)
        whole = [event async for event in events(place, third, message)]
        owners = await place.owners(message)

    assert 0 < len(first) < TOKENS
    assert len(owners) == 2, "another node went on"
    indexes = [chunk.data["index"] for chunk in chunks]
    assert indexes == list(range(TOKENS)), "nothing lost, nothing doubled"
    assert [c.id for c in chunks] == [f"{c.data['epoch']}.{c.data['index']}" for c in chunks]
    assert content_of(chunks) == kept["content"] != ""
    assert (end.name, end.data["status"], end.data["totalChunks"]) == (
        "complete",
        "completed",
        TOKENS,
    )
    assert end.data["digest"] == kept["digest"]
    assert end.id == f"{kept['epoch']}.end"
    assert again == "204"
    assert [event for event in whole if event.name == "chunk"] == chunks


async def test_curl_gets_what_comes_after_a_bare_index() -> None:
    async with playground() as place:
        message = await place.start_answer(place.nodes[0], "[sim tokens=10 rate=0 seed=4]")
        read = [event async for event in events(place, place.nodes[1], message, "6")]
    assert [event.id for event in read] == ["1.7", "1.8", "1.9", "1.end"]
