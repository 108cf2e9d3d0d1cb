"""The whole client against scripted nodes: real sockets, no data plane."""

from __future__ import annotations

import asyncio
import http
import json
import logging
import random
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import server_text as server
from fake_node import Node, Peer, node, nowhere
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from chatcluster import (
    Answer,
    ChatClient,
    Chunk,
    ClientClosed,
    Connected,
    ConnectionEvent,
    Cursor,
    NotAuthenticated,
    Reconnecting,
    Rejected,
    SessionRefused,
    Unfollowed,
    Unreachable,
    Warned,
)
from chatcluster.connection import FAREWELL


def client(*nodes: Node | str, token: Any = "secret", **options: Any) -> ChatClient:
    urls = [place if isinstance(place, str) else place.url for place in nodes]
    return ChatClient(urls, token, first=0, rng=random.Random(3), **options)


async def indexes(answer: Answer) -> list[int]:
    return [event.index async for event in answer if isinstance(event, Chunk)]


async def assert_whole(answer: Answer) -> None:
    assert await indexes(answer) == list(range(server.TOKENS))
    seal = await answer.done()
    assert (seal.total_chunks, answer.content) == (server.TOKENS, server.text())
    assert answer.stats.digest_ok is True


async def whole_answer(_n: int, peer: Peer) -> None:
    await peer.say(server.welcome())
    await peer.accept()
    await peer.finish()


async def test_an_answer_arrives_whole() -> None:
    async with node(whole_answer) as one, client(one) as chat:
        answer = await chat.send("hi")
        await assert_whole(answer)
        assert answer.accepted is not None
        assert answer.accepted.conversation_id == chat.session_id == server.SESSION
        assert chat.is_connected
    assert one.offered == [["chatcluster.v1", "bearer.secret"]]
    assert one.paths == ["/ws/chat"]


async def test_a_node_that_is_not_there_is_passed_over() -> None:
    events: list[ConnectionEvent] = []
    away, told = await nowhere(), events.append
    async with node(whole_answer) as one, client(away, one, on_event=told) as chat:
        await assert_whole(await chat.send("hi"))
    assert isinstance(events[0], Reconnecting)
    assert events[0].attempt == 1


async def test_after_a_cut_it_resumes_on_another_node() -> None:
    async def second(_n: int, peer: Peer) -> None:
        await peer.say(server.welcome("two"))
        asked = await peer.recover(12)
        assert (asked["lastChunkIndex"], asked["epoch"], asked["digest"]) == (
            6,
            1,
            server.digest(7),
        )
        await peer.finish(7)

    received = asyncio.Event()

    async def first(_n: int, peer: Peer) -> None:
        await peer.say(server.welcome("one"))
        await peer.accept()
        await peer.say(server.chunks(0, 7))
        await received.wait()
        peer.cut()

    async with node(first) as one, node(second) as two, client(one, two) as chat:
        answer = await chat.send("hi")
        before = [await anext(answer) for _ in range(7)]
        received.set()
        assert len(before) + len(await indexes(answer)) == server.TOKENS
        assert (await answer.done(), answer.content) == (answer.seal, server.text())
        assert (answer.stats.digest_ok, answer.stats.recoveries) == (True, 1)
    assert two.offered == [["chatcluster.v1", "bearer.secret", "resume.resume-one"]]
    assert two.paths == [f"/ws/chat?sessionId={server.SESSION}"]


async def test_a_lost_request_is_repeated_with_the_same_id() -> None:
    seen = []

    async def script(n: int, peer: Peer) -> None:
        await peer.say(server.welcome())
        if n == 0:
            seen.append((await peer.expect("CHAT_REQUEST"))["requestId"])
            peer.cut()
            return
        seen.append(await peer.accept(duplicate=True))
        await peer.finish()

    async with node(script) as one, client(one) as chat:
        await assert_whole(await chat.send("hi"))
    assert len(seen) == 2
    assert seen[0] == seen[1]


async def test_a_passing_refusal_is_tried_again_and_a_lasting_one_is_raised() -> None:
    events: list[ConnectionEvent] = []

    async def script(_n: int, peer: Peer) -> None:
        await peer.say(server.welcome())
        request_id = (await peer.expect("CHAT_REQUEST"))["requestId"]
        await peer.say(server.refusal("AT_CAPACITY", True, requestId=request_id, retryAfterMs=1))
        assert (await peer.expect("CHAT_REQUEST"))["requestId"] == request_id
        await peer.say(server.refusal("INVALID_MESSAGE", False, requestId=request_id))
        await peer.stay()

    async with node(script) as one, client(one, on_event=events.append) as chat:
        with pytest.raises(Rejected) as refused:
            await chat.send("hi")
    assert refused.value.code == "INVALID_MESSAGE"
    assert [e.refusal.code for e in events if isinstance(e, Warned)] == ["AT_CAPACITY"]


