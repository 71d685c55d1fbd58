"""Simulated time: processes that wait for signals and for places, and a clock that jumps to whatever comes next."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Generator
from itertools import count


class Signal:
    """Happens once; whoever waits goes on then, or at once when it has happened."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] = []
        self._has_happened = False

    def fire(self) -> None:
        self._has_happened = True
        for go_on in self._waiting:
            go_on()

    def then(self, go_on: Callable[[], None]) -> None:
        if self._has_happened:
            go_on()
        else:
            self._waiting.append(go_on)


Steps = Generator[Signal, None, None]


class Clock:
    """Runs processes, which are generators of the signals they wait for."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Signal]] = []
        self._order = count()

    def after(self, seconds: float) -> Signal:
        signal = Signal()
        heapq.heappush(self._due, (self.now + seconds, next(self._order), signal))
        return signal

    def spawn(self, steps: Steps) -> Signal:
        """Start a process; fires at its end."""
        ended = Signal()

        def go_on() -> None:
            awaited = next(steps, None)
            if awaited is None:
                ended.fire()
            else:
                awaited.then(go_on)

        go_on()
        return ended

    def run(self) -> None:
        while self._due:
            self.now, _, signal = heapq.heappop(self._due)
            signal.fire()


class Places:
    """So many may be inside at a time; the rest wait in line. `busy` are place-seconds so far."""

    def __init__(self, clock: Clock, places: int) -> None:
        self._clock, self._free = clock, places
        self._line: deque[Signal] = deque()
        self.busy = self.longest_wait = 0.0

    def hold(self, inside: Callable[[], Steps]) -> Steps:
        """Wait for a place, be inside while `inside` runs, leave."""
        asked = self._clock.now
        if self._free:
            self._free -= 1
        else:
            turn = Signal()
            self._line.append(turn)
            yield turn
        entered = self._clock.now
        self.longest_wait = max(self.longest_wait, entered - asked)
        yield from inside()
        self.busy += self._clock.now - entered
        if self._line:
            self._line.popleft().fire()
        else:
            self._free += 1
