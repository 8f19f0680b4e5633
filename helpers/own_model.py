"""A model of the reader's own, and an example of a request: checked before any server starts.

Whatever is wrong with them is told in a sentence that says what to mend (`BadInput`).
"""

import contextlib
import json
import math
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from helpers import pace
from helpers.display import progress
from helpers.environment import environment
from helpers.interpreter import server_python

PATIENCE = 600  # seconds that a model has to load and to answer some lists
_ALONE = Path(__file__).parent / "programs" / "alone.py"
_GENERATED = ("mlserver_runtime", "ray_serve_app")


class BadInput(ValueError):
    """What the reader gave cannot be compared; the message says what to mend."""


@dataclass(frozen=True)
class OwnModel:
    """A model that loads and answers, as `own_model` has found it.

    Attributes
    ----------
    file : Path
        The Python file, absolute.
    name : str
        The class in it: it has ``load()``, and a ``predict(requests)`` that takes a list and
        returns a list of answers.
    request : object
        An example of a request: one element of that list, as JSON has it.
    latency : float
        Until when an answer is good enough (ms).
    answer : object
        What the model answers to the request without any server.
    load : float
        How long its ``load()`` took (seconds).
    batches : pandas.DataFrame
        What lists are worth to it: the time of ``predict`` by the length of the list.
    """

    file: Path
    name: str
    request: Any
    latency: float
    answer: Any
    load: float
    batches: pd.DataFrame

    def check(self, server: str, answer: object) -> None:
        """Complain if a server's answer is not the model's.

        Parameters
        ----------
        server : str
            Who answered.
        answer : object
            What.

        Raises
        ------
        RuntimeError
            If it is another one.
        """
        if not same(self.answer, answer):
            raise RuntimeError(
                f"{server} answers {_brief(answer)}, {self.name} by itself {_brief(self.answer)}."
            )


def own_model(model: str, request: object, latency: object) -> OwnModel:
    """Load a model in a process of its own, ask it, and see whether it can be served.

    Parameters
    ----------
    model : str
        ``"my_model.py:MyModel"``: a file, and a class in it.
    request : object or Path
        An example of a request, or a file of JSON that holds one.
    latency : float
        Until when an answer is good enough (ms).

    Returns
    -------
    OwnModel
        With what it answers by itself.

    Raises
    ------
    BadInput
        If there is no such file or class, if it does not load, if ``predict`` does not return as
        many answers as it gets requests, or other ones each time; if the request is not JSON, or
        the latency no number.

    Examples
    --------
    >>> own_model("my_model.py:MyModel", "Hello", latency=200)              # doctest: +SKIP
    """
    limit = positive("The latency", latency, "milliseconds, such as 200")
    text = _request(request)
    file, name = _file(model)
    command = [server_python(), str(_ALONE), str(file), name, str(pace.seconds(1))]
    status, output, errors = _run(command, text, f"{name} loads and answers by itself")
    if not output:  # it has crashed
        tail = "\n".join(errors.splitlines()[-5:])
        raise BadInput(
            f"{name} ends its process (exit status {status}), so it would end a server. "
            f"Its last words:\n{tail}"
        )
    found = json.loads(output)
    if "mend" in found:
        raise BadInput(found["mend"])
    first, *others = found["answers"]
    for other in others:
        if not same(first, other):
            raise BadInput(
                f"{name} answers the same request now with {_brief(first)}, now with "
                f"{_brief(other)}. Give it a fixed seed, and let an answer not depend on its "
                "neighbours in the list: what the servers answer is compared with it."
            )
    batches = pd.Series(found["batches"], name="seconds").rename_axis("list of").reset_index()
    batches["list of"] = batches["list of"].astype(int)
    batches["ms"] = 1000 * batches.pop("seconds")
    batches["requests/s"] = 1000 * batches["list of"] / batches["ms"]
    return OwnModel(file, name, json.loads(text), limit, first, found["load"], batches)


def positive(what: str, value: object, example: str) -> float:
    """Return a number above 0.

    Parameters
    ----------
    what : str
        What it is, to begin a sentence with.
    value : object
        A number, or a text that is one.
    example : str
        What it should be, to end the sentence with.

    Raises
    ------
    BadInput
        If it is something else.
    """
    try:
        number = float(str(value))
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise BadInput(f"{what} must be a number above 0 of {example}; it is {value!r}.")
    return number


def same(one: Any, other: Any) -> bool:
    """Tell whether two answers are the same, but for what a batch does to the last digits.

    Parameters
    ----------
    one, other : object
        As JSON has them.
    """
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-6)
    return bool(one == other)


def _file(model: str) -> tuple[Path, str]:
    """Return the file and the name of the class."""
    found = re.fullmatch(r"(.+\.py):(\w+)", model)
    if not found:
        raise BadInput(f"{model!r} names no class: write FILE:CLASS, as in my_model.py:MyModel.")
    file = Path(found[1]).absolute()
    if not file.is_file():
        raise BadInput(f"There is no file {found[1]}.")
    if not file.stem.isidentifier() or file.stem in _GENERATED:
        raise BadInput(f"Python cannot import {file.name} for us: call it my_model.py, say.")
    return file, found[2]


def _request(request: object) -> str:
    """Return the request as JSON."""
    if isinstance(request, Path):
        if not request.is_file():
            raise BadInput(f"There is no file {request}.")
        try:
            request = json.loads(request.read_text(encoding="utf-8"))
        except ValueError as error:
            raise BadInput(
                f"The request is not JSON: {error}. A text has double quotes around it; there are "
                "no comments, and no comma after the last entry."
            ) from None
    try:
        text = json.dumps(request, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BadInput(f"The request cannot be sent as JSON: {error}.") from None
    if request is None:
        raise BadInput("The request is empty (null): give an example of what your clients send.")
    return text


def _run(command: list[str], text: str, doing: str) -> tuple[int, str, str]:
    """Run a command; return its exit status, its output and its errors."""
    pipe, begin = subprocess.PIPE, time.monotonic()
    given: str | None = text
    process = subprocess.Popen(
        command,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
        env=os.environ | environment(),
        start_new_session=True,  # what the model has started, and left behind, ends with it
    )
    with process, progress() as line:
        try:
            while (waited := time.monotonic() - begin) < PATIENCE:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    output, errors = process.communicate(given, timeout=0.5)
                    return process.returncode, output, errors
                given = None  # it has it
                if process.poll() is not None:  # but not all who have its pipes
                    _kill_group(process.pid)
                line.show(f"{doing}: {waited:.0f} s")
        finally:
            _kill_group(process.pid)
    raise BadInput(f"{doing}: not within {PATIENCE} s.")


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _brief(answer: object) -> str:
    text = json.dumps(answer, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
