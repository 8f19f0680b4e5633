"""How long a notebook takes its time: ``TUTORIAL_PACE`` is ``full`` (the default) or ``quick``.

Outputs, findings and pictures that are stored come from ``full``. Tests run in ``quick``, in which
every load is short or thin, nothing is repeated, and Ray is ended without the seconds that it would
need to stop by itself; whatever a notebook asserts holds in both.
"""

import os

SHORTEST = 0.5  # seconds of a load in quick pace: enough for a few answers of a slow model
SPARSEST = 2  # requests per second in quick pace: one or two see even what takes a second


def quick() -> bool:
    """Tell whether the pace is quick.

    Raises
    ------
    ValueError
        If ``TUTORIAL_PACE`` is neither quick nor full.
    """
    pace = os.environ.get("TUTORIAL_PACE") or "full"
    if pace not in ("quick", "full"):
        raise ValueError(f"TUTORIAL_PACE={pace!r} must be quick or full")
    return pace == "quick"


def seconds(full: float) -> float:
    """Return how long a load lasts that takes so many seconds in full pace."""
    return min(full, max(SHORTEST, full / 5)) if quick() else full


def rate(full: float) -> float:
    """Return how many requests per second to send where full pace sends so many.

    For loads that go on until something has happened: the machine is to be free for that.
    """
    return min(full, max(SPARSEST, full / 4)) if quick() else full


def times(full: int) -> int:
    """Return how often to do what is repeated so many times in full pace."""
    return 1 if quick() else full
