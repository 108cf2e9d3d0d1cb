"""The pure core: frames and times in, effects out."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import TypeVar

import pytest
import server_text as server

from chatcluster.client_frames import (
    Auth,
    CancelStream,
    ChatRequest,
    ClientFrame,
    Cursor,
    Heartbeat,
    Reconnect,
    Unfollow,
)
from chatcluster.dialer import Failure
from chatcluster.effects import (
    Accept,
    Deliver,
    Dial,
    Drop,
    Effect,
    Finish,
    HangUp,
    Notify,
    Refuse,
    Renew,
    Stop,
    Transmit,
)
from chatcluster.errors import (
    ClientClosed,
    Damaged,
    NotAuthenticated,
    Rejected,
    SessionRefused,
    TooManyAnswers,
    TryLater,
    Unfollowed,
    Unreachable,
)
from chatcluster.events import Connected, Reconnecting, Warned
from chatcluster.frames import Chunks, Reset, ResetReason, Seal
from chatcluster.link import MOST_UNREADABLE, RENEW_PAUSE
from chatcluster.machine import Machine
from chatcluster.wanted import MOST_WANTED, REQUEST_PATIENCE, REQUEST_TRIES

T = TypeVar("T")
LOST = Failure("away", explained=True)


class World:
    """A machine, its time, and everything it wanted done."""

    def __init__(self, urls: int = 2, can_renew: bool = True, give_up: float | None = None) -> None:
        names = [f"http://{n}" for n in range(urls)]
        self.now = 100.0
        self.machine = Machine(
            names,
            random.Random(5),
            self.now,
            first=0,
            give_up_after_s=give_up,
            can_renew=can_renew,
        )
        self.done: list[Effect] = []
        self.held = 0
        """Indexes below this one were delivered, and not reset since."""
        self.tick()

    def take(self) -> list[Effect]:
        new = self.machine.effects()
        self.done += new
        for deliver in of(Deliver, new):
            if isinstance(deliver.news, Reset):
                assert deliver.news.truncate_to <= self.held
                self.held = deliver.news.truncate_to
            elif isinstance(deliver.news, Chunks):
                indexes = [chunk.index for chunk in deliver.news.chunks]
                assert indexes == list(range(self.held, self.held + len(indexes)))
                self.held += len(indexes)
        return new

    def tick(self, to: float | None = None) -> list[Effect]:
        """Lets time pass, from one wake-up to the next."""
        end = self.now if to is None else to
        new: list[Effect] = []
        for _ in range(10_000):
            self.machine.tick(self.now)
            new += self.take()
            wake = self.machine.wake_at(self.now)
            if self.machine.stopped or wake > end:
                self.now = end
                return new
            self.now = max(wake, self.now)
        raise AssertionError("the machine never sleeps")

    def until_dial(self) -> Dial:
        for _ in range(1_000):
            dials = of(Dial, self.tick(self.now + 0.01))
            if dials:
                return dials[0]
        raise AssertionError("no dial")

    def open(self, link: int, node: str = "n") -> list[Effect]:
        self.machine.opened(link, self.now)
        return self.say(link, server.welcome(node))

    def say(self, link: int, *messages: str) -> list[Effect]:
        new = []
        for message in messages:
            self.machine.on_frame(link, server.read(message), self.now)
            new += self.take()
        return new

    def send(self, request_id: str = "r") -> list[Effect]:
        self.machine.send(ChatRequest("hi", request_id), self.now)
        return self.take()

    def close(self, link: int, code: int) -> list[Effect]:
        self.machine.closed(link, code, "", self.now)
        return self.take()

    def told(self, kind: type[T]) -> list[T]:
        events = [effect.event for effect in of(Notify, self.done)]
        return [event for event in events if isinstance(event, kind)]

    def delivered(self) -> list[int]:
        runs = [e.news for e in of(Deliver, self.done) if isinstance(e.news, Chunks)]
        return [chunk.index for run in runs for chunk in run.chunks]


def of(kind: type[T], effects: Iterable[object]) -> list[T]:
    return [effect for effect in effects if isinstance(effect, kind)]


def sent(effects: Iterable[Effect], link: int | None = None) -> list[ClientFrame]:
    frames = of(Transmit, effects)
    return [effect.frame for effect in frames if link is None or effect.link == link]


def accepted_world() -> World:
    """One answer, followed from 0 on link 1."""
    world = World()
    world.open(1)
    world.send()
    world.say(1, server.accepted("r"))
    return world


def test_a_request_waits_for_the_first_socket() -> None:
    world = World()
    assert of(Dial, world.done)[0].url == "http://0"
    assert world.send() == []
    assert sent(world.open(1)) == [ChatRequest("hi", "r")]
    assert of(Accept, world.say(1, server.accepted("r")))
    world.say(1, server.chunks(0, server.TOKENS))
    end = world.say(1, server.complete())
    assert world.delivered() == list(range(server.TOKENS))
    finished = of(Finish, end)[0]
    assert isinstance(finished.outcome, Seal)
    assert of(Accept, world.done)[0].follow.stats.digest_ok


def test_a_request_lost_with_its_socket_is_repeated_with_the_same_id() -> None:
    world = World()
    world.open(1)
    first = sent(world.send())
    world.close(1, 1006)
    dial = world.until_dial()
    assert (dial.url, dial.resume_token) == ("http://1", "resume-n")
    assert sent(world.open(dial.link)) == first
    world.say(dial.link, server.accepted("r", duplicate=True), server.chunks(0, 20))
    world.say(dial.link, server.complete())
    assert world.delivered() == list(range(20))


def test_a_refused_request_is_given_up_only_after_many_tries_and_a_long_time() -> None:
    world = World()
    world.open(1)
    world.send()
    refusal = server.refusal("STORE_UNAVAILABLE", True, requestId="r", retryAfterMs=1_000)
    tries, began = 1, world.now
    while not (ended := of(Refuse, world.say(1, refusal))):
        again = world.now
        while not (repeated := sent(world.tick(world.now + 0.05), 1)):
            world.say(1, server.frame("HEARTBEAT_ACK"))
        assert repeated == [ChatRequest("hi", "r")] or Heartbeat() in repeated
        if ChatRequest("hi", "r") in repeated:
            tries += 1
            assert world.now - again >= 1.0, "what the server asks for is honoured"
    assert tries >= REQUEST_TRIES
    assert world.now - began >= REQUEST_PATIENCE
    assert isinstance(ended[0].error, TryLater)


def test_impatient_servers_do_not_end_a_request_before_its_time() -> None:
    world = World()
    world.open(1)
    world.send()
    refusal = server.refusal("AT_CAPACITY", True, requestId="r", retryAfterMs=0)
    for _ in range(10 * REQUEST_TRIES):
        assert not of(Refuse, world.say(1, refusal))
        world.say(1, server.frame("HEARTBEAT_ACK"))
        world.tick(world.now + 0.2)
    assert world.now - 100.0 < REQUEST_PATIENCE


def test_a_lasting_refusal_is_told_at_once() -> None:
    world = World()
    world.open(1)
    world.send()
    ended = of(Refuse, world.say(1, server.refusal("INVALID_MESSAGE", False, requestId="r")))
    assert isinstance(ended[0].error, Rejected)
    assert ended[0].error.code == "INVALID_MESSAGE"


def test_after_a_cut_it_resumes_with_index_epoch_and_digest() -> None:
    world = accepted_world()
    world.say(1, server.chunks(0, 7))
    world.close(1, 1006)
    dial = world.until_dial()
    cursor = Cursor(server.MESSAGE, 6, 1, server.digest(7))
    assert sent(world.open(dial.link)) == [Reconnect(cursor)]
    world.say(dial.link, server.recovery(7, 12), server.chunks(7, 20), server.complete())
    assert world.delivered() == list(range(20))


def test_chunks_of_a_socket_that_was_not_answered_yet_do_not_count() -> None:
    world = accepted_world()
    world.say(1, server.chunks(0, 7))
    world.close(1, 1006)
    dial = world.until_dial()
    world.open(dial.link)
    world.say(dial.link, server.chunks(7, 9))
    assert world.delivered() == list(range(7))


def test_a_recovery_that_nobody_asked_for_does_not_count() -> None:
    world = accepted_world()
    world.say(1, server.chunks(0, 5), server.goaway())
    dial = world.until_dial()
    world.machine.opened(dial.link, world.now)
    world.say(dial.link, server.recovery(0, 5), server.chunks(5, 9))
    assert world.delivered() == list(range(5))
    world.say(1, server.chunks(5, 7))
    assert world.delivered() == list(range(7))


def test_goaway_opens_the_new_socket_before_the_old_one_is_left() -> None:
    world = accepted_world()
    world.say(1, server.chunks(0, 5), server.goaway(after_ms=400, resume="moved"))
    assert not of(Dial, world.tick(world.now + 0.39))
    dial = world.until_dial()
    assert (dial.url, dial.resume_token) == ("http://1", "moved")
    world.say(1, server.chunks(5, 8))
    hello = world.open(dial.link)
    assert isinstance(sent(hello, dial.link)[0], Reconnect)
    assert not of(HangUp, hello)
    world.say(1, server.chunks(8, 10))
    moved = world.say(dial.link, server.recovery(8, 10))
    assert of(HangUp, moved) == [HangUp(1)]
    world.say(1, server.chunks(10, 12))
    world.say(dial.link, server.chunks(8, 20), server.complete())
    assert world.delivered() == list(range(20))
    assert not world.told(Reconnecting), "there was no moment without a socket"


def test_a_refused_successor_costs_nothing_while_the_old_socket_lives() -> None:
    world = accepted_world()
    world.say(1, server.goaway())
    dial = world.until_dial()
    world.machine.dial_failed(dial.link, Failure("no", explained=True, status=403), world.now)
    assert not of(Stop, world.take())
    world.say(1, server.chunks(0, 20), server.complete())
    assert world.delivered() == list(range(20))


def test_a_successor_that_cannot_follow_yet_leaves_the_old_socket_the_source() -> None:
    world = accepted_world()
    world.say(1, server.chunks(0, 5), server.goaway())
    dial = world.until_dial()
    world.open(dial.link)
    busy = server.refusal("RATE_LIMITED", True, messageId=server.MESSAGE, final=True)
    world.say(dial.link, server.recovery(5, 0, status="ERROR"), busy)
    world.say(1, server.chunks(5, 9))
    assert world.delivered() == list(range(9))
    again = sent(world.tick(world.now + 1.0), dial.link)
    assert again == [Reconnect(Cursor(server.MESSAGE, 8, 1, server.digest(9)))]


def test_a_repeated_request_on_a_new_socket_takes_the_answer_over() -> None:
    world = World()
    world.open(1)
    world.send()
    world.say(1, server.goaway())
    dial = world.until_dial()
    assert ChatRequest("hi", "r") in sent(world.open(dial.link), dial.link)
    world.say(1, server.accepted("r"), server.chunks(0, 4))
    world.say(dial.link, server.accepted("r", duplicate=True), server.chunks(0, 20))
    world.say(dial.link, server.complete())
    assert world.delivered() == list(range(20))
    assert of(HangUp, world.done) == [HangUp(1)]


def test_heartbeats_go_out_and_silence_is_loss() -> None:
    world = World()
    world.machine.opened(1, world.now)
    world.say(1, server.welcome(heartbeat_ms=1_000))
    beats = sent(world.tick(world.now + 1.01), 1)
    assert beats == [Heartbeat()]
    world.say(1, server.frame("HEARTBEAT_ACK"))
    lost = world.tick(world.now + 1.49)
    assert not of(Drop, lost)
    lost = world.tick(world.now + 0.02)
    assert of(Drop, lost) == [Drop(1)]
    assert world.until_dial().link == 2


def test_a_socket_that_is_never_welcomed_is_left() -> None:
    world = World()
    world.machine.opened(1, world.now)
    for _ in range(10):
        world.machine.on_frame(1, None, world.now)
        world.tick(world.now + 0.6)
    assert of(Drop, world.done) == [Drop(1)]


def test_a_heartbeat_no_server_should_ask_for_is_bounded() -> None:
    world = World()
    world.machine.opened(1, world.now)
    world.say(1, server.welcome(heartbeat_ms=0))
    world.tick(world.now + 0.06)
    assert len(sent(world.done)) <= 2


def test_only_a_chunk_that_is_new_is_delivered() -> None:
    world = accepted_world()
    world.say(1, server.chunks(0, 4), server.chunks(2, 6), server.chunk(5), server.chunk(6))
    assert world.delivered() == list(range(7))
    stats = of(Accept, world.done)[0].follow.stats
    assert (stats.chunks, stats.duplicates) == (7, 3)


def test_a_gap_is_asked_for_again_after_a_pause() -> None:
    world = accepted_world()
    assert not sent(world.say(1, server.chunks(0, 4), server.chunks(6, 8)))
    assert world.delivered() == list(range(4))
    asked = sent(world.tick(world.now + 1.0), 1)
    assert asked == [Reconnect(Cursor(server.MESSAGE, 3, 1, server.digest(4)))]
    world.say(1, server.chunks(8, 9))
    world.say(1, server.recovery(4, 9), server.chunks(4, 20), server.complete())
    assert world.delivered() == list(range(20))
    assert of(Accept, world.done)[0].follow.stats.gaps == 1


def test_a_seal_that_counts_more_is_a_gap() -> None:
    world = accepted_world()
    assert not of(Finish, world.say(1, server.chunks(0, 18), server.complete()))
    assert isinstance(sent(world.tick(world.now + 1.0), 1)[0], Reconnect)
    finished = world.say(1, server.recovery(18, 20), server.chunks(18, 20), server.complete())
    assert of(Finish, finished)
    assert of(Accept, world.done)[0].follow.stats.digest_ok


def test_a_digest_that_does_not_fit_reads_the_answer_again() -> None:
    world = accepted_world()
    world.say(1, server.chunks(0, 20))
    again = world.say(1, server.complete(digest="deadbeef"))
    news = of(Deliver, again)[0].news
    assert isinstance(news, Reset)
    assert (news.reason, news.truncate_to) == (ResetReason.INCONSISTENT, 0)
    assert sent(world.tick(world.now + 1.0), 1) == [Reconnect(Cursor(server.MESSAGE))]
    end = world.say(1, server.recovery(0, 20), server.chunks(0, 20), server.complete())
    assert of(Finish, end)
    assert of(Accept, world.done)[0].follow.stats.digest_ok
    assert world.delivered() == [*range(20), *range(20)]


def test_a_server_that_never_fits_is_given_up() -> None:
    world = accepted_world()
    outcome = None
    for _ in range(50):
        bad = server.complete(digest="deadbeef")
        world.say(1, server.chunks(0, 20), bad)
        if ended := of(Finish, world.done):
            outcome = ended[0].outcome
            break
        world.say(1, server.frame("HEARTBEAT_ACK"))
        world.tick(world.now + 5.0)
        world.say(1, server.recovery(0, 20))
    assert isinstance(outcome, Damaged)
    assert of(Accept, world.done)[0].follow.stats.digest_ok is False


def test_a_server_that_always_skips_is_not_asked_without_pause_nor_for_ever() -> None:
    world = accepted_world()
    world.say(1, server.chunks(0, 1))
    asked = 0
    for _ in range(200):
        world.say(1, server.chunks(3, 4))
        if of(Finish, world.done):
            break
        before = world.now
        while not any(isinstance(f, Reconnect) for f in sent(world.tick(world.now + 0.05), 1)):
            world.say(1, server.frame("HEARTBEAT_ACK"))
        assert world.now - before >= 0.04
        asked += 1
        world.say(1, server.recovery(1, 9))
    assert isinstance(of(Finish, world.done)[0].outcome, Damaged)
    assert asked == 10


def test_a_reset_starts_over() -> None:
    world = accepted_world()
    world.say(1, server.chunks(0, 4), server.reset(0), server.chunks(0, 20, epoch=2))
    assert world.delivered() == [*range(4), *range(20)]
    assert of(Finish, world.done) == []


def test_a_retryable_final_error_is_followed_again_and_another_one_ends() -> None:
    world = accepted_world()
    world.say(1, server.chunks(0, 4))
    soon = server.refusal(
        "STORE_UNAVAILABLE", True, messageId=server.MESSAGE, final=True, retryAfterMs=500
    )
    world.say(1, soon)
    assert not sent(world.tick(world.now + 0.49), 1)
    asked = sent(world.tick(world.now + 0.2), 1)
    assert asked == [Reconnect(Cursor(server.MESSAGE, 3, 1, server.digest(4)))]
    gone = server.refusal("NOT_FOUND", False, messageId=server.MESSAGE, final=True)
    ended = of(Finish, world.say(1, server.recovery(4, 0, status="NOT_FOUND"), gone))
    assert isinstance(ended[0].outcome, Rejected)
    assert ended[0].outcome.code == "NOT_FOUND"


def test_cancel_is_repeated_with_every_reconnect() -> None:
    world = accepted_world()
    world.machine.cancel(server.MESSAGE)
    assert sent(world.take()) == [CancelStream(server.MESSAGE)]
    world.close(1, 1006)
    frames = sent(world.open(world.until_dial().link))
    assert frames == [Reconnect(Cursor(server.MESSAGE)), CancelStream(server.MESSAGE)]


def test_unfollow_ends_it_here_and_says_so() -> None:
    world = accepted_world()
    world.machine.unfollow(server.MESSAGE)
    effects = world.take()
    assert sent(effects) == [Unfollow(server.MESSAGE)]
    assert isinstance(of(Finish, effects)[0].outcome, Unfollowed)
    assert world.say(1, server.chunks(0, 3)) == []


def test_what_is_accepted_after_nobody_waits_is_unfollowed() -> None:
    world = World()
    world.open(1)
    world.send()
    world.machine.withdraw("r")
    assert sent(world.say(1, server.accepted("r"))) == [Unfollow(server.MESSAGE)]


def test_a_token_is_replaced_in_place_once_per_warning() -> None:
    world = World()
    world.open(1)
    expiring = server.frame("TOKEN_EXPIRING", expiresAt=server.AT)
    assert of(Renew, world.say(1, expiring)) == [Renew(1)]
    assert not of(Renew, world.say(1, expiring)), "one at a time"
    world.machine.renewed(1, "new", world.now)
    assert sent(world.take()) == [Auth("new")]
    world.say(1, server.welcome())
    assert not of(Renew, world.say(1, expiring)), "a token as old as the last one"
    assert of(Renew, world.tick(world.now + RENEW_PAUSE + 0.01)) == [Renew(1)]
    assert len(world.told(Connected)) == 1


def test_a_renewal_that_failed_is_tried_again() -> None:
    world = World()
    world.open(1)
    world.say(1, server.frame("TOKEN_EXPIRING", expiresAt=server.AT))
    world.machine.renewal_failed(1, world.now)
    assert of(Renew, world.tick(world.now + RENEW_PAUSE + 0.01)) == [Renew(1)]
    world.machine.renewed(1, "bad", world.now)
    warned = of(Notify, world.say(1, server.refusal("UNAUTHENTICATED", False)))
    assert isinstance(warned[0].event, Warned)
    world.say(1, server.frame("HEARTBEAT_ACK"))
    assert of(Renew, world.tick(world.now + RENEW_PAUSE + 0.01)) == [Renew(1)]


def test_a_fixed_token_is_not_replaced() -> None:
    world = World(can_renew=False)
    world.open(1)
    assert not of(Renew, world.say(1, server.frame("TOKEN_EXPIRING", expiresAt=server.AT)))
    world.close(1, 4001)
    dial = world.until_dial()
    world.machine.dial_failed(dial.link, Failure("401", explained=True, status=401), world.now)
    assert isinstance(of(Stop, world.take())[0].error, NotAuthenticated)


@pytest.mark.parametrize("code", [4000, 4001, 4002, 1001, 1006, 1012, 1013])
def test_close_codes_that_come_back(code: int) -> None:
    world = accepted_world()
    assert not of(Stop, world.close(1, code))
    assert world.until_dial()


@pytest.mark.parametrize("code", [1000, 1009, 4500, 4501, 4503, 4504])
def test_close_codes_that_end_the_session_and_everything_in_it(code: int) -> None:
    world = accepted_world()
    world.send("s")
    effects = world.close(1, code)
    error = of(Stop, effects)[0].error
    assert isinstance(error, NotAuthenticated if code == 4500 else SessionRefused)
    assert of(Refuse, effects)[0].error is error
    assert of(Finish, effects)[0].outcome is error
    assert not of(Dial, world.tick(world.now + 100.0))


def test_without_any_node_it_gives_up_in_time() -> None:
    world = World(give_up=3.0)
    world.send()
    for _ in range(100):
        dials = of(Dial, world.done)
        world.machine.dial_failed(dials[-1].link, LOST, world.now)
        world.take()
        while not of(Dial, new := world.tick(world.now + 0.05)) and not of(Stop, new):
            pass
        if of(Stop, world.done):
            break
    assert isinstance(of(Stop, world.done)[0].error, Unreachable)
    assert 3.0 <= world.now - 100.0 < 3.2


def test_failures_are_not_forgotten_by_connections_that_break_at_once() -> None:
    world = World()
    attempts = []
    link = 1
    for _ in range(6):
        world.open(link)
        lost = of(Notify, world.close(link, 1006))
        attempts += [e.event.attempt for e in lost if isinstance(e.event, Reconnecting)]
        link = world.until_dial().link
    assert attempts == [1, 2, 3, 4, 5, 6]
    world.open(link)
    for _ in range(4):
        world.tick(world.now + 10.0)
        world.say(link, server.frame("HEARTBEAT_ACK"))
    lost = of(Notify, world.close(link, 1006))
    assert [e.event.attempt for e in lost if isinstance(e.event, Reconnecting)] == [1]


def test_three_sockets_that_vanish_before_welcome_ask_for_a_ticket() -> None:
    world = World(urls=1)
    for link in (1, 2, 3):
        world.machine.opened(link, world.now)
        world.close(link, 1006)
        dial = world.until_dial()
    assert dial.by_ticket


def test_what_is_no_frame_is_left_out_until_it_is_too_much() -> None:
    world = accepted_world()
    for _ in range(MOST_UNREADABLE):
        world.machine.on_unreadable(1, "no JSON", world.now)
    world.say(1, server.chunks(0, 2))
    assert world.delivered() == [0, 1]
    world.machine.on_unreadable(1, "no JSON", world.now)
    assert of(Drop, world.take()) == [Drop(1)]
    assert world.until_dial()


def test_no_more_is_followed_than_a_server_allows() -> None:
    world = World()
    for n in range(MOST_WANTED):
        world.send(str(n))
    with pytest.raises(TooManyAnswers):
        world.send("more")
    with pytest.raises(TooManyAnswers):
        world.machine.follow(Cursor(server.MESSAGE), world.now)


def test_close_ends_everything_and_says_goodbye() -> None:
    world = accepted_world()
    world.send("s")
    error = ClientClosed("closed")
    world.machine.close(error)
    effects = world.take()
    assert of(HangUp, effects) == [HangUp(1)]
    assert of(Finish, effects)[0].outcome is error
    assert of(Refuse, effects)[0].error is error
    world.machine.close(ClientClosed("again"))
    assert world.take() == []


def test_whatever_a_server_says_every_index_is_delivered_once_and_in_order() -> None:
    """Random servers: lost sockets, hostile and repeated frames, resets, moves. Between two resets
    the delivered indexes are contiguous (`World.take` looks at each), and the machine sleeps."""
    delivered = resets = 0
    for seed in range(60):
        rng = random.Random(seed)
        world = accepted_world()
        links, ends = [1], 0
        for _ in range(200):
            hostile_step(world, rng, links)
            if len(of(Finish, world.done)) > ends:
                ends, world.held = ends + 1, 0
                world.machine.follow(Cursor(server.MESSAGE), world.now)
                world.take()
        delivered += len(world.delivered())
        resets += sum(isinstance(effect.news, Reset) for effect in of(Deliver, world.done))
    assert delivered > 3_000
    assert resets > 300


def hostile_step(world: World, rng: random.Random, links: list[int]) -> None:
    right = rng.random() < 0.8
    start = world.held if right else rng.randrange(6)
    count, link = rng.randint(1, 4), links[-1] if right else rng.choice(links)
    gone = server.refusal("RESET", True, messageId=server.MESSAGE, final=True)
    says: list[tuple[int, Callable[[], str]]] = [
        (40, lambda: server.chunks(start, start + count, 1 if right else 2)),
        (25, lambda: server.recovery(start, start + count)),
        (1, lambda: server.recovery(start, 9, digest="deadbeef")),
        (1, lambda: server.chunks(start, start + 1, message=server.OTHER)),
        (2, lambda: server.reset(rng.randrange(world.held + 2), "ROLLED_BACK")),
        (2, lambda: server.complete(rng.randrange(20))),
        (2, lambda: server.accepted("r", duplicate=True)),
        (1, lambda: server.accepted("x", message=server.OTHER)),
        (1, lambda: server.takeover(rng.randint(1, 3), start)),
        (1, lambda: server.status("cancelling")),
        (2, lambda: server.goaway(rng.randrange(50))),
        (2, lambda: gone),
        (1, server.welcome),
        (1, lambda: server.frame("TOKEN_EXPIRING", expiresAt=server.AT)),
    ]
    say = rng.choices([say for _, say in says], [weight for weight, _ in says])[0]
    world.say(link, say())
    if rng.random() < 0.03:
        world.close(rng.choice(links), rng.choice([1006, 4000, 4001]))
    for dial in of(Dial, world.tick(world.now + rng.random() / 5)):
        links.append(dial.link)
        world.open(dial.link)
