"""A load whose requests are known, and a clock that nobody waits for."""

from collections.abc import Callable

import pandas as pd


def rows(number: int, latency: float = 20, **columns: object) -> pd.DataFrame:
    """Make what a load returns that has sent so many requests in a second."""
    table = pd.DataFrame({"run": 1, "start": [100 + n / number for n in range(number)]})
    table = table.assign(latency=latency, late=0.0, status=200, error="", answer="PID 7")
    return table.assign(**columns)


class FakeLoad:
    def __init__(
        self, result: Callable[[], pd.DataFrame], warm_up: float = 1, repeat: int = 1
    ) -> None:
        self.result, self.warm_up, self.repeat = result, warm_up, repeat
        self.stops: list[str] = []

    def stop(self, wait: bool = False) -> None:
        self.stops.append("waits" if wait else "at once")

    def __enter__(self) -> "FakeLoad":
        return self

    def __exit__(self, error: object, *_: object) -> None:
        self.stop(wait=error is None)


class Clock:
    """Stands for the module `time`."""

    now = 1000.0

    def time(self) -> float:
        return self.now

    monotonic = time

    def sleep(self, seconds: float) -> None:
        self.now += seconds
