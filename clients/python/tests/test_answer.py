"""What the owner of an answer sees, whether it iterates at once, late, or never."""

from __future__ import annotations

import asyncio

import pytest
import server_text as server

from chatcluster.answer import MOST_NOTES, Answer, AnswerEvent
from chatcluster.client_frames import Cursor
from chatcluster.errors import Unfollowed
from chatcluster.follow import Follow, Verdict
from chatcluster.frames import Chunk, Chunks, Reset, Seal, Status


class Nobody:
    """A client that knows nothing of the answer any more."""

    def cancel(self, message_id: str) -> None:
        """Nothing."""

    def unfollow(self, message_id: str) -> None:
        """Nothing."""


def answer(cursor: Cursor = Cursor(server.MESSAGE)) -> Answer:  # noqa: B008 - it is immutable.
    return Answer(Nobody(), Follow(cursor))


def tell(answer: Answer, *messages: str) -> None:
    """As the machine does: first it changes the follow, then it tells the answer."""
    for message in messages:
        news = server.read(message)
        assert isinstance(news, Chunks | Reset | Status)
        if isinstance(news, Chunks):
            verdict, _ = answer._follow.take(news)
            assert verdict is Verdict.FITS
        elif isinstance(news, Reset):
            assert answer._follow.reset(news.truncate_to) is Verdict.FITS
        answer.tell(news)


def finish(answer: Answer, total: int) -> Seal:
    seal = server.read(server.complete(total))
    assert isinstance(seal, Seal)
    answer.finish(seal)
    return seal


async def events(answer: Answer) -> list[AnswerEvent]:
    return [event async for event in answer]


async def test_it_can_be_read_after_its_end() -> None:
    late = answer()
    tell(late, server.chunks(0, 5))
    seal = finish(late, 5)
    read = await events(late)
    assert [event.index for event in read if isinstance(event, Chunk)] == [0, 1, 2, 3, 4]
    assert await late.done() is seal is late.seal
    assert late.content == server.text(5)
    assert (late.cursor.last_index, late.stats.chunks) == (4, 5)
    assert await events(late) == [], "every event is given once"


async def test_a_waiting_reader_is_woken() -> None:
    live = answer()
    reader = asyncio.create_task(events(live))
    waiter = asyncio.create_task(live.done())
    await asyncio.sleep(0)
    tell(live, server.chunks(0, 2))
    await asyncio.sleep(0)
    tell(live, server.chunks(2, 3))
    seal = finish(live, 3)
    assert len(await reader) == 3
    assert await waiter is seal


async def test_content_is_text_and_code_only() -> None:
    mixed = answer()
    tell(
        mixed,
        server.chunk(0, content="a"),
        server.chunk(1, type="THINKING", content="b"),
        server.chunk(2, type="CODE", content="c"),
        server.chunk(3, type="TOOL_USE", content="d"),
    )
    assert mixed.content == "ac"
    assert [chunk.type for chunk in mixed.chunks] == ["TEXT", "THINKING", "CODE", "TOOL_USE"]


async def test_a_reset_takes_back_what_was_not_read_and_says_so_once() -> None:
    slow = answer()
    tell(slow, server.chunks(0, 3))
    assert isinstance(await anext(slow), Chunk)
    tell(slow, server.status("waiting"), server.reset(2), server.chunks(2, 5, 2), server.reset(1))
    tell(slow, server.chunks(1, 3, epoch=3))
    finish(slow, 3)
    assert slow.content == server.word(0) + server.word(1, 3) + server.word(2, 3)
    kinds = [
        (type(event).__name__, getattr(event, "index", getattr(event, "truncate_to", None)))
        for event in await events(slow)
    ]
    assert kinds == [("Status", None), ("Reset", 1), ("Chunk", 1), ("Chunk", 2)]


async def test_an_answer_from_a_cursor_holds_what_comes_after_it() -> None:
    resumed = answer(Cursor(server.MESSAGE, 4))
    tell(resumed, server.chunks(5, 7))
    assert resumed.content == server.word(5) + server.word(6)
    tell(resumed, server.reset(0), server.chunks(0, 2))
    assert resumed.content == server.text(2)


async def test_a_program_may_keep_where_it_stands_after_each_chunk() -> None:
    read = answer()
    tell(read, server.chunks(0, 5))
    first, second = await anext(read), await anext(read)
    assert isinstance(first, Chunk)
    assert isinstance(second, Chunk)
    assert read.cursor_after(second) == Cursor(server.MESSAGE, 1, 1, server.digest(2))
    assert read.cursor == Cursor(server.MESSAGE, 4, 1, server.digest(5))
    tell(read, server.reset(1))
    assert read.cursor_after(first) == Cursor(server.MESSAGE, 0, 1, server.digest(1))
    with pytest.raises(IndexError):
        read.cursor_after(second)


async def test_notes_that_nobody_reads_are_bounded() -> None:
    ignored = answer()
    tell(ignored, server.chunks(0, 1))
    for _ in range(3 * MOST_NOTES):
        tell(ignored, server.status("waiting"))
    tell(ignored, server.chunks(1, 2))
    finish(ignored, 2)
    read = await events(ignored)
    assert len(read) == MOST_NOTES + 2
    assert [event.index for event in read if isinstance(event, Chunk)] == [0, 1]


async def test_an_end_without_seal_is_raised_to_everybody() -> None:
    left = answer()
    tell(left, server.chunks(0, 1))
    left.finish(Unfollowed("left"))
    assert isinstance(await anext(left), Chunk)
    for _ in range(2):
        with pytest.raises(Unfollowed):
            await anext(left)
        with pytest.raises(Unfollowed):
            await left.done()
    assert left.seal is None
    assert "left" not in repr(left)
