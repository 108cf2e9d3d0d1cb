"""When to try again: full jitter between nothing and a ceiling that doubles, and a memory that is
not wiped by a connection that breaks at once. Pure: chance and time come in as arguments."""

from random import Random

FIRST = 0.1
"""Ceiling of the first delay, in seconds."""
LONGEST = 10.0
"""Ceiling of every delay, in seconds."""
STABLE = 30.0
"""A connection must have lived so long, in seconds, before failures are forgotten."""


_LONGEST_ASKED = 300.0
"""A server may ask for more patience than this, in seconds, and does not get it."""


def jittered(failures: int, rng: Random) -> float:
    """Seconds to wait after so many failures in a row."""
    ceiling = min(FIRST * float(1 << min(max(failures - 1, 0), 16)), LONGEST)
    return ceiling * rng.random()


def patience(retry_after_ms: int | None, rng: Random) -> float:
    """Seconds until a refused thing is tried again: what the server asked for, and some jitter."""
    asked = FIRST if retry_after_ms is None else min(retry_after_ms / 1_000, _LONGEST_ASKED)
    return asked + jittered(1, rng)


class Backoff:
    """Failures in a row."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self.failures = 0
        """Failures since the last stable connection."""

    def failed(self, lived: float) -> float:
        """One more failure, of a connection that lived for `lived` seconds; how long to wait."""
        if lived >= STABLE:
            self.failures = 0
        self.failures += 1
        return jittered(self.failures, self._rng)
