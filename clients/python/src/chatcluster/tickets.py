"""`POST /api/v1/tickets`: a single-use ticket in exchange for a token. Blocking, for a thread."""

from __future__ import annotations

import http.client
import json
import ssl
from email.message import Message
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from chatcluster.dialer import Failure
from chatcluster.link import CONNECT_TIMEOUT
from chatcluster.refused import DialFailed, refused_with, unreachable
from chatcluster.urls import tickets_url

_MOST_BYTES = 16 * 1024


class _NoRedirect(HTTPRedirectHandler):
    """A token is for the node that was named, and for nobody that it names."""

    def redirect_request(  # noqa: PLR0917 - the library's signature.
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


def fetch_ticket(base: str, token: str, tls: ssl.SSLContext | None) -> str:
    """A ticket, good for 30 s. Raises DialFailed."""
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    # S310: the scheme was checked when the client was made.
    request = Request(tickets_url(base), method="POST", headers=headers, data=b"")  # noqa: S310
    opener = build_opener(_NoRedirect, HTTPSHandler(context=tls))
    try:
        with opener.open(request, timeout=CONNECT_TIMEOUT) as response:
            body = response.read(_MOST_BYTES)
    except HTTPError as error:
        with error:
            body = error.read(_MOST_BYTES)
            raise refused_with(base, error.code, dict(error.headers.items()), body) from None
    except (URLError, OSError) as error:
        raise unreachable(base, str(getattr(error, "reason", error))) from None
    except http.client.HTTPException as error:
        raise DialFailed(Failure(f"{base}: {type(error).__name__}", explained=False)) from None
    return _ticket_of(base, body)


def _ticket_of(base: str, body: bytes) -> str:
    try:
        ticket = json.loads(body)["ticket"]
    except (ValueError, TypeError, KeyError, RecursionError):
        ticket = None
    if not isinstance(ticket, str):
        raise DialFailed(Failure(f"{base} gave something that is no ticket", explained=False))
    return ticket
