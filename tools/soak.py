"""Run all notebooks again and again, and show what failed even once: `make soak`.

    python -m tools.soak                       # ten rounds
    python -m tools.soak 07 08 --rounds 4      # of some notebooks
    python -m tools.soak --seed 11261530       # goes on with the soak that was stopped

A round is every notebook in quick pace, in a random order, each by a `pytest --nbval` of its own.
In every second round another process keeps one core busy. Nothing gets another try: what fails once
in ten rounds fails for every tenth reader, and is to be understood and mended. Then begin anew.

build/soak/SEED holds a line for each run, and pytest's whole report on each that failed. The exit
status is 0 if all was run and nothing failed.
"""

import argparse
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from tqdm import tqdm

from tools import notebooks
from tools.notebooks import find

# Standard input is a pipe that only the soak holds: it closes however the soak ends.
BUSY = """
import os, sys, threading
def end_with_the_soak():
    sys.stdin.read()
    os._exit(0)
threading.Thread(target=end_with_the_soak).start()
while True:
    pass
"""


class Run(NamedTuple):
    """How a notebook fared in a round."""

    round: int
    notebook: str
    passed: bool
    seconds: float


def order(paths: Sequence[Path], number: int, seed: int) -> list[Path]:
    """Return the notebooks in the order of a round: the same again for the same seed."""
    return random.Random(f"{seed}, round {number}").sample(paths, len(paths))


def beside_a_busy_core(number: int) -> bool:
    """Tell whether one core is kept busy in a round."""
    return number % 2 == 0


@contextmanager
def busy_core() -> Iterator[int]:
    """Keep one core busy until the block ends, or this process does; yields who does it."""
    command = [sys.executable, "-c", BUSY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as loop:
        try:
            yield loop.pid
        finally:
            loop.kill()


def passes(path: Path, log: Path, python: str = sys.executable, **variables: str) -> bool:
    """Test a notebook in quick pace, once, by a pytest of its own.

    Parameters
    ----------
    path : Path
        The notebook.
    log : Path
        Where pytest's report goes.
    python : str
        Whose environment to use.
    **variables : str
        What to add to the environment's variables.

    Returns
    -------
    bool
        Whether all of it passed.
    """
    # A failure in here is no business of `tools.notebooks failed`, which reads pytest's cache.
    command = [python, "-m", "pytest", "-p", "no:cacheprovider", "--color=no", "--nbval", str(path)]
    with (
        log.open("w", encoding="utf-8") as report,
        subprocess.Popen(
            command,
            cwd=notebooks.ROOT,
            env={**os.environ, "TUTORIAL_PACE": "quick", **variables},
            stdout=report,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C in the terminal reaches it from here, and once
        ) as pytest,
    ):
        try:
            return pytest.wait() == 0
        except KeyboardInterrupt:
            pytest.send_signal(signal.SIGINT)  # it stops the kernel, and that its servers
            with contextlib.suppress(subprocess.TimeoutExpired):
                pytest.wait(60)
            pytest.kill()
            raise


def failures(log: Path) -> str:
    """Name the cells that a report of pytest says failed."""
    cells = re.findall(r"^(?:FAILED|ERROR) .*::(Cell \d+)", log.read_text("utf-8"), re.M)
    return ", ".join(dict.fromkeys(cells)) or "no cell, but pytest itself"


class Soak:
    """A soak with its folder."""

    def __init__(self, paths: Sequence[Path], rounds: int, seed: int) -> None:
        self.folder = notebooks.ROOT / "build" / "soak" / str(seed)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lines = self.folder / "runs.jsonl"
        self.runs: list[Run] = []
        if self._lines.exists():
            lines = self._lines.read_text(encoding="utf-8").splitlines()
            self.runs = [Run(**json.loads(line)) for line in lines]
        done = {(run.round, run.notebook) for run in self.runs}
        plan = [(n, path) for n in range(1, rounds + 1) for path in order(paths, n, seed)]
        self.left = [(n, path) for n, path in plan if (n, path.stem) not in done]

    def log(self, number: int, name: str) -> Path:
        """Return where the report on a run is, if it failed."""
        return self.folder / f"{number:02}-{name}.log"

    def run(self) -> None:
        """Run what is left, and say after each what came out."""
        total = len(self.runs) + len(self.left)
        with tqdm(
            total=total,
            initial=len(self.runs),
            smoothing=0,  # the time that is left, from the mean of all runs
            disable=None,  # no bar where nobody sees it move
        ) as bar:
            while self.left:
                number, path = self.left[0]
                busy = beside_a_busy_core(number)
                what = f"round {number}{', a core busy' if busy else ''}: {path.stem}"
                bar.set_description(what)
                log, begin = self.log(number, path.stem), time.monotonic()
                with ExitStack() as stack:
                    if busy:
                        stack.enter_context(busy_core())
                    passed = passes(path, log)
                run = Run(number, path.stem, passed, round(time.monotonic() - begin, 1))
                with self._lines.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps(run._asdict()) + "\n")
                self.runs.append(run)
                self.left.pop(0)
                told = "passed" if passed else f"FAILED: {failures(log)}"
                bar.update()
                bar.write(f"[{len(self.runs)}/{total}] {what}: {run.seconds:.0f} s, {told}")
                if passed:
                    log.unlink()

    def report(self) -> str:
        """Return a table of all runs, and where to read about what failed."""
        failed = [run for run in self.runs if not run.passed]
        lines = [f"{len(failed)} of {len(self.runs)} runs failed, {len(self.left)} were not run."]
        for run in failed:
            log = self.log(run.round, run.notebook)
            lines.append(f"{log.relative_to(notebooks.ROOT)}: {failures(log)}")
        if not self.runs:
            return lines[0]
        table = pd.DataFrame(self.runs)
        told = [f"{'' if run.passed else 'FAILED '}{run.seconds:.0f}" for run in self.runs]
        table = table.assign(told=told).pivot(index="notebook", columns="round", values="told")
        table = table.rename(columns=lambda n: f"{n}*" if beside_a_busy_core(n) else str(n))
        head = "Seconds, by notebook and round; * beside a busy core"
        return "\n".join([head, table.fillna("").to_string(), "", *lines])


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak, and report at the end, also at one that came too early."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", help="how the notebooks' names begin; all if none")
    parser.add_argument("--rounds", type=int, default=10, help="how many (10)")
    parser.add_argument("--seed", type=int, help="decides the orders; by default the time")
    chosen = parser.parse_args(arguments)
    seed = int(time.strftime("%m%d%H%M")) if chosen.seed is None else chosen.seed
    try:
        soak = Soak(find(chosen.names), chosen.rounds, seed)
    except FileNotFoundError as error:
        parser.error(str(error))
    try:
        soak.run()
    except KeyboardInterrupt:
        print(f"\nStopped. To go on, give the same arguments and --seed {seed}.")
    print(f"\n{soak.report()}")
    return 1 if soak.left or not all(run.passed for run in soak.runs) else 0


if __name__ == "__main__":
    # In the background of a shell SIGINT is ignored, and pytest would inherit that.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    sys.exit(main())
