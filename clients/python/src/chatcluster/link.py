"""One socket as the machine sees it: welcomed or not, heard or silent, going or staying. Pure."""

from __future__ import annotations

from chatcluster.frames import Welcome

CONNECT_TIMEOUT = 5.0
"""Seconds from the first packet to the upgrade, and again from there to WELCOME."""
HEARTBEAT = 20.0
"""Seconds between heartbeats until WELCOME says otherwise."""
_HEARTBEATS = (0.05, 120.0)
"""Bounds of what WELCOME may say, in seconds."""
RENEW_PAUSE = 10.0
"""Seconds between two tries to replace a token in place."""
MOST_UNREADABLE = 20
"""Messages that are no frames before a socket is left."""


class Link:
    """One open socket."""

    def __init__(self, no: int, url: str, by_ticket: bool, dialled: float, now: float) -> None:
        self.no = no
        self.url = url
        self.by_ticket = by_ticket
        self.dialled = dialled
        self.told_to_go = False
        """GOAWAY came: a successor is wanted."""
        self.leaving = False
        """It was hung up; nothing is sent any more."""
        self.unreadable = 0
        self.renewing = False
        self.renew_at: float | None = None
        self._renewed: float | None = None
        self._welcomed: float | None = None
        self._heartbeat = HEARTBEAT
        self._heard = now
        self._beat_at = now + HEARTBEAT

    @property
    def is_usable(self) -> bool:
        """Whether frames may be sent."""
        return self._welcomed is not None and not self.leaving

    @property
    def wake_at(self) -> float | None:
        """When it needs attention next."""
        if self.leaving:
            return None
        times = [self._heard + self._patience]
        if self._welcomed is not None:
            times.append(self._beat_at)
        if self.renew_at is not None:
            times.append(self.renew_at)
        return min(times)

    @property
    def _patience(self) -> float:
        """Seconds of silence that mean that the peer is gone."""
        return CONNECT_TIMEOUT if self._welcomed is None else 1.5 * self._heartbeat

    def lived(self, now: float) -> float:
        """Seconds since WELCOME."""
        return 0.0 if self._welcomed is None else now - self._welcomed

    def hear(self, now: float) -> None:
        """Something came. Before WELCOME only WELCOME counts."""
        if self._welcomed is not None:
            self._heard = now

    def is_silent(self, now: float) -> bool:
        """Whether the peer is gone."""
        return not self.leaving and self._heard + self._patience <= now

    def beats(self, now: float) -> bool:
        """Whether a heartbeat is due; the next one is set."""
        if not self.is_usable or self._beat_at > now:
            return False
        self._beat_at = now + self._heartbeat
        return True

    def welcome(self, body: Welcome, now: float) -> bool:
        """WELCOME; whether it was the first one on this link."""
        first = self._welcomed is None
        self._welcomed = now if self._welcomed is None else self._welcomed
        shortest, longest = _HEARTBEATS
        self._heartbeat = min(max(body.heartbeat_ms / 1_000, shortest), longest)
        self._heard = now
        self._beat_at = now + self._heartbeat
        self.renewing, self.renew_at = False, None
        return first

    def renew_soon(self, now: float) -> None:
        """The token ends: it is to be replaced, but not without a pause."""
        if not self.renewing:
            pause_ends = now if self._renewed is None else self._renewed + RENEW_PAUSE
            self.renew_at = max(now, pause_ends)

    def renews(self, now: float) -> bool:
        """Whether a new token is to be asked for now."""
        if self.leaving or self.renew_at is None or self.renew_at > now:
            return False
        self.renewing, self.renew_at, self._renewed = True, None, now
        return True

    def renewal_failed(self, now: float) -> None:
        """No new token, or it was refused; the old one lasts a little longer."""
        self.renewing = False
        self.renew_at = now + RENEW_PAUSE
