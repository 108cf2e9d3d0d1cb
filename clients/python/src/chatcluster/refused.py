"""Why a socket did not come about, read from what HTTP and the network say."""

from __future__ import annotations

import json
from collections.abc import Mapping

from chatcluster.dialer import Failure


class DialFailed(Exception):
    """There is no socket; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.why)
        self.failure = failure


def unreachable(base: str, why: str) -> DialFailed:
    """The network said no."""
    return DialFailed(Failure(f"{base} cannot be reached: {why}", explained=True))


def refused_with(base: str, status: int, headers: Mapping[str, str], body: bytes) -> DialFailed:
    """An HTTP answer that says no. One of our nodes explains itself with a problem document; what
    stands between may say anything."""
    code, title = _problem(body)
    words = "" if code is None else f" ({code}: {title})"
    why = f"{base} answered HTTP {status}{words}"
    retry_after = headers.get("Retry-After") or ""
    return DialFailed(
        Failure(
            why,
            explained=code is not None,
            status=status,
            retry_after_s=float(retry_after)
            if retry_after.isascii() and retry_after.isdigit()
            else None,
        )
    )


def _problem(body: bytes) -> tuple[str | None, str]:
    """Code and title of a problem document (RFC 9457, protocol section 6)."""
    try:
        problem = json.loads(body)
    except (ValueError, RecursionError):
        return None, ""
    if not isinstance(problem, dict) or not isinstance(problem.get("code"), str):
        return None, ""
    return problem["code"][:64], str(problem.get("title", ""))[:256]
