"""The socket edge: one WebSocket in dialect v1, from the handshake to the close code."""

from __future__ import annotations

import asyncio
import logging
import ssl
from dataclasses import dataclass, field
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from chatcluster import close_codes
from chatcluster.dialer import Failure
from chatcluster.frames import PROTOCOL
from chatcluster.link import CONNECT_TIMEOUT
from chatcluster.refused import DialFailed, refused_with, unreachable
from chatcluster.tickets import fetch_ticket
from chatcluster.tokens import fits_subprotocol
from chatcluster.urls import socket_url

MAX_MESSAGE: Final = 8 * 1024 * 1024
"""Largest message taken from a server, in bytes: a page of chunks and its JSON."""
MOST_UNREAD: Final = 16
"""Messages that wait to be read; then the peer has to wait."""
FAREWELL: Final = 1.0
"""Seconds that a closing socket may take to say goodbye."""

# The library logs whole handshakes at DEBUG, and tokens stand in them.
_library_log = logging.getLogger("chatcluster.websocket")
_library_log.setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class Target:
    """Where and as whom to connect."""

    base: str
    token: str = field(repr=False)
    by_ticket: bool = False
    session_id: str | None = None
    resume_token: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None


class _ConnectHere(connect):
    """A token is for the node that was named, and for nobody that it redirects to."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def open_socket(target: Target) -> ClientConnection:
    """Connects and upgrades; WELCOME is the first frame. Raises DialFailed."""
    ticket = None
    if target.by_ticket:
        ticket = await asyncio.to_thread(fetch_ticket, target.base, target.token, target.tls)
    url = socket_url(target.base, session_id=target.session_id, ticket=ticket)
    try:
        socket = await _ConnectHere(
            url,
            subprotocols=_offered(target),
            compression=None,
            open_timeout=CONNECT_TIMEOUT,
            close_timeout=FAREWELL,
            # HEARTBEAT finds out, and tells a dead node from an idle one.
            ping_interval=None,
            max_size=MAX_MESSAGE,
            max_queue=MOST_UNREAD,
            logger=_library_log,
            ssl=(target.tls or True) if url.startswith("wss:") else None,
        )
    except InvalidStatus as error:
        response = error.response
        headers, body = response.headers, response.body or b""
        raise refused_with(target.base, response.status_code, headers, bytes(body)) from None
    except OSError as error:
        raise unreachable(target.base, str(error) or type(error).__name__) from None
    except WebSocketException as error:
        why = f"{target.base}: the handshake failed: {type(error).__name__}"
        raise DialFailed(Failure(why, explained=False)) from None
    if socket.subprotocol != PROTOCOL:
        socket.transport.abort()
        why = f"{target.base} did not select the subprotocol {PROTOCOL}"
        raise DialFailed(Failure(why, explained=False))
    return socket


def _offered(target: Target) -> list[Subprotocol]:
    offered = [PROTOCOL]
    if not target.by_ticket:
        offered.append(f"bearer.{target.token}")
    if target.resume_token is not None and fits_subprotocol(target.resume_token):
        offered.append(f"resume.{target.resume_token}")
    return [Subprotocol(entry) for entry in offered]


def close_of(closed: ConnectionClosed) -> tuple[int, str]:
    """Close code and reason as the server gave them; what this end said first does not count."""
    if closed.rcvd is None or (closed.sent is not None and not closed.rcvd_then_sent):
        ours = "the connection broke" if closed.sent is None else f"after our {closed.sent.code}"
        return close_codes.CUT, ours
    return closed.rcvd.code, closed.rcvd.reason
