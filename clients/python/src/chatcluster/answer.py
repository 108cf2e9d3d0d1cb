"""One answer, as the owner of a client sees it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Protocol, TypeAlias

from chatcluster.client_frames import Cursor
from chatcluster.effects import AnswerNews
from chatcluster.errors import ChatError
from chatcluster.follow import Follow, Stats
from chatcluster.frames import Accepted, Chunk, Chunks, Recovery, Reset, Seal, Status, Takeover

AnswerEvent: TypeAlias = Chunk | Reset | Takeover | Recovery | Status
"""What iteration gives. After a Reset the chunks with index >= `truncate_to` are void."""

MOST_NOTES = 256
"""Events other than chunks that wait to be read; then the oldest of them that tells only how things
went is left out. Chunks that wait are bounded by the size of an answer."""


class Owner(Protocol):
    """What an answer needs of its client."""

    def cancel(self, message_id: str) -> None:
        """Asks for its end."""

    def unfollow(self, message_id: str) -> None:
        """Stops following it."""


class Answer:
    """Iterate it for chunks and what happens to them, or just wait for `done()`: it is read either
    way. One task iterates; events that came before wait for it."""

    def __init__(self, owner: Owner, follow: Follow, accepted: Accepted | None = None) -> None:
        self._owner = owner
        self._follow = follow
        self._first = follow.next_index
        self._chunks: list[Chunk] = []
        self._text: list[str] = []
        self._waiting: deque[AnswerEvent] = deque()
        self._notes = 0
        self._outcome: Seal | ChatError | None = None
        self._news = asyncio.Event()
        self._ended = asyncio.Event()
        self.message_id = follow.message_id
        self.accepted = accepted
        """Of an answer that was asked for here; it names the conversation."""

    def __repr__(self) -> str:
        state = "live" if self._outcome is None else "ended"
        return f"<Answer {self.message_id} {state}, {len(self._chunks)} chunks>"

    @property
    def content(self) -> str:
        """Its text so far, TEXT and CODE chunks; of an answer that was followed from a cursor, what
        comes after the cursor."""
        if len(self._text) > 1:
            self._text = ["".join(self._text)]
        return self._text[0] if self._text else ""

    @property
    def chunks(self) -> Sequence[Chunk]:
        """All chunks so far."""
        return tuple(self._chunks)

    @property
    def cursor(self) -> Cursor:
        """After everything in `content`: to go on later, also in another process, with
        `client.follow(cursor)`."""
        return self._follow.cursor

    def cursor_after(self, chunk: Chunk) -> Cursor:
        """After this chunk: for a program that keeps what it has read so far, and where it stands.

        Raises IndexError for a chunk that a Reset made void.
        """
        return self._follow.cursor_after(chunk.index)

    @property
    def stats(self) -> Stats:
        """What was seen so far, and whether it fits."""
        return self._follow.stats

    @property
    def seal(self) -> Seal | None:
        """How it ended, once it has."""
        return self._outcome if isinstance(self._outcome, Seal) else None

    def cancel(self) -> None:
        """Asks for its end, again on every new socket until it has ended; the seal tells."""
        self._owner.cancel(self.message_id)

    def unfollow(self) -> None:
        """Stops following; the answer goes on without us. `done()` raises Unfollowed."""
        self._owner.unfollow(self.message_id)

    async def done(self) -> Seal:
        """Waits for the seal, whatever it says: look at its `status`.

        Raises the ChatError that ended the answer here where there is no seal.
        """
        await self._ended.wait()
        if isinstance(self._outcome, Seal):
            return self._outcome
        raise self._outcome or AssertionError("ended without an outcome")

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> AnswerEvent:
        while not self._waiting:
            if isinstance(self._outcome, Seal):
                raise StopAsyncIteration
            if self._outcome is not None:
                raise self._outcome
            self._news.clear()
            await self._news.wait()
        event = self._waiting.popleft()
        self._notes -= not isinstance(event, Chunk)
        return event

    # --- the client's side ---

    def tell(self, news: AnswerNews) -> None:
        """Something happened to it. Chunks are new and consecutive."""
        match news:
            case Chunks():
                self._chunks += news.chunks
                self._text += [chunk.content for chunk in news.chunks if chunk.type.is_content]
                self._waiting += news.chunks
            case Reset():
                self._truncate(news.truncate_to)
                self._note(news)
            case _:
                self._note(news)
        self._news.set()

    def finish(self, outcome: Seal | ChatError) -> None:
        """It has ended."""
        self._outcome = outcome
        self._news.set()
        self._ended.set()

    def _truncate(self, to: int) -> None:
        self._first = min(self._first, to)
        del self._chunks[to - self._first :]
        self._text = [chunk.content for chunk in self._chunks if chunk.type.is_content]
        void = {Chunk: "index", Reset: "truncate_to"}
        # What was not read yet need not be: void chunks, and resets that this one includes.
        self._waiting = deque(
            event
            for event in self._waiting
            if type(event) not in void or getattr(event, void[type(event)]) < to
        )
        self._notes = sum(not isinstance(event, Chunk) for event in self._waiting)

    def _note(self, event: AnswerEvent) -> None:
        if self._notes >= MOST_NOTES:
            told = (e for e in self._waiting if isinstance(e, Status | Takeover | Recovery))
            if (oldest := next(told, None)) is not None:
                self._waiting.remove(oldest)
                self._notes -= 1
        self._waiting.append(event)
        self._notes += 1
