"""Where this client stands in one followed message: its cursor, its digest, what is new of a run of
chunks, and what does not fit. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto

from chatcluster import digest as digests
from chatcluster.client_frames import Cursor
from chatcluster.frames import MAX_ANSWER_BYTES, MAX_CHUNKS, Chunk, Chunks, Recovery, Seal

MOST_REREADS = 3
"""So often a text that contradicts itself is read again from the start."""
MOST_GAPS = 10
"""So often in a row, without one new chunk between, missing chunks are asked for again."""


@dataclass(slots=True)
class Stats:
    """What was seen of an answer."""

    chunks: int = 0
    """Held, from the cursor that the follow began with."""
    duplicates: int = 0
    """Came again and were dropped."""
    gaps: int = 0
    """Times that chunks were missing; they were asked for again, and nothing was shown before."""
    mismatches: int = 0
    """Times that a digest or count of the server did not fit; the text was read again."""
    recoveries: int = 0
    """RECONNECTs answered."""
    resets: int = 0
    takeovers: int = 0
    digest: str | None = None
    """Of everything up to here; None where the part before the cursor is not known."""
    digest_ok: bool | None = None
    """Whether count and digest equal the seal's; None before the end."""


class Verdict(Enum):
    """What a frame means for a follow."""

    FITS = auto()
    GAP = auto()
    """Chunks are missing: ask again from here."""
    INCONSISTENT = auto()
    """It cannot belong to the text that is held: read again from the start."""


@dataclass(frozen=True, slots=True)
class _Mark:
    """State after one chunk."""

    epoch: int
    digest: int | None
    bytes: int