async def test_goaway_moves_without_a_moment_without_a_socket() -> None:
    moved = asyncio.Event()
    events: list[ConnectionEvent] = []

    async def old(_n: int, peer: Peer) -> None:
        await peer.say(server.welcome("old"))
        await peer.accept()
        await peer.say(server.chunks(0, 5), server.goaway(after_ms=20))
        await moved.wait()
        await peer.say(server.chunks(5, 8))
        assert await peer.hear() is None, "the old socket is closed by the client, without a word"

    async def new(_n: int, peer: Peer) -> None:
        await peer.say(server.welcome("new"))
        asked = await peer.expect("RECONNECT")
        assert asked["lastChunkIndex"] == 4
        moved.set()
        await peer.say(server.recovery(5, 8))
        await peer.finish(5)

    async with node(old) as one, node(new) as two, client(one, two, on_event=events.append) as chat:
        await assert_whole(await chat.send("hi"))
    assert not [event for event in events if isinstance(event, Reconnecting)]
    assert "resume.moved" in two.offered[0]


async def test_a_silent_server_is_left_and_a_living_one_gets_heartbeats() -> None:
    beats = 0

    async def script(n: int, peer: Peer) -> None:
        nonlocal beats
        await peer.say(server.welcome(heartbeat_ms=400))
        if n == 0:
            while (body := await peer.hear()) is not None:
                beats += body["type"] == "HEARTBEAT"
            return
        await peer.close(4501)

    events: list[ConnectionEvent] = []
    async with node(script) as one, client(one, on_event=events.append) as chat:
        with pytest.raises(SessionRefused) as refused:
            await chat.follow(server.MESSAGE).done()
    assert refused.value.code == 4501
    assert beats == 1
    assert any(isinstance(e, Reconnecting) and "silence" in e.why for e in events)


async def test_the_token_is_asked_for_each_connection_and_replaced_in_place() -> None:
    tokens = iter(["one", "two", "three"])

    async def script(n: int, peer: Peer) -> None:
        await peer.say(server.welcome())
        if n == 0:
            await peer.say(server.frame("TOKEN_EXPIRING", expiresAt=server.AT))
            assert (await peer.expect("AUTH"))["token"] == "two"
            await peer.say(server.welcome())
            await peer.close(4001)
            return
        await peer.accept()
        await peer.finish()

    events: list[ConnectionEvent] = []

    def token() -> str:
        time.sleep(0.05)  # It runs in a thread, so it may block.
        return next(tokens)

    told = events.append
    async with node(script) as one, client(one, token=token, on_event=told) as chat:
        await assert_whole(await chat.send("hi"))
    assert [offer[1] for offer in one.offered] == ["bearer.one", "bearer.three"]
    assert len([event for event in events if isinstance(event, Connected)]) == 2


async def test_a_token_callable_may_fail_for_a_while_and_may_say_that_there_is_none() -> None:
    calls = 0

    async def token() -> str:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError("the door is hush-hush")
        if calls == 2:
            return "good"
        raise NotAuthenticated("logged out")

    async def script(_n: int, peer: Peer) -> None:
        await peer.say(server.welcome())
        await peer.accept()
        await peer.close(4000)

    events: list[ConnectionEvent] = []
    async with node(script) as one, client(one, token=token, on_event=events.append) as chat:
        answer = await chat.send("hi")
        with pytest.raises(NotAuthenticated, match="logged out"):
            await answer.done()
        with pytest.raises(NotAuthenticated):
            await chat.send("again")
    assert "hush" not in repr(events)


def problem(status: int, code: str, **headers: str) -> Response:
    body = json.dumps({"status": status, "code": code, "title": "t"}).encode()
    return Response(status, http.HTTPStatus(status).phrase, Headers(headers), body)


async def test_a_refused_token_is_replaced_before_it_is_given_up() -> None:
    calls: list[int] = []

    async def token() -> str:
        calls.append(1)
        return f"t{len(calls)}"

    def gate(_n: int, _request: Request) -> Response | None:
        return problem(401, "UNAUTHENTICATED")

    async with node(whole_answer, gate) as one, client(one, token=token) as chat:
        with pytest.raises(NotAuthenticated, match="UNAUTHENTICATED"):
            await chat.send("hi")
    assert [offer[1] for offer in one.offered] == ["bearer.t1", "bearer.t2", "bearer.t3"]


async def test_a_full_node_is_asked_again_and_a_refused_origin_is_not() -> None:
    def gate(n: int, _request: Request) -> Response | None:
        return problem(503, "AT_CAPACITY") if n == 0 else problem(403, "FORBIDDEN")

    async with node(whole_answer, gate) as one, client(one) as chat:
        with pytest.raises(SessionRefused, match="FORBIDDEN") as refused:
            await chat.send("hi")
    assert refused.value.code == 403
    assert len(one.paths) == 2


