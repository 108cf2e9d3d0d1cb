"""When and where is dialled again."""

from __future__ import annotations

import random

import pytest

from chatcluster.backoff import FIRST, LONGEST, STABLE, Backoff, patience
from chatcluster.close_codes import reconnects
from chatcluster.dialer import MOST_TOKENS, Dialer, Failure
from chatcluster.errors import NotAuthenticated, SessionRefused, Unreachable
from chatcluster.urls import base_urls, socket_url, tickets_url

AWAY = Failure("away", explained=True)
STRANGE = Failure("strange", explained=False)


def dialer(urls: int = 2, give_up_after_s: float | None = None, can_renew: bool = True) -> Dialer:
    names = [f"http://{n}" for n in range(urls)]
    rng = random.Random(1)
    return Dialer(names, rng, 0.0, first=0, give_up_after_s=give_up_after_s, can_renew=can_renew)


def test_ceilings_double_up_to_the_longest() -> None:
    backoff, longest = Backoff(random.Random(1)), 0.0
    for n in range(40):
        delay = backoff.failed(0.0)
        assert 0.0 <= delay <= min(FIRST * 2**n, LONGEST)
        longest = max(longest, delay)
    assert longest > LONGEST / 2


def test_only_a_stable_connection_is_forgiven() -> None:
    backoff = Backoff(random.Random(1))
    for _ in range(5):
        backoff.failed(STABLE - 1)
    assert backoff.failures == 5
    backoff.failed(STABLE)
    assert backoff.failures == 1


def test_what_the_server_asked_for_is_waited_for_within_bounds() -> None:
    rng = random.Random(1)
    assert 2.0 <= patience(2_000, rng) <= 2.0 + FIRST
    assert FIRST <= patience(None, rng) <= 2 * FIRST
    assert patience(2**53, rng) < 301


@pytest.mark.parametrize("code", [1001, 1005, 1006, 1011, 1012, 1013, 4000, 4001, 4002, 4003, 4499])
def test_codes_that_reconnect(code: int) -> None:
    assert reconnects(code)


@pytest.mark.parametrize("code", [1000, 1002, 1003, 1007, 1008, 1009, 4500, 4501, 4504, 4999])
def test_codes_that_do_not(code: int) -> None:
    assert not reconnects(code)


def test_another_node_is_next_where_there_is_one() -> None:
    many = dialer(3)
    seen: list[str] = []
    now = 0.0
    for _ in range(20):
        url = many.take(now)
        assert url is not None
        assert many.take(now) is None, "one dial at a time"
        assert not seen or seen[-1] != url
        seen.append(url)
        delay = many.failed(AWAY, False, now)
        assert isinstance(delay, float)
        assert many.take(now + delay - 1e-6) is None or delay < 1e-5
        now += delay
    assert len(set(seen)) == 3


def test_retry_after_of_the_only_node_is_waited_for() -> None:
    full = Failure("full", explained=True, status=503, retry_after_s=3.0)
    alone, one_of_two = dialer(1), dialer(2)
    delay = alone.failed(full, False, 0.0)
    assert isinstance(delay, float)
    assert delay >= 3.0
    delay = one_of_two.failed(full, False, 0.0)
    assert isinstance(delay, float)
    assert delay <= FIRST


def test_three_unexplained_failures_in_a_row_ask_for_a_ticket() -> None:
    way = dialer()
    for failure in (STRANGE, STRANGE, AWAY):
        way.failed(failure, False, 0.0)
        assert not way.by_ticket
    way.failed(STRANGE, False, 0.0)
    assert way.by_ticket
    way.welcomed(by_ticket=True)
    assert way.by_ticket, "the way in that works is kept"
    direct = dialer()
    for _ in range(2):
        direct.failed(STRANGE, False, 0.0)
    direct.welcomed(by_ticket=False)
    direct.failed(STRANGE, False, 0.0)
    assert not direct.by_ticket, "not in a row"


def test_a_proxy_that_says_no_is_final_only_after_a_ticket_failed() -> None:
    proxy = Failure("HTTP 400", explained=False, status=400)
    way = dialer()
    for _ in range(3):
        assert isinstance(way.failed(proxy, way.by_ticket, 0.0), float)
    assert isinstance(way.failed(proxy, way.by_ticket, 0.0), SessionRefused)


def test_a_node_that_says_no_is_final_and_one_that_is_full_is_not() -> None:
    refused = Failure("FORBIDDEN", explained=True, status=403)
    assert isinstance(dialer().failed(refused, False, 0.0), SessionRefused)
    for status in (429, 500, 503):
        full = Failure("full", explained=True, status=status)
        assert isinstance(dialer().failed(full, False, 0.0), float)


def test_a_refused_token_is_replaced_twice() -> None:
    refused = Failure("401", explained=True, status=401)
    way = dialer()
    for _ in range(MOST_TOKENS):
        assert isinstance(way.failed(refused, False, 0.0), float)
    assert isinstance(way.failed(refused, False, 0.0), NotAuthenticated)
    assert isinstance(dialer(can_renew=False).failed(refused, False, 0.0), NotAuthenticated)
    logged_out = Failure("logged out", explained=True, status=401, is_final=True)
    assert isinstance(dialer().failed(logged_out, False, 0.0), NotAuthenticated)


def test_it_gives_up_only_while_nothing_is_open() -> None:
    way = dialer(give_up_after_s=5.0)
    assert way.given_up(4.9) is None
    way.failed(AWAY, False, 4.0)
    error = way.given_up(5.0)
    assert isinstance(error, Unreachable)
    assert "away" in str(error)
    way.welcomed(by_ticket=False)
    assert way.given_up(100.0) is None
    way.is_down(100.0)
    assert way.given_up(104.0) is None
    assert way.given_up(105.0) is not None


def test_the_successor_of_a_short_lived_socket_has_to_wait() -> None:
    """A node that drains greets every socket with GOAWAY at once."""
    way = dialer(1)
    way.take(0.0)
    way.opened()
    waits = []
    for _ in range(12):
        way.replace(0.01, 0.0, 0.0)
        waits.append(way.wake_at or 0.0)
        way.take(100.0)
        way.opened()
    assert max(waits) > 1.0
    calm = dialer(1)
    calm.take(0.0)
    calm.opened()
    calm.replace(60.0, 0.5, 0.0)
    assert calm.wake_at == 0.5


def test_every_way_to_write_an_address_is_the_same() -> None:
    same = ["https://chat.example", "wss://chat.example", "wss://chat.example/ws/chat/"]
    assert set(base_urls(same)) == {"https://chat.example"}
    assert base_urls("http://[::1]:8080/") == ["http://[::1]:8080"]
    base = base_urls("https://chat.example/ai/")[0]
    assert tickets_url(base) == "https://chat.example/ai/api/v1/tickets"
    assert socket_url(base, session_id=None, ticket=None) == "wss://chat.example/ai/ws/chat"
    both = socket_url("http://a:1", session_id="s", ticket="t/t")
    assert both == "ws://a:1/ws/chat?sessionId=s&ticket=t%2Ft"


@pytest.mark.parametrize(
    "urls",
    [[], "chat.example", "ftp://a", "https://", "https://u:p@a", "https://a?token=x", "http://a#b"],
)
def test_what_is_no_address_is_refused_and_not_quoted(urls: str | list[str]) -> None:
    with pytest.raises(ValueError, match="urls") as refused:
        base_urls(urls)
    assert "token=x" not in str(refused.value)
