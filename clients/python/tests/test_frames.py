"""Reading what servers say, and writing what clients say."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
import server_text as server

from chatcluster import digest as digests
from chatcluster import frames
from chatcluster.client_frames import (
    Auth,
    CancelStream,
    ChatRequest,
    Cursor,
    Heartbeat,
    Reconnect,
    Unfollow,
)
from chatcluster.frame_reader import BadFrame, parse


def test_the_digest_is_the_one_of_the_servers_documentation() -> None:
    assert digests.as_text(digests.EMPTY) == "00000000"
    assert digests.as_text(digests.after(digests.EMPTY, "TEXT", "Hello")) == "c88d6113"
    assert digests.from_text("c88d6113") == 0xC88D6113
    for bad in ("", "c88d611", "C88D6113", "0xc88d61", "c88d61_3"):
        with pytest.raises(ValueError, match="digest"):
            digests.from_text(bad)


def test_every_frame_is_read_with_its_types() -> None:
    welcome = server.read(server.welcome("one", 1_500))
    assert isinstance(welcome, frames.Welcome)
    assert (welcome.node, welcome.heartbeat_ms, welcome.token_expires_at.year) == (
        "one",
        1_500,
        2026,
    )
    assert isinstance(server.read(server.accepted("r")), frames.Accepted)
    run = server.read(server.chunks(3, 6))
    assert isinstance(run, frames.Chunks)
    assert [chunk.index for chunk in run.chunks] == [3, 4, 5]
    single = server.read(server.chunk(7, metadata={"callId": "c"}))
    assert isinstance(single, frames.Chunks)
    assert single.chunks[0].metadata == {"callId": "c"}
    seal = server.read(server.complete(code="INTERRUPTED", retryable=True, status="failed"))
    assert isinstance(seal, frames.Seal)
    assert (seal.status, seal.code, seal.retryable) == ("failed", "INTERRUPTED", True)
    recovery = server.read(server.recovery(2, 5))
    assert isinstance(recovery, frames.Recovery)
    assert (recovery.from_index, recovery.tail) == (2, 5)
    assert isinstance(server.read(server.reset(0)), frames.Reset)
    assert isinstance(server.read(server.takeover(2, 5)), frames.Takeover)
    assert isinstance(server.read(server.status("paused")), frames.Status)
    assert isinstance(server.read(server.goaway()), frames.Goaway)
    assert isinstance(
        server.read(server.frame("TOKEN_EXPIRING", expiresAt=server.AT)), frames.TokenExpiring
    )
    assert isinstance(server.read(server.frame("HEARTBEAT_ACK", t=[1])), frames.HeartbeatAck)
    refusal = server.read(server.refusal("RATE_LIMITED", True, retryAfterMs=9, final=True))
    assert isinstance(refusal, frames.Refusal)
    assert (refusal.error, refusal.retry_after_ms, refusal.final) == ("no", 9, True)


def test_a_type_of_a_later_version_is_no_error() -> None:
    assert parse(server.frame("HOLOGRAM", x=1)) is None


def test_no_secret_and_no_text_is_shown() -> None:
    shown = repr(
        [
            server.read(server.welcome("one", resumeToken="hush")),
            server.read(server.goaway(resume="hush")),
            server.read(server.chunk(0, content="hush")),
            Auth("hush"),
            ChatRequest("hush", "r"),
        ]
    )
    assert "hush" not in shown


def deep(levels: int) -> str:
    return "[" * levels + "]" * levels


HOSTILE: list[str | bytes] = [
    b"\x00",
    "",
    "{",
    "null",
    "[]",
    '"text"',
    deep(200_000),
    '{"type":' + "9" * 6_000 + "}",
    "{}",
    '{"type":7,"timestamp":"2026-01-01T00:00:00Z","data":{}}',
    '{"type":"CHUNK"}',
    '{"type":"CHUNK","timestamp":"soon","data":{}}',
    '{"type":"CHUNK","timestamp":"2026-01-01T00:00:00","data":{}}',
    '{"type":"CHUNK","timestamp":"2026-01-01T00:00:00Z","data":[]}',
    '{"type":"HEARTBEAT_ACK","timestamp":"2026-01-01T00:00:00Z","data":{"t":NaN}}',
    server.welcome(heartbeatMs=-1),
    server.welcome(heartbeatMs=True),
    server.welcome(heartbeatMs=1.5),
    server.welcome(heartbeatMs=2**53 + 1),
    server.welcome(protocol="chatcluster.v2"),
    server.welcome(resumeToken="x" * 2_000),
    server.accepted("r").replace("false", "0"),
    server.chunk(-1),
    server.chunk(0, content=""),
    server.chunk(0, content="x" * 1_025),
    server.chunk(0, content=None),
    server.chunk(0, type="VIDEO"),
    server.chunk(0, metadata="m"),
    server.chunk(0).replace("0-gr", "\\ud800"),
    server.chunks(0, 0),
    server.frame("CHUNKS", messageId=server.MESSAGE, epoch=1, index=0, chunks={}),
    server.frame("CHUNKS", messageId=server.MESSAGE, epoch=1, index=0, chunks=[1]),
    server.complete(digest="C88D6113"),
    server.complete(status="perhaps"),
    server.complete(usage=None),
    server.recovery(0, 0, status="FOUND"),
    server.reset(0, reason="INCONSISTENT"),
    server.status("asleep"),
    server.frame("ERROR", code="X", retryable=True),
    server.refusal("X", True, final="yes"),
]


@pytest.mark.parametrize("message", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_no_frame_is_refused_and_not_quoted(message: str | bytes) -> None:
    with pytest.raises(BadFrame) as refused:
        parse(message)
    assert len(str(refused.value)) < 60


def test_any_change_to_a_frame_is_read_or_refused() -> None:
    """Thousands of broken frames: nothing but BadFrame comes out."""
    rng = random.Random(7)
    samples = [
        server.welcome(),
        server.accepted("r"),
        server.chunks(0, 3),
        server.chunk(1, metadata={"a": 1}),
        server.complete(),
        server.recovery(1, 2),
        server.reset(0),
        server.takeover(2, 1),
        server.status("live"),
        server.goaway(),
        server.refusal("RESET", True, final=True),
    ]
    values: list[Any] = [None, True, -1, 2**64, 1.5, "", "x" * 5_000, [], {}, [[]], "\ud800"]
    refused = 0
    for _ in range(5_000):
        message = json.loads(rng.choice(samples))
        part = message if rng.random() < 0.2 else message["data"]
        part[rng.choice(list(part))] = rng.choice(values)
        try:
            parse(json.dumps(message))
        except BadFrame:
            refused += 1
    assert refused > 2_000


def test_client_frames_are_written_as_the_protocol_says() -> None:
    request = ChatRequest("hi ü", "r-1", server.SESSION, "m", 0.5, 9, "cancel")
    assert json.loads(request.encode()) == {
        "type": "CHAT_REQUEST",
        "content": "hi ü",
        "requestId": "r-1",
        "conversationId": server.SESSION,
        "options": {"model": "m", "temperature": 0.5, "maxTokens": 9},
        "onDisconnect": "cancel",
    }
    plain = {"type": "CHAT_REQUEST", "content": "x", "requestId": "r"}
    assert json.loads(ChatRequest("x", "r").encode()) == plain
    cursor = Cursor(server.MESSAGE, 4, 2, "c88d6113")
    resume = {"messageId": server.MESSAGE, "lastChunkIndex": 4, "epoch": 2, "digest": "c88d6113"}
    assert json.loads(Reconnect(cursor).encode()) == {"type": "RECONNECT", **resume}
    start = {"type": "RECONNECT", "messageId": server.MESSAGE}
    assert json.loads(Reconnect(Cursor(server.MESSAGE)).encode()) == start
    kinds = [
        Unfollow("m").encode(),
        CancelStream("m").encode(),
        Auth("t").encode(),
        Heartbeat().encode(),
    ]
    names = ["UNFOLLOW", "CANCEL_STREAM", "AUTH", "HEARTBEAT"]
    assert [json.loads(text)["type"] for text in kinds] == names


@pytest.mark.parametrize(
    "request_",
    [
        ChatRequest("x", "with space"),
        ChatRequest("x", ""),
        ChatRequest("x", "r" * 65),
        ChatRequest("x" * 300_000, "r"),
        ChatRequest("\ud800", "r"),
        ChatRequest("x", "r", temperature=float("nan")),
    ],
    ids=range(6),
)
def test_a_request_that_would_cost_the_socket_is_never_sent(request_: ChatRequest) -> None:
    with pytest.raises(ValueError, match=r"."):
        request_.encode()
