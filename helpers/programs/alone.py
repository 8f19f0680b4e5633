"""A model of the reader's own, without any server. Run by the servers' interpreter.

    python alone.py FILE CLASS SECONDS < REQUEST

Prints one JSON object. It has either a sentence that says what is wrong with the model, ``mend``,
or what the model answers to the request when it comes alone, once more, and in a list of three
(``answers``), how many seconds `load` took (``load``), and the median seconds of `predict` by the
length of its list (``batches``), each found in so many seconds.

What the model itself prints goes to standard error.
"""

import importlib
import inspect
import json
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

file, name, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
request = sys.stdin.read()
answer_to, sys.stdout = sys.stdout, sys.stderr


def tell(**outcome: object) -> NoReturn:
    """Print the outcome and end, whatever threads the model has started."""
    json.dump(outcome, answer_to)
    answer_to.flush()
    os._exit(0)


def attempt(doing: str, do: Callable[[], Any], hint: str = "") -> Any:
    """Do something of the model's; if it fails, end with a sentence that says where and how."""
    try:
        return do()
    except (Exception, SystemExit) as error:
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
        where = f" in line {lines[-1]} of {file.name}" if lines else ""
        if isinstance(error, FileNotFoundError):
            hint = "A server has a folder of its own: name files by Path(__file__).with_name(...)."
        if isinstance(error, ModuleNotFoundError):
            hint = "Install it for the Python that runs the servers."
        traceback.print_exc()
        tell(mend=f"{doing} fails{where}: {type(error).__name__}: {error}. {hint}".strip())


def predict(size: int) -> list[Any]:
    """Let the model answer a list of that length, and check what comes back."""
    requests = [json.loads(request) for _ in range(size)]
    answers = attempt(f"{name}.predict() with a list of {size}", lambda: model.predict(requests))
    if not isinstance(answers, list):
        tell(
            mend=f"{name}.predict() must return a list, with an answer for each request in the "
            f"list that it gets; it returned a {type(answers).__name__}."
        )
    if len(answers) != size:
        tell(
            mend=f"{name}.predict() got a list of {size} and returned {len(answers)}: it must "
            "return one answer for each request, in the same order."
        )
    hint = "Return plain numbers, texts, lists and dicts: float(x), array.tolist()."
    text = attempt(
        f"Making JSON of what {name}.predict() returns",
        lambda: json.dumps(answers, allow_nan=False),
        hint,
    )
    return list(json.loads(text))


path = str(file)
sys.path[0] = str(file.parent)  # not the folder of this program
module = attempt(f"import {file.stem}", lambda: importlib.import_module(file.stem))
kind = getattr(module, name, None)
if not inspect.isclass(kind):
    own = [n for n, k in vars(module).items() if inspect.isclass(k) and k.__module__ == file.stem]
    tell(mend=f"{file.name} has no class {name!r}. Its classes: {', '.join(own) or 'none'}.")
for method, signature in {"load": "load(self)", "predict": "predict(self, requests)"}.items():
    function = getattr(kind, method, None)
    if not callable(function):
        tell(mend=f"{name} has no method {method}(): give it `def {signature}`.")
    if inspect.iscoroutinefunction(function):
        tell(mend=f"Write {name}.{method}() as `def {signature}`, without async.")
model = attempt(f"{name}()", kind)
begin = time.perf_counter()
attempt(f"{name}.load()", model.load)
loaded = time.perf_counter() - begin
found = [predict(1)[0], predict(1)[0], *predict(3)]

batches = {}
for length in (1, 8, 32):
    times: list[float] = []
    while sum(times) < seconds or not times:
        begin = time.perf_counter()
        predict(length)
        times.append(time.perf_counter() - begin)
    batches[length] = statistics.median(times)
tell(answers=found, load=loaded, batches=batches)
