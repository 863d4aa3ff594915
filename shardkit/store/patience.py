"""How long a read is tried: attempts with pauses that grow, with jitter, up to a deadline.

Here: the limits, one read's life, the loop over its attempts.
Elsewhere: what one attempt does and which answers are worth another (http.py, objects.py).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import msgspec

from shardkit.errors import StorageFailed

SLOWEST_BYTES_PER_SECOND = 1 << 17
"""A read's deadline grows with its length as if the network were at least this fast."""


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long a read is tried: seconds in total, seconds without any byte, attempts, seconds of the first pause.

    A connection that is silent or slow for `slow_seconds` is given up for another, which goes on where it stopped;
    in the second half of the attempts it may be as slow as the deadline allows: then it is the network.
    A pause that a server asks for is kept up to `longest_wish_seconds`. Without `wait_for_network` a server that could
    not be reached even once is given up at once: then it is rather the machine that is offline.
    """

    deadline_seconds: float = 60.0
    silence_seconds: float = 15.0
    slow_seconds: float = 5.0
    attempts: int = 8
    first_pause_seconds: float = 0.1
    longest_pause_seconds: float = 5.0
    longest_wish_seconds: float = 30.0
    wait_for_network: bool = True


class Again(Exception):
    """This attempt failed in a way that the next may not; `pause_seconds` is how long the server asks to wait."""

    def __init__(self, reason: str, pause_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.pause_seconds = pause_seconds


class Reading:
    """One read: what is wanted, what has come, when it must end. `length` None means the whole file."""

    def __init__(self, path: str, offset: int, length: int | None, patience: Patience) -> None:
        self.path, self.offset, self.length = path, offset, length
        self.data = bytearray()
        self.patience = patience
        self._attempt = 0
        self._began, self._had = time.monotonic(), 0
        self.ends = time.monotonic() + patience.deadline_seconds + (length or 0) / SLOWEST_BYTES_PER_SECOND

    @property
    def seconds_left(self) -> float:
        """Until the deadline."""
        return self.ends - time.monotonic()

    @property
    def silence_seconds(self) -> float:
        """How long the present attempt may wait for a byte."""
        longest = min(self.patience.silence_seconds, self.patience.slow_seconds) if self._hurries else None
        return max(0.05, min(longest or self.patience.silence_seconds, self.seconds_left))

    def begin(self, attempt: int) -> None:
        """Attempt number `attempt`, from 1 on, begins. Raises Again when the time is over."""
        self._attempt, self._began, self._had = attempt, time.monotonic(), len(self.data)
        self.check_deadline()

    @property
    def _hurries(self) -> bool:
        return 2 * self._attempt <= self.patience.attempts

    def check_pace(self, new_bytes: int = 0) -> None:
        """Raise Again when the time is over, or another connection may be faster; `new_bytes` are not in `data` yet."""
        self.check_deadline()
        lasted = time.monotonic() - self._began
        came = len(self.data) + new_bytes - self._had
        if self._hurries and lasted > self.patience.slow_seconds and came < lasted * SLOWEST_BYTES_PER_SECOND:
            raise Again(f"{came} bytes came in {lasted:.1f} s")

    def check_deadline(self) -> None:
        """Raise Again when the time is over."""
        if self.seconds_left <= 0:
            came = f"{len(self.data)} bytes came" if self.data else "no complete answer"
            raise Again(f"{came} within {self.patience.deadline_seconds:g} s")


def persist(
    reading: Reading,
    name: str,
    attempt: Callable[[], None],
    transient: tuple[type[Exception], ...],
    reason_of: Callable[[Exception], str] = str,
) -> None:
    """Run `attempt` until it returns; Again and the `transient` errors are tried again.

    Raises StorageFailed, naming `name` and the last reason, when the attempts or the time are used up; it has no
    context, since an error's own text may hold the secrets of a URL.
    """
    patience = reading.patience
    pause = patience.first_pause_seconds
    for number in range(1, patience.attempts + 1):
        wish = 0.0
        try:
            reading.begin(number)
            return attempt()
        except Again as again:
            reason, wish = str(again), min(again.pause_seconds, patience.longest_wish_seconds)
        except transient as error:
            reason = reason_of(error)
        nap = max(wish, random.uniform(pause / 2, pause))
        if number == patience.attempts or reading.seconds_left <= nap:
            break
        time.sleep(nap)
        pause = min(2 * pause, patience.longest_pause_seconds)
    raise StorageFailed(
        f"cannot read {name}: {reason} (attempt {number} of {patience.attempts}); "
        "check the server and the network, then run the same command again"
    )
