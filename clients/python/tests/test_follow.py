"""Cursor, duplicates, gaps and digests of one followed message."""

from __future__ import annotations

import server_text as server

from chatcluster.client_frames import Cursor
from chatcluster.follow import MOST_GAPS, MOST_REREADS, Follow, Verdict
from chatcluster.frames import Chunks, Recovery, Seal


def run(start: int, end: int, epoch: int = 1) -> Chunks:
    frame = server.read(server.chunks(start, end, epoch))
    assert isinstance(frame, Chunks)
    return frame


def seal(total: int, digest: str | None = None) -> Seal:
    frame = server.read(server.complete(total, digest=digest or server.digest(total)))
    assert isinstance(frame, Seal)
    return frame


def recovery(start: int, tail: int, digest: str | None = None) -> Recovery:
    frame = server.read(server.recovery(start, tail, digest=digest or server.digest(start)))
    assert isinstance(frame, Recovery)
    return frame


def asking(follow: Follow) -> Follow:
    follow.asked_from = follow.next_index
    return follow


def taken(follow: Follow, chunks: Chunks) -> tuple[Verdict, list[int]]:
    verdict, new = follow.take(chunks)
    return verdict, [chunk.index for chunk in new]


def test_only_what_is_new_is_taken() -> None:
    follow = Follow(Cursor(server.MESSAGE))
    assert taken(follow, run(0, 3)) == (Verdict.FITS, [0, 1, 2])
    assert taken(follow, run(1, 3)) == (Verdict.FITS, [])
    assert taken(follow, run(2, 5)) == (Verdict.FITS, [3, 4])
    assert taken(follow, run(6, 7)) == (Verdict.GAP, [])
    assert follow.next_index == 5
    stats = follow.stats
    assert (stats.chunks, stats.duplicates, stats.gaps) == (5, 3, 1)


def test_the_cursor_names_epoch_and_digest_of_the_last_chunk() -> None:
    follow = Follow(Cursor(server.MESSAGE))
    assert follow.cursor == Cursor(server.MESSAGE)
    follow.take(run(0, 2))
    assert follow.cursor == Cursor(server.MESSAGE, 1, 1, server.digest(2))
    again = Follow(follow.cursor)
    assert again.cursor == follow.cursor
    assert taken(again, run(2, 4)) == (Verdict.FITS, [2, 3])
    assert again.cursor.digest == server.digest(4)


def test_a_follow_from_the_middle_has_a_digest_once_it_was_told() -> None:
    follow = Follow(Cursor(server.MESSAGE, 3))
    assert follow.cursor.digest is None
    assert asking(follow).recovered(recovery(4, 9)) is Verdict.FITS
    follow.take(run(4, 6))
    assert follow.cursor.digest == server.digest(6)
    assert follow.sealed(seal(6)) is Verdict.FITS
    assert follow.stats.digest_ok is True


def test_without_any_digest_the_end_is_not_called_good() -> None:
    follow = Follow(Cursor(server.MESSAGE, 3))
    follow.take(run(4, 6))
    assert follow.sealed(seal(6)) is Verdict.FITS
    assert follow.stats.digest_ok is None


def test_a_recovery_with_another_digest_does_not_fit() -> None:
    follow = Follow(Cursor(server.MESSAGE))
    follow.take(run(0, 2))
    assert asking(follow).recovered(recovery(2, 4, "deadbeef")) is Verdict.INCONSISTENT
    assert asking(follow).recovered(recovery(2, 1)) is Verdict.INCONSISTENT


def test_a_refused_cursor_waits_for_its_reset_and_takes_nothing_before() -> None:
    follow = Follow(Cursor(server.MESSAGE))
    follow.take(run(0, 4))
    assert asking(follow).recovered(recovery(0, 2)) is Verdict.FITS
    assert taken(follow, run(0, 2)) == (Verdict.INCONSISTENT, [])
    assert follow.reset(0) is Verdict.FITS
    assert taken(follow, run(0, 2, epoch=3)) == (Verdict.FITS, [0, 1])


def test_an_old_source_may_go_on_while_the_new_one_is_asked() -> None:
    follow = Follow(Cursor(server.MESSAGE))
    follow.take(run(0, 4))
    asking(follow)
    follow.take(run(4, 6))
    assert follow.recovered(recovery(4, 6)) is Verdict.FITS
    assert taken(follow, run(4, 8)) == (Verdict.FITS, [6, 7])


def test_a_reset_cuts_and_never_extends() -> None:
    follow = Follow(Cursor(server.MESSAGE))
    follow.take(run(0, 6))
    assert follow.reset(7) is Verdict.INCONSISTENT
    assert follow.reset(4) is Verdict.FITS
    assert follow.cursor == Cursor(server.MESSAGE, 3, 1, server.digest(4))
    middle = Follow(Cursor(server.MESSAGE, 9, 1, "deadbeef"))
    assert middle.reset(0) is Verdict.FITS
    assert middle.cursor == Cursor(server.MESSAGE)
    assert taken(middle, run(0, 2)) == (Verdict.FITS, [0, 1])


def test_an_older_epoch_cannot_follow_a_newer_one() -> None:
    follow = Follow(Cursor(server.MESSAGE))
    follow.take(run(0, 2, epoch=2))
    assert taken(follow, run(2, 3, epoch=1)) == (Verdict.INCONSISTENT, [])


def test_the_seal_is_compared_in_count_and_digest() -> None:
    follow = Follow(Cursor(server.MESSAGE))
    follow.take(run(0, 5))
    assert follow.sealed(seal(6)) is Verdict.GAP
    assert follow.sealed(seal(4)) is Verdict.INCONSISTENT
    assert follow.sealed(seal(5, "deadbeef")) is Verdict.INCONSISTENT
    assert follow.stats.digest_ok is None
    assert follow.sealed(seal(5)) is Verdict.FITS
    assert follow.stats.digest_ok is True


def test_patience_with_a_server_that_contradicts_itself_ends() -> None:
    follow = Follow(Cursor(server.MESSAGE))
    for _ in range(MOST_REREADS):
        follow.start_over()
        assert not follow.is_hopeless
    follow.start_over()
    assert follow.is_hopeless
    skipping = Follow(Cursor(server.MESSAGE))
    for _ in range(MOST_GAPS):
        skipping.take(run(3, 4))
        assert not skipping.is_hopeless
    skipping.take(run(0, 1))
    skipping.take(run(3, 4))
    assert not skipping.is_hopeless, "a new chunk between is progress"


def test_no_answer_is_larger_than_the_protocol_allows() -> None:
    follow = Follow(Cursor(server.MESSAGE, 99_998))
    assert taken(follow, run(99_999, 100_000)) == (Verdict.FITS, [99_999])
    assert taken(follow, run(100_000, 100_001)) == (Verdict.INCONSISTENT, [])
    large = Follow(Cursor(server.MESSAGE))
    for index in range(4_096):
        frame = server.read(server.chunk(index, content="x" * 1_024))
        assert isinstance(frame, Chunks)
        assert large.take(frame)[0] is Verdict.FITS
    frame = server.read(server.chunk(4_096, content="x"))
    assert isinstance(frame, Chunks)
    assert large.take(frame)[0] is Verdict.INCONSISTENT
