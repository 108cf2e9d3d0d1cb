"""Where a node is: one base URL a node, and the two URLs that are made of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlencode, urlsplit

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_SOCKET_PATH = "/ws/chat"


def base_urls(urls: str | Iterable[str]) -> list[str]:
    """`https://chat.example`, `wss://chat.example` and `wss://chat.example/ws/chat` are the same.

    Raises ValueError for anything else, and where there is none.
    """
    given = [urls] if isinstance(urls, str) else list(urls)
    if not given:
        raise ValueError("urls: at least one is needed")
    return [_base_url(url) for url in given]


def _base_url(url: str) -> str:
    parts = urlsplit(url)
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname or parts.query or parts.fragment or "@" in parts.netloc:
        # Not quoted: it may hold a secret.
        raise ValueError("urls: http(s)://host[:port] or ws(s)://host[:port]/ws/chat is expected")
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix(_SOCKET_PATH)}"


def socket_url(base: str, *, session_id: str | None, ticket: str | None) -> str:
    """Of the upgrade."""
    query = {"sessionId": session_id, "ticket": ticket}
    given = urlencode({name: value for name, value in query.items() if value is not None})
    return f"ws{base.removeprefix('http')}{_SOCKET_PATH}{'?' if given else ''}{given}"


def tickets_url(base: str) -> str:
    """Of `POST /api/v1/tickets`."""
    return f"{base}/api/v1/tickets"
