"""What the notebooks of the comparison found out, kept for the last notebook and the README."""

import json
import math
import numbers
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from helpers.display import Table, show
from helpers.interpreter import server_python
from helpers.measure import Comparison
from helpers.pace import quick
from helpers.workspace import START, shown

COLUMNS = ["notebook", "question", "MLServer", "Ray Serve", "unit", "compared"]
COLUMNS += ["how", "headline", "better"]
SIDES = {"mlserver": "MLServer", "ray_serve": "Ray Serve"}
"""The two that are compared: as keywords and in the files, and as they are shown."""

RUN = START / "work"
"""Where the notebooks' own folders are; a run leaves its findings in them."""

STORED = Path(__file__).resolve().parent.parent / "notebooks" / "results"
"""The findings that belong to the outputs stored in the notebooks."""

KEYWORDS = [*SIDES, "unit", "how", "better", "ratio", "headline"]
ENOUGH = 4  # numbers a side: ranges that do not overlap are then chance in one of 35 cases only

Value = str | float | Iterable[float]
Finding = dict[str, Any]
"""The answer to one question, as a file holds it."""


@dataclass(frozen=True, repr=False)
class Recorded:
    """What `record` has kept, shown as a table with a line per question."""

    findings: list[Finding]

    def _repr_html_(self) -> str:
        return self._table()._repr_html_()

    def __repr__(self) -> str:
        return repr(self._table())

    def _table(self) -> Table:
        lines = []
        for finding in self.findings:
            row = _row(finding)
            if row["better"]:
                row[row["better"]] = "✓ " + row[row["better"]]
            lines.append(row)
        table = pd.DataFrame(lines)[["question", *SIDES.values(), "unit", "compared", "how"]]
        return show(table.loc[:, (table != "").any()])  # without a column that says nothing


def record(
    question: str | pd.DataFrame,
    *,
    mlserver: Value = "",
    ray_serve: Value = "",
    unit: str = "",
    how: str = "",
    better: str | None = None,
    ratio: Comparison | None = None,
    headline: bool = False,
) -> Recorded:
    """Keep the answer to one question, in place of an older one of this notebook.

    Parameters
    ----------
    question : str or pandas.DataFrame
        A short phrase: ``"requests/s of a no-op, 8 users"``. Or many questions at once: a table
        with a column ``question``, and one for each of the keywords below that differs from row
        to row; the keywords themselves are for what all rows share.
    mlserver, ray_serve : str, float, or several float
        What came out. Several numbers are repetitions: kept as their median and their range. NaN
        means that it could not be told; several numbers of which one is NaN have no median.
    unit : str
        Of both numbers.
    how : str
        How it was found, in a phrase.
    better : {"lower", "higher"}, optional
        Which numbers one would rather have. Without it neither side is marked as the better one.
    ratio : Comparison, optional
        What pairs of runs say (`measure.compare`), the two called MLServer and Ray Serve.
    headline : bool
        One of the few that the README shows.

    Returns
    -------
    Recorded
        What a notebook shows as a table. The better side has a ✓, where it is earned: by a
        ``ratio`` whose interval does not hold 1, or without one by at least four numbers on
        either side whose ranges do not overlap.

    Raises
    ------
    ValueError
        If something is missing, contradicts itself or is of a kind that cannot be kept.

    Examples
    --------
    >>> record(                                                             # doctest: +SKIP
    ...     "requests lost", mlserver=[0, 0, 1, 0], ray_serve=[2, 3, 2, 2], unit="requests",
    ...     how="SIGKILL of one of two", better="lower",
    ... )
    question       MLServer     Ray Serve  unit      how
    requests lost  ✓ 0 (0 – 1)  2 (2 – 3)  requests  SIGKILL of one of two
    """
    given = [mlserver, ray_serve, unit, how, better, ratio, headline]
    shared = dict(zip(KEYWORDS, given, strict=True))
    rows = _rows(question) if isinstance(question, pd.DataFrame) else [{"question": question}]
    new = [_finding({"question": "", **shared, **row}) for row in rows]

    file = Path("findings.json")
    older = read(file)["findings"] if file.exists() else []
    questions = {each["question"] for each in new}
    content = {
        "machine": machine(),
        "pace": "quick" if quick() else "full",
        "findings": [*(each for each in older if each["question"] not in questions), *new],
    }
    part = file.with_suffix(".part")
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    part.write_text(text + "\n", encoding="utf-8")
    os.replace(part, file)
    return Recorded(new)