class Follow:
    """One followed message. The machine alone changes it; an answer reads `cursor` and `stats`."""

    def __init__(self, cursor: Cursor) -> None:
        self.message_id = cursor.message_id
        self.source: int | None = None
        """The link whose frames count."""
        self.asked: int | None = None
        """The link where RECONNECT was sent; its RECOVERY makes it the source."""
        self.asked_from = 0
        """The index that it was asked for; the old source may have gone on since."""
        self.retry_at: float | None = None
        """When to send RECONNECT again."""
        self.cancelling = False
        """CANCEL_STREAM was asked for and is repeated with every RECONNECT."""
        self.gaps_in_a_row = 0
        self._stats = Stats()
        self._takeover = 0
        self._reset_due = False
        self._marks: list[_Mark] = []
        self._base = cursor.last_index + 1
        self._base_epoch = cursor.epoch
        known = None if cursor.digest is None else digests.from_text(cursor.digest)
        self._base_digest = digests.EMPTY if self._base == 0 else known

    @property
    def next_index(self) -> int:
        """First index not received."""
        return self._base + len(self._marks)

    @property
    def cursor(self) -> Cursor:
        """After everything received: to resume with."""
        return self.cursor_after(self.next_index - 1)

    def cursor_after(self, index: int) -> Cursor:
        """After the chunk of this index. Raises IndexError where it is not held."""
        if index == -1 and self._base == 0:
            return Cursor(self.message_id)
        at = index - self._base
        if not -1 <= at < len(self._marks):
            raise IndexError(f"chunk {index} is not held")
        epoch = self._base_epoch if at == -1 else self._marks[at].epoch
        digest = self._digest_before(index + 1)
        text = None if digest is None else digests.as_text(digest)
        return Cursor(self.message_id, index, epoch, text)

    @property
    def stats(self) -> Stats:
        """A copy, as of now."""
        digest = None if self._digest is None else digests.as_text(self._digest)
        return replace(self._stats, chunks=len(self._marks), digest=digest)

    @property
    def is_hopeless(self) -> bool:
        """Whether reading again has been tried often enough."""
        return self._stats.mismatches > MOST_REREADS or self.gaps_in_a_row > MOST_GAPS

    @property
    def _digest(self) -> int | None:
        return self._marks[-1].digest if self._marks else self._base_digest

    def lose(self, link: int) -> None:
        """Forgets a link that is gone."""
        self.source = None if self.source == link else self.source
        self.asked = None if self.asked == link else self.asked

    def listen_to(self, link: int) -> None:
        """From now on the frames of this link count."""
        self.source, self.asked, self.retry_at = link, None, None

    def ask_again(self, at: float) -> None:
        """Listens to nobody until a RECONNECT that is sent at `at` is answered."""
        self.source, self.asked, self.retry_at = None, None, at

    def recovered(self, recovery: Recovery) -> Verdict:
        """RECOVERY of something that was found. A cursor that the server refuses gets RECOVERY from
        elsewhere, and RESET next."""
        self._stats.recoveries += 1
        start = recovery.from_index
        self._reset_due = start != self.asked_from
        if self._reset_due:
            return Verdict.FITS
        theirs = digests.from_text(recovery.digest)
        if self._base_digest is None and start == self._base and not self._marks:
            self._base_digest = theirs
        ours = self._digest_before(start)
        differs = ours is not None and ours != theirs
        return Verdict.INCONSISTENT if differs or recovery.tail < start else Verdict.FITS

    def _digest_before(self, index: int) -> int | None:
        """Digest of the prefix before `index`; None where it is not known here."""
        at = index - self._base
        if at == 0:
            return self._base_digest
        return self._marks[at - 1].digest if 0 < at <= len(self._marks) else None

    def take(self, run: Chunks) -> tuple[Verdict, tuple[Chunk, ...]]:
        """Takes consecutive chunks; returns those that are new."""
        if self._reset_due:
            return Verdict.INCONSISTENT, ()
        known = self.next_index - run.index
        if known < 0:
            self._stats.gaps += 1
            self.gaps_in_a_row += 1
            return Verdict.GAP, ()
        self._stats.duplicates += min(known, len(run.chunks))
        new = run.chunks[known:]
        if not new:
            return Verdict.FITS, ()
        newest = self._marks[-1].epoch if self._marks else self._base_epoch or 0
        if run.epoch < newest or not self._extend(new):
            return Verdict.INCONSISTENT, ()
        self.gaps_in_a_row = 0
        return Verdict.FITS, new

    def _extend(self, chunks: tuple[Chunk, ...]) -> bool:
        """Appends marks; False, and nothing appended, for more than an answer can have."""
        digest, size = self._digest, self._marks[-1].bytes if self._marks else 0
        marks = []
        for chunk in chunks:
            if digest is not None:
                digest = digests.after(digest, chunk.type, chunk.content)
            size += len(chunk.content.encode())
            marks.append(_Mark(chunk.epoch, digest, size))
        if size > MAX_ANSWER_BYTES or self.next_index + len(marks) > MAX_CHUNKS:
            return False
        self._marks += marks
        return True

    def reset(self, to: int) -> Verdict:
        """RESET: indexes >= `to` are void."""
        if to > self.next_index:
            return Verdict.INCONSISTENT
        self._stats.resets += 1
        self._reset_due = False
        self._truncate(to)
        return Verdict.FITS

    def start_over(self) -> None:
        """Nothing of what is held can be trusted."""
        self._stats.mismatches += 1
        self._reset_due = False
        self._truncate(0)

    def _truncate(self, to: int) -> None:
        if to < self._base:
            # What was before the cursor is void too, and what is before `to` is not known here.
            self._base, self._base_epoch = to, None
            self._base_digest = digests.EMPTY if to == 0 else None
            self._marks.clear()
        del self._marks[to - self._base :]

    def taken_over(self, epoch: int) -> None:
        """TAKEOVER; the same one may be told twice, on two links."""
        if epoch > self._takeover:
            self._takeover = epoch
            self._stats.takeovers += 1

    def sealed(self, seal: Seal) -> Verdict:
        """COMPLETE: whether the whole text is here and the same as the server's."""
        if self._reset_due or seal.total_chunks < self.next_index:
            return Verdict.INCONSISTENT
        if seal.total_chunks > self.next_index:
            self._stats.gaps += 1
            self.gaps_in_a_row += 1
            return Verdict.GAP
        digest = self._digest
        if digest is not None and digests.as_text(digest) != seal.digest:
            return Verdict.INCONSISTENT
        self._stats.digest_ok = None if digest is None else True
        return Verdict.FITS

    def damaged(self) -> None:
        """It ends without a text that fits."""
        self._stats.digest_ok = False
