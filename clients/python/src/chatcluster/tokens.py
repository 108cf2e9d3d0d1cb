"""Where tokens come from: one that is fixed, or a callable that is asked for each connection."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from chatcluster.errors import NotAuthenticated

Token: TypeAlias = str | Callable[[], str | Awaitable[str]]
"""A JWT, or what fetches one. A callable that is not `async` runs in a thread, so it may block."""

PATIENCE = 15.0
"""Seconds that a callable may take."""
_ENTRY = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def fits_subprotocol(text: str) -> bool:
    """Whether the text may stand in `Sec-WebSocket-Protocol` (RFC 9110: token)."""
    return _ENTRY.fullmatch(text) is not None


class TokenSource:
    """Not shown by `repr`, nor is its token."""

    def __init__(self, token: Token) -> None:
        self._token = token
        if isinstance(token, str) and not fits_subprotocol(token):
            raise ValueError("token: it is no JWT")

    @property
    def can_renew(self) -> bool:
        """Whether asking again may give another token."""
        return not isinstance(self._token, str)

    async def fetch(self) -> str:
        """A token. Raises NotAuthenticated where there is none, TimeoutError, and whatever the
        callable raises."""
        if isinstance(self._token, str):
            return self._token
        async with asyncio.timeout(PATIENCE):
            token = await self._ask(self._token)
        if not isinstance(token, str) or not fits_subprotocol(token):
            raise NotAuthenticated("the token callable gave something that is no JWT")
        return token

    @staticmethod
    async def _ask(ask: Callable[[], str | Awaitable[str]]) -> object:
        if inspect.iscoroutinefunction(ask):
            return await ask()
        given = await asyncio.to_thread(ask)
        return await given if inspect.isawaitable(given) else given