def read(file: Path) -> dict[str, Any]:
    """Read the findings of one notebook.

    Parameters
    ----------
    file : Path
        What `record` has written.

    Returns
    -------
    dict
        ``machine`` (str), ``pace`` ("full" or "quick") and ``findings``, a list of dict:
        ``notebook``, ``question``, ``mlserver`` and ``ray_serve`` (either ``{"text"}`` or
        ``{"value", "low", "high", "n"}``: median, range and number of repetitions), ``unit``,
        ``better``, ``ratio`` (None or the fields of a `measure.Comparison`, always of MLServer's
        numbers by Ray Serve's), ``how`` and ``headline``. A number that could not be told is None.

    Raises
    ------
    ValueError
        If it is something else, such as the findings of an earlier version.
    """
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    ratios = [each.get("ratio") or {} for each in content["findings"]]
    if "pace" not in content or any("sentence" in ratio for ratio in ratios):
        raise ValueError(f"{shown(file)} is in an older format. Run its notebook again.")
    return content


def findings(*files: Path) -> pd.DataFrame:
    """Collect what was found out.

    Parameters
    ----------
    *files : Path
        Where they are, in this order: a notebook's findings are those of the first file that has
        any. If none is given: those of this run, else those stored with the notebooks. What was
        found in quick pace does not count.

    Returns
    -------
    pandas.DataFrame
        A row per question: ``notebook``, ``question``, ``MLServer`` and ``Ray Serve`` (text),
        ``unit``, ``compared`` (what a ratio allows to say), ``how``, ``headline``, and ``better``,
        the name of the better side where it is earned, else ``""``. ``attrs["machine"]`` describes
        the machines, by notebook.
    """
    rows: list[dict[str, Any]] = []
    machines: dict[str, str] = {}
    for file in files or [*RUN.glob("*/findings.json"), *STORED.glob("*.json")]:
        content = read(file)
        name = content["findings"][0]["notebook"]
        if content["pace"] == "full" and name not in machines:
            machines[name] = content["machine"]
            rows += map(_row, content["findings"])
    table = pd.DataFrame(rows, columns=COLUMNS).astype({"headline": bool})
    table = table.sort_values("notebook", kind="stable", ignore_index=True)
    table.attrs["machine"] = machines
    return table


def compare_runs(old: dict[str, Any], new: dict[str, Any]) -> pd.DataFrame:
    """Compare the numbers of two runs of a notebook.

    Parameters
    ----------
    old, new : dict
        What `read` returns.

    Returns
    -------
    pandas.DataFrame
        A row per number that both runs have: ``notebook``, ``question``, ``side``, ``stored`` and
        ``now`` (the medians), their ``ratio`` (now by stored; NaN by 0), and whether now's is
        ``within`` what was to be expected: either the two ranges overlap, or now's median is
        no farther from the stored range than that is wide.
    """
    before = {(each["notebook"], each["question"]): each for each in old["findings"]}
    rows = []
    for finding in new["findings"]:
        key = (finding["notebook"], finding["question"])
        for side, name in SIDES.items():
            stored, now = before.get(key, {}).get(side, {}), finding[side]
            if stored.get("value") is None or now.get("value") is None:
                continue
            low, high, value = stored["low"], stored["high"], now["value"]
            overlap = now["low"] <= high and low <= now["high"]
            near = low - (high - low) <= value <= high + (high - low)
            ratio = value / stored["value"] if stored["value"] else math.nan
            rows.append((*key, name, stored["value"], value, ratio, overlap or near))
    columns = ["notebook", "question", "side", "stored", "now", "ratio", "within"]
    return pd.DataFrame(rows, columns=columns).astype({"within": bool})


