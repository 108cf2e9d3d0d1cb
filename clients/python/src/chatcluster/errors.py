"""Errors, typed by what the caller does next. None of them carries a token or any text of a
conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chatcluster.frames import Refusal


class ChatError(Exception):
    """Every error of this package."""


class Rejected(ChatError):
    """The server said no to this request or message for good: ask for something else.

    `code` is a code of protocol section 5, such as INVALID_MESSAGE, NOT_FOUND or EXPIRED.
    """

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(f"{refusal.code}: {refusal.error}")
        self.code = refusal.code
        self.refusal = refusal


class TryLater(ChatError):
    """Refused again and again for a reason that passes: ask again later, with a new requestId."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(f"{refusal.code}: {refusal.error}; it was tried often and for long")
        self.code = refusal.code
        self.refusal = refusal


class Damaged(ChatError):
    """What the server sends contradicts itself although it was read again: show no text of it as
    whole, and report it."""


class NotAuthenticated(ChatError):
    """The token is refused: log in again. A token callable raises it to say the same."""


class SessionRefused(ChatError):
    """The server ended the session and reconnecting would not help.

    `code` is the close code or the HTTP status.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Unreachable(ChatError):
    """No node could be reached for `give_up_after` seconds: check the network, make a new client.
    An answer is resumed with its `cursor`."""


class TooManyAnswers(ChatError):
    """This client follows as many answers as it may: wait for one to end, or unfollow one."""


class Unfollowed(ChatError):
    """The answer was unfollowed here and goes on without us."""


class ClientClosed(ChatError):
    """The client is closed, or not open yet: use it within `async with`."""
