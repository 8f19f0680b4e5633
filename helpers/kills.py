"""What clients noticed of kills: numbers and pictures. `helpers.failures` kills."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib.pyplot as plt
import pandas as pd

from helpers.display import timelines


@dataclass(frozen=True, eq=False)
class Kills:
    """What clients noticed of kills, as `kill_under_load` has found it.

    Attributes
    ----------
    requests : pandas.DataFrame
        The clients' requests, as `Load.result` returns them.
    table : pandas.DataFrame
        One row per kill, from 1: when it was ``killed``, and when all were ``back`` (seconds, as
        `time.time` gives them; NaN for never); ``requests``, how many were under way or due in
        between, each counted for the first kill that it met; how many of them ``failed``, and of
        those that came later, before the next kill; the ``longest wait (s)`` of all these; and
        ``all are back after (s)``.
    """

    requests: pd.DataFrame
    table: pd.DataFrame

    def median(self) -> int:
        """Return the number of the kill whose recovery took the median time.

        Never is the longest time; of two in the middle it is the longer.
        """
        seconds = self.table["all are back after (s)"].fillna(math.inf).sort_values()
        return int(seconds.index[len(seconds) // 2])


def effects(killed: Mapping[str, Kills]) -> pd.DataFrame:
    """Sum up what kills did, one row for each target.

    Parameters
    ----------
    killed : dict of str to Kills
        What `kill_under_load` returned, by name.

    Returns
    -------
    pandas.DataFrame
        By name: the number of ``kills``; of the ``requests`` that met them; how many of these
        ``failed``, in all and ``by one kill at most``; the ``longest wait (s)`` of all; the median
        time until ``all are back after (s)``, the ``slowest (s)``, and how often ``never back``.
    """
    rows = {}
    for name, kills in killed.items():
        table = kills.table
        back = table["all are back after (s)"]
        rows[name] = {
            "kills": len(table),
            "requests": table["requests"].sum(),
            "failed": table["failed"].sum(),
            "by one kill at most": table["failed"].max(),
            "longest wait (s)": table["longest wait (s)"].max(),
            "all are back after (s)": back.dropna().median(),
            "slowest (s)": back.max(),
            "never back": back.isna().sum(),
        }
    return pd.DataFrame(rows.values(), pd.Index(list(rows), name="target"))


def draw_kills(killed: Mapping[str, Kills], number: int | None = None) -> None:
    """Draw one kill of each, from a second before it to two after the recovery, or eight if never.

    The clock starts with the kill. Where another kill is near, the picture ends there, so that what
    it shows is the work of one kill; what the table says of it stands above.

    Parameters
    ----------
    killed : dict of str to Kills
        What `kill_under_load` returned, by title.
    number : int, optional
        Of the kill, from 1. If not given, the one whose recovery took the median time.

    Raises
    ------
    ValueError
        If there is no kill of that number.
    """
    panels, marks, notes = {}, {}, []
    for title, kills in killed.items():
        chosen, table = kills.median() if number is None else number, kills.table
        if chosen not in table.index:
            raise ValueError(f"There are kills 1 to {len(table)} of {title}, none of {chosen}.")
        row = table.loc[chosen]
        moment, back = row["killed"], row["back"]
        begin, end = moment - 1, moment + 8 if math.isnan(back) else back + 2
        begin = max(begin, table["back"].shift().fillna(-math.inf)[chosen])
        another = table["killed"].shift(-1).fillna(math.inf)[chosen]
        end, start = min(end, another), kills.requests["start"]
        done = start + kills.requests["latency"] / 1000
        panels[title] = kills.requests[(begin <= start) & (start < end) & (done < another)]
        marks[title] = {"killed": moment, **({"all are back": back} if back < end else {})}
        notes.append(f"{row['requests']:.0f} requests met the kill, {row['failed']:.0f} failed")
    timelines(panels, marks, since={title: each["killed"] for title, each in marks.items()})
    for ax, note in zip(plt.gcf().axes, notes, strict=True):
        ax.set_title(note, loc="right", fontsize="medium", color="0.4")
