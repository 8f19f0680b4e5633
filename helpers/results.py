"""What the notebooks of the comparison found out, kept for the last notebook and the README."""

import json
import math
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pandas as pd
import psutil

from helpers.interpreter import server_python
from helpers.servers import START

COLUMNS = ["notebook", "question", "MLServer", "Ray Serve", "unit", "how", "headline"]
RUN = START / "work"
"""Where the notebooks' own folders are; a run leaves its findings in them."""

STORED = Path(__file__).resolve().parent.parent / "notebooks" / "results"
"""The findings that belong to the outputs stored in the notebooks."""

Value = str | float | Iterable[float]


def record(
    question: str,
    *,
    mlserver: Value,
    ray_serve: Value,
    unit: str = "",
    how: str,
    headline: bool = False,
) -> None:
    """Keep the answer to one question, in place of an older one of this notebook.

    Parameters
    ----------
    question : str
        A short phrase: ``"requests/s of a no-op, 8 users"``.
    mlserver, ray_serve : str, float, or several float
        What came out. Several numbers are repetitions: kept as their median and their range.
    unit : str
        Of both numbers.
    how : str
        How it was found, in a phrase.
    headline : bool
        One of the few that the README shows.

    Examples
    --------
    >>> record(                                                             # doctest: +SKIP
    ...     "requests lost", mlserver=0, ray_serve=2, unit="requests", how="SIGKILL of one of two"
    ... )
    """
    name = Path.cwd().name
    file = Path("findings.json")
    content = json.loads(file.read_text()) if file.exists() else {}
    values = [_text(value) for value in (mlserver, ray_serve)]
    row = dict(zip(COLUMNS, [name, question, *values, unit, how, headline], strict=True))
    others = [each for each in content.get("findings", []) if each["question"] != question]
    part = file.with_suffix(".part")
    content = {"machine": machine(), "findings": [*others, row]}
    part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(part, file)


def findings(*files: Path) -> pd.DataFrame:
    """Collect what was found out.

    Parameters
    ----------
    *files : Path
        Where they are, in this order: a notebook's findings are those of the first file that has
        any. If none is given: those of this run, else those stored with the notebooks.

    Returns
    -------
    pandas.DataFrame
        A row per question: ``notebook``, ``question``, ``MLServer``, ``Ray Serve``, ``unit``,
        ``how``, ``headline``. ``attrs["machine"]`` describes the machines, by notebook.
    """
    rows, machines = [], {}
    for file in files or [*RUN.glob("*/findings.json"), *STORED.glob("*.json")]:
        content = json.loads(file.read_text(encoding="utf-8"))
        name = content["findings"][0]["notebook"]
        if name not in machines:
            machines[name] = content["machine"]
            rows += content["findings"]
    table = pd.DataFrame(rows, columns=COLUMNS)
    table = table.sort_values("notebook", kind="stable", ignore_index=True)
    table.attrs["machine"] = machines
    return table


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
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{psutil.cpu_count()} cores of {processor}, {memory:.0f} GB, {platform.system()}, "
        f"{versions}"
    )


def _text(value: Value) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Iterable):
        numbers = [float(each) for each in value]
        middle, low, high = statistics.median(numbers), min(numbers), max(numbers)
        return f"{_text(middle)} ({_text(low)} – {_text(high)})"
    if math.isnan(value):  # nothing was measured: no request was answered, say
        return "–"
    digits = 0 if value == int(value) or abs(value) >= 100 else 1
    return f"{value:.{digits}f}"