def ticket_gate(n: int, request: Request) -> Response | None:
    """A proxy that dislikes tokens among the subprotocols, and lets HTTP pass. The library's server
    reads GET only, so the ticket comes from a server of its own."""
    if "ticket=" in request.path:
        return None
    return Response(400, "Bad Request", Headers(), b"<html>no</html>")


async def tickets(log: list[str]) -> asyncio.Server:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        log.append((await reader.readuntil(b"\r\n\r\n")).decode())
        body = json.dumps({"ticket": f"t-{len(log)}", "expiresAt": server.AT}).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", 0)


async def test_after_three_unexplained_failures_a_ticket_takes_the_tokens_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log: list[str] = []
    shop = await tickets(log)
    port = shop.sockets[0].getsockname()[1]
    monkeypatch.setattr(
        "chatcluster.tickets.tickets_url", lambda _base: f"http://127.0.0.1:{port}/api/v1/tickets"
    )
    async with shop, node(whole_answer, ticket_gate) as one, client(one) as chat:
        await assert_whole(await chat.send("hi"))
    assert [offer[1:] for offer in one.offered] == [["bearer.secret"]] * 3 + [[]]
    assert one.paths[3] == "/ws/chat?ticket=t-1"
    assert log[0].startswith("POST /api/v1/tickets ")
    assert "Authorization: Bearer secret" in log[0]


async def test_a_token_follows_no_redirect() -> None:
    def gate(_n: int, _request: Request) -> Response | None:
        return Response(302, "Found", Headers({"Location": "http://127.0.0.1:9/steal"}), b"")

    async with node(whole_answer, gate) as one:
        assert "HTTP 302" in await first_failure(one)


async def first_failure(place: Node) -> str:
    """Why the first connection did not come about, in the client's words."""
    failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def told(event: ConnectionEvent) -> None:
        if isinstance(event, Reconnecting) and not failed.done():
            failed.set_result(event.why)

    async with client(place, on_event=told):
        return await failed


async def test_without_any_node_it_gives_up_in_time() -> None:
    async with client(await nowhere(), give_up_after=0.5) as chat:
        answer = chat.follow(server.MESSAGE)
        with pytest.raises(Unreachable, match="cannot be reached"):
            await chat.send("hi")
        with pytest.raises(Unreachable):
            await answer.done()


async def test_what_is_no_frame_is_left_out_and_mended() -> None:
    async def script(_n: int, peer: Peer) -> None:
        await peer.say(server.welcome())
        await peer.accept()
        await peer.say(server.chunks(0, 4), "{", server.chunk(4, content=""), server.chunks(5, 8))
        asked = await peer.recover(8)
        assert asked["lastChunkIndex"] == 3
        await peer.finish(4)

    async with node(script) as one, client(one) as chat:
        answer = await chat.send("hi")
        await assert_whole(answer)
        assert answer.stats.gaps == 1


async def test_two_answers_and_a_follow_share_a_socket() -> None:
    async def script(_n: int, peer: Peer) -> None:
        await peer.say(server.welcome())
        await peer.accept()
        await peer.say(server.chunks(0, 3))
        asked = await peer.expect("RECONNECT")
        assert (asked["messageId"], asked["lastChunkIndex"]) == (server.OTHER, 4)
        await peer.say(server.recovery(5, 20, message=server.OTHER, status="COMPLETED"))
        rest = [server.chunks(5, 20, message=server.OTHER), server.complete(message=server.OTHER)]
        await peer.say(*rest)
        await peer.finish(3)

    async with node(script) as one, client(one) as chat:
        first = await chat.send("hi")
        cursor = Cursor(server.OTHER, 4, 1, server.digest(5))
        second = chat.follow(cursor)
        assert chat.follow(server.OTHER.upper()) is second
        assert await indexes(second) == list(range(5, 20))
        assert second.stats.digest_ok is True
        await assert_whole(first)


async def test_whoever_stops_waiting_for_a_request_is_not_sent_its_answer() -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def script(_n: int, peer: Peer) -> None:
        await peer.say(server.welcome())
        request_id = (await peer.expect("CHAT_REQUEST"))["requestId"]
        asked.set()
        await left.wait()
        await peer.say(server.accepted(request_id), server.chunks(0, 2))
        assert (await peer.expect("UNFOLLOW"))["messageId"] == server.MESSAGE
        done.set()
        await peer.stay()

    done = asyncio.Event()
    async with node(script) as one, client(one) as chat:
        waiting = asyncio.create_task(chat.send("hi"))
        await asked.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        left.set()
        await done.wait()