@cache
def machine() -> str:
    """Describe this machine and what was measured on it, without its name.

    Returns
    -------
    str
        Processor, cores, memory, system and versions.
    """
    processor = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            models = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
        processor = models[0] if models else processor
    script = (
        "import platform; from importlib.metadata import version as v\n"
        "print('Python', platform.python_version(), end='')\n"
        "for p in ['mlserver', 'ray', 'torch']: print(', ' + p, v(p), end='')"
    )
    command = [server_python(), "-c", script]
    versions = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GB"
    return f"{psutil.cpu_count()} cores of {processor}, {memory}, {platform.system()}, {versions}"


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Take a table of findings apart: what is missing in a row is left to the keywords."""
    known = ["question", *KEYWORDS]
    if unknown := [str(name) for name in table.columns if name not in known]:
        raise ValueError(f"Columns may be {', '.join(known)}, not {', '.join(unknown)}.")
    if "question" not in table or table.empty:
        raise ValueError("The table needs a column question and at least one row.")
    if twice := list(table["question"][table["question"].duplicated()]):
        raise ValueError(f"Only one answer can be kept to a question: {twice[0]!r} is there twice.")
    answers = zip(table.to_dict("records"), table.isna().to_dict("records"), strict=True)
    return [
        {k: math.nan if missing[k] else v for k, v in row.items() if k in SIDES or not missing[k]}
        for row, missing in answers
    ]


def _finding(answer: dict[str, Any]) -> Finding:
    """Check an answer, by keyword, and make of it what the file holds."""
    question, how, better, ratio = (answer[k] for k in ("question", "how", "better", "ratio"))
    if not isinstance(question, str) or not question.strip():
        raise ValueError(f"The question must be a phrase, or a table of questions: {question!r}.")
    if not isinstance(how, str) or not how.strip():
        raise ValueError(f"Say how the answer to {question!r} was found: how='...'.")
    if better not in ("lower", "higher", None):
        raise ValueError(f"better must be 'lower', 'higher' or None, not {better!r}.")
    if ratio and better and ratio.better != better:
        raise ValueError(f"The ratio was made with better={ratio.better!r}, not {better!r}.")
    sides = {side: _side(side, answer[side]) for side in SIDES}
    kept = {"ratio": _ratio(ratio) if ratio else None, "headline": bool(answer["headline"])}
    return {"notebook": Path.cwd().name, **answer, **sides, **kept}


def _side(name: str, value: Value) -> dict[str, Any]:
    if isinstance(value, str) and value.strip():
        return {"text": value}
    given = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    if not given or not all(
        isinstance(x, numbers.Real) and not isinstance(x, bool) and not math.isinf(x) for x in given
    ):
        raise ValueError(f"{name} must be a text, a number or several numbers, not {value!r}.")
    kept = [float(x) for x in given]
    if any(map(math.isnan, kept)):
        return {"value": None, "low": None, "high": None, "n": len(kept)}
    return {"value": statistics.median(kept), "low": min(kept), "high": max(kept), "n": len(kept)}


def _ratio(pairs: Comparison) -> dict[str, Any]:
    """Keep a ratio as that of MLServer's numbers by Ray Serve's, whichever came first."""
    if pairs.first.startswith("Ray Serve"):
        pairs = replace(
            pairs,
            first=pairs.second,
            second=pairs.first,
            ratio=1 / pairs.ratio,
            low=1 / pairs.high,
            high=1 / pairs.low,
        )
    if not (pairs.first.startswith("MLServer") and pairs.second.startswith("Ray Serve")):
        names = (pairs.first, pairs.second)
        raise ValueError(f"The ratio is of {names}: let these begin with MLServer and Ray Serve.")
    return {key: None if value != value else value for key, value in asdict(pairs).items()}


def _row(finding: Finding) -> dict[str, Any]:
    """Make the row of `findings`, and a little more."""
    texts = {name: _text(finding[side]) for side, name in SIDES.items()}
    kept = finding["ratio"] or {}
    ratio: dict[str, Any] = {k: math.nan if v is None else v for k, v in kept.items()}
    compared = Comparison(**ratio).sentence if ratio else ""
    return {**finding, **texts, "compared": compared, "better": _better(finding)}


def _better(finding: Finding) -> str:
    """Name the better side, if that is earned."""
    ratio, mlserver, ray_serve = (finding[key] for key in ("ratio", *SIDES))
    if ratio:
        low, high, same = ratio["low"], ratio["high"], 1
    elif all(s.get("value") is not None and s["n"] >= ENOUGH for s in (mlserver, ray_serve)):
        # from where to where their difference may be
        low, high = mlserver["low"] - ray_serve["high"], mlserver["high"] - ray_serve["low"]
        same = 0
    else:
        return ""
    if finding["better"] is None or low is None or low <= same <= high:
        return ""
    return SIDES["mlserver" if (low > same) == (finding["better"] == "higher") else "ray_serve"]


def _text(side: dict[str, Any]) -> str:
    if "text" in side:
        return str(side["text"])
    if side["value"] is None:  # nothing was measured: no request was answered, say
        return "–"
    value, low, high = (_number(side[key]) for key in ("value", "low", "high"))
    return f"{value} ({low} – {high})" if side["n"] > 1 else value


def _number(value: float) -> str:
    if value.is_integer() or abs(value) >= 99.95:  # what would be rounded to 100.0
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 0.995 else f"{value:.2g}"