async def test_unfollow_and_cancel_are_said() -> None:
    async def script(_n: int, peer: Peer) -> None:
        await peer.say(server.welcome())
        await peer.accept()
        await peer.say(server.chunks(0, 2))
        await peer.expect("CANCEL_STREAM")
        await peer.expect("UNFOLLOW")
        heard.set()
        await peer.stay()

    heard = asyncio.Event()
    async with node(script) as one, client(one) as chat:
        answer = await chat.send("hi")
        answer.cancel()
        answer.unfollow()
        with pytest.raises(Unfollowed):
            await answer.done()
        await heard.wait()


async def test_close_is_clean_quick_and_ends_every_wait() -> None:
    said = asyncio.Event()

    async def script(_n: int, peer: Peer) -> None:
        await peer.say(server.welcome())
        await peer.accept()
        await peer.say(server.chunks(0, 2))
        await peer.stay()
        said.set()

    two_read = asyncio.Event()

    async def read_two_and_more(answer: Answer) -> None:
        await anext(answer)
        await anext(answer)
        two_read.set()
        await anext(answer)

    before = asyncio.all_tasks()
    async with node(script) as one:
        chat = client(one)
        async with chat:
            answer = await chat.send("hi")
            reader = asyncio.create_task(read_two_and_more(answer))
            waiter = asyncio.create_task(chat.send("never accepted"))
            await two_read.wait()
        for ended in (reader, waiter):
            with pytest.raises(ClientClosed):
                await ended
        await said.wait()
        with pytest.raises(ClientClosed):
            await chat.send("too late")
        with pytest.raises(ClientClosed):
            async with chat:
                pass
        await chat.aclose()
    assert asyncio.all_tasks() == before


async def test_a_peer_that_does_not_say_goodbye_is_not_waited_for() -> None:
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(deaf, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    clock = asyncio.get_running_loop().time
    chat = client(url)
    async with chat:
        await asyncio.sleep(0.05)
        began = clock()
    assert clock() - began < FAREWELL
    listener.close()
    await asyncio.sleep(0)


async def test_over_tls_the_given_certificates_count(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -batch"
    names = ["-subj", "/CN=here", "-addext", "subjectAltName=IP:127.0.0.1"]
    process = await asyncio.create_subprocess_exec(
        *make.split(), *names, "-keyout", key, "-out", certificate, stderr=asyncio.subprocess.PIPE
    )
    _, words = await process.communicate()
    assert process.returncode == 0, words
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(certificate, key)
    async with node(whole_answer, tls=theirs) as one:
        async with client(one, tls=ssl.create_default_context(cafile=certificate)) as chat:
            await assert_whole(await chat.send("hi"))
        assert "certificate" in await first_failure(one)


async def test_a_client_that_is_not_open_says_so() -> None:
    chat = client("http://127.0.0.1:1")
    with pytest.raises(ClientClosed):
        await chat.send("hi")
    with pytest.raises(ClientClosed):
        chat.follow(server.MESSAGE)
    await chat.aclose()


@pytest.mark.parametrize(
    "make",
    [
        lambda: ChatClient([], "t"),
        lambda: ChatClient("http://a", "no token, two words"),
        lambda: ChatClient("http://a", "t", session_id="me"),
    ],
    ids=["no url", "no jwt", "no uuid"],
)
def test_what_cannot_work_is_refused_at_once(make: Callable[[], ChatClient]) -> None:
    with pytest.raises(ValueError, match=r"."):
        make()


@pytest.mark.parametrize(
    "bad", [Cursor("x"), Cursor(server.MESSAGE, -2), Cursor(server.MESSAGE, 1, 1, "x")]
)
async def test_a_cursor_that_was_not_made_by_us_is_refused(bad: Cursor) -> None:
    async with client(await nowhere()) as chat:
        with pytest.raises(ValueError, match=r"."):
            chat.follow(bad)


async def test_no_token_and_no_text_is_ever_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def script(n: int, peer: Peer) -> None:
        await peer.say(server.welcome("node-hush", resumeToken="resume-hush"))
        await peer.accept()
        await peer.say(server.frame("TOKEN_EXPIRING", expiresAt=server.AT))
        await peer.expect("AUTH")
        await peer.finish()

    async with node(script) as one, client(one, token=lambda: "token-hush") as chat:
        await assert_whole(await chat.send("content-hush"))
    ours = [record for record in caplog.records if record.name.startswith("chatcluster")]
    text = "\n".join(record.getMessage() for record in ours)
    assert "Connected" in text
    for secret in ("token-hush", "resume-hush", "content-hush", "größe"):
        assert secret not in text


async def test_an_owner_whose_callback_fails_keeps_its_session(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(_event: ConnectionEvent) -> None:
        raise RuntimeError("mine")

    async with node(whole_answer) as one, client(one, on_event=broken) as chat:
        await assert_whole(await chat.send("hi"))
    assert "on_event failed" in caplog.text
