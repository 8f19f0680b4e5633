"""MLServer and Ray Serve with a model of the reader's own: the search, the runs, the scorecard."""

import math
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from helpers import pace
from helpers.changes import change_under_load
from helpers.experiment import Capacity, alternate, capacity
from helpers.failures import kill_under_load
from helpers.load import Load, load
from helpers.measure import compare, summary
from helpers.own_files import Setting, settings, write_mlserver, write_ray_serve
from helpers.own_model import BadInput, OwnModel
from helpers.own_servers import MLServerSide, RayServeSide, Side

SHARE = 0.99  # of the requests, how many must be in time: of a capacity
ENOUGH = 0.95  # and in the search, whose loads are short
FIRST = 100.0  # requests/s; nothing above is tried first, however fast the model is by itself
COMPARED = [(1, "p50", "p50 (ms), 1 user"), (8, "requests/s", "requests/s, 8 users")]
PATIENCE = 20.0  # seconds after a kill
AS_IT_COMES, TUNED = "as it comes", "tuned"


class OwnComparison:
    """Both servers with one model, one step after the other.

    Where a step fails, both servers are stopped.

    Parameters
    ----------
    model : OwnModel
        What `own_model` returns.
    folder : str or Path
        Where the files go that are there to be taken away; made anew.
    minutes : float
        How long the search may take. A round of it (one setting, both servers) that would probably
        not end in time is not begun, but for the first.

    Raises
    ------
    BadInput
        If the folder holds files that are not of an earlier comparison.

    Attributes
    ----------
    tried : pandas.DataFrame
        What the search has found, a row for each server and setting.
    best : dict of str to Setting
        By server, the setting that is called tuned.
    """

    def __init__(self, model: OwnModel, folder: str | Path, minutes: float = 5) -> None:
        self.model, self.folder, self.minutes = model, Path(folder).absolute(), minutes
        if self.folder.exists() and any(self.folder.iterdir()):
            ours = (self.folder / "mlserver_runtime.py").exists()  # of an earlier comparison
            if not ours or self.folder in model.file.parents:
                raise BadInput(f"{folder} holds other files: name a new folder for the servers'.")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.sides: list[Side] = [kind(model, self.folder) for kind in (MLServerSide, RayServeSide)]
        self.best: dict[str, Setting] = {}
        self._tried: list[dict[str, Any]] = []
        self._found: dict[tuple[str, str], dict[str, Any]] = {}  # by question and setting
        for write in (write_mlserver, write_ray_serve):
            write(model, self.folder, None)

    def start_as_they_come(self) -> pd.DataFrame:
        """Start both without a setting, and see that they answer as the model does.

        Returns
        -------
        pandas.DataFrame
            How long each took until its first answer, and its memory then.
        """
        self._tried = []
        with self._stopped_on_error():
            for side in self.sides:
                self._begin(side, None)
            for side in self.sides:
                row = {"server": side.title, "setting": AS_IT_COMES, **self._score(side)}
                self._tried.append(row)
        return self._part(AS_IT_COMES, "first answer (s)", "memory (MB)")

    def search(self) -> pd.DataFrame:
        """Try the same settings with either server until all are tried or the time is over.

        A setting's score is the highest rate, to a factor of two, of requests due at fixed times of
        which 95 % were answered in time. Among equals the quicker answer decides. At the end both
        servers run with their best.

        Returns
        -------
        pandas.DataFrame
            ``tried``.
        """
        first, *others = settings(self.model)
        deadline, longest = time.monotonic() + 60 * self.minutes, 0.0
        self._tried = [row for row in self._tried if row["setting"] == AS_IT_COMES]
        self.stop()
        with self._stopped_on_error():
            for setting in [first] if pace.quick() else [first, *others]:
                begin = time.monotonic()
                if begin + longest > deadline:
                    break
                for side in self.sides:
                    self._try(side, setting)
                longest = max(longest, time.monotonic() - begin)
            if not pace.quick():
                self.stop()
            for side in self.sides:
                row = max(self._rows(side, TUNED), key=_score_of)
                best = Setting(*(row[name] for name in asdict(first)))
                self.best[side.title] = best
                if side.server is None:
                    self._begin(side, best)
        return self.tried

    def compare(self) -> pd.DataFrame:
        """Load both in turn, with one user and with eight, and say what the pairs allow to say.

        Returns
        -------
        pandas.DataFrame
            The medians, and what may be said of them.
        """
        setting, asked = self._setting(), []
        with self._stopped_on_error():
            for users, measure, question in COMPARED[-1:] if pace.quick() else COMPARED:
                asked.append(question)
                targets = {f"{side.title}, {setting}": side.request for side in self.sides}

                def ask(request: dict[str, Any], users: int = users) -> Load:
                    return load(**request, users=users, seconds=5, warm_up=1)

                runs = alternate(targets, ask)
                for name, side in zip(targets, self.sides, strict=True):
                    own = runs[runs["target"] == name]
                    median = summary(own.assign(run=own["pair"]))[measure].median()
                    self._note(question, side, median)
                self._found[question, setting]["compared"] = _sentence(runs, measure)
        return self._part(setting, *asked)

    def capacity(self) -> pd.DataFrame:
        """Find the rate that each can bear: requests due at fixed times, 99 % of them in time.

        Returns
        -------
        pandas.DataFrame
            The rates.
        """
        setting, limit, limited = self._setting(), self.model.latency, []
        asked = f"requests/s with {100 * SHARE:g} % within {limit:g} ms"
        with self._stopped_on_error():
            for side in self.sides:
                start = max(1.0, self._best_score(side))
                found = self._search(side, start, share=SHARE, step=1.25, seconds=5)
                self._note(asked, side, found.rate)
                if found.by_client:
                    limited.append(side.title)
            told = f"; for more the client is too slow ({', '.join(limited)})" if limited else ""
            self._found[asked, setting]["compared"] = "one run each" + told
        return self._part(setting, asked)

    def update(self) -> pd.DataFrame:
        """Load the model anew in each while clients ask, at the same rate.

        Returns
        -------
        pandas.DataFrame
            What the clients noticed.
        """
        noticed = ("failed requests", "longest wait (ms)", "took (s)")
        asked = [f"an update: {each}" for each in noticed]
        with self._stopped_on_error():
            for side in self.sides:
                side.prepare()
                clients = {"model": {**side.request, "rate": self._rate()}}
                requests = change_under_load(clients, {"update": side.update})
                met = requests[requests["step"] == "update"]
                failed = (met["error"] != "").sum()
                numbers = (failed, met["latency"].max(), requests["took"].max())
                for question, number in zip(asked, numbers, strict=True):
                    self._note(question, side, number)
        return self._part(self._setting(), *asked)

    def kill(self) -> pd.DataFrame:
        """Kill a process that holds the model in each, while clients ask at the same rate.

        Where MLServer has no worker that is the server itself, and somebody has to start it again.

        Returns
        -------
        pandas.DataFrame
            What the clients noticed.
        """
        asked = ["a kill: failed requests", "a kill: longest wait (s)", "a kill: answers after (s)"]
        patience = min(PATIENCE, 4) if pace.quick() else PATIENCE
        with self._stopped_on_error():
            for side in self.sides:
                options: dict[str, Any] = {"kills": 1, "period": 1, "patience": patience}
                killed = kill_under_load(side.target(), rate=self._rate(), **options)
                row = killed.table.loc[1]
                back = row["all are back after (s)"]
                numbers = (row["failed"], row["longest wait (s)"], back)
                for question, number in zip(asked, numbers, strict=True):
                    self._note(question, side, number)
                if math.isnan(back):
                    self._note(asked[-1], side, f"not within {patience:g}")
        if self.sides[0].process == "mlserver start":
            for question in asked:
                text = "one run each; of MLServer the server itself was killed"
                self._found[question, self._setting()]["compared"] = text
        return self._part(self._setting(), *asked)

    def stop(self) -> None:
        """Stop both servers, whatever runs of them."""
        for side in self.sides:
            side.stop()

    @property
    def tried(self) -> pd.DataFrame:
        """What the search has found."""
        table = pd.DataFrame(self._tried).rename(columns={"wait": "wait (s)"})
        return table.sort_values("server", kind="stable", ignore_index=True)

    @property
    def scorecard(self) -> pd.DataFrame:
        """Everything that was found: a row for each question and setting."""
        questions = dict.fromkeys(question for question, _ in self._found)
        parts = [
            self._part(setting, question)
            for question in questions
            for setting in (AS_IT_COMES, TUNED)
            if (question, setting) in self._found
        ]
        return pd.concat(parts, ignore_index=True)

    @contextmanager
    def _stopped_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.stop()
            raise

    def _setting(self) -> str:
        """Return what both run with."""
        return TUNED if self.sides[0].setting else AS_IT_COMES

    def _begin(self, side: Side, setting: Setting | None) -> None:
        """Start a server; note how long its first answer takes, and its memory."""
        side.stop()
        begin = time.monotonic()
        side.start(setting)
        side.ask()
        self._note("first answer (s)", side, time.monotonic() - begin)
        memory = side.running.processes()["memory (MB)"].sum()
        self._note("memory (MB)", side, memory)

    def _try(self, side: Side, setting: Setting) -> None:
        """Add a row to what was tried; a setting with which the model does not run has no score."""
        row: dict[str, Any] = {"server": side.title, "setting": TUNED, **asdict(setting)}
        try:
            if side.server is None:
                self._begin(side, setting)
            else:
                side.use(setting)
                side.ask()
            row |= self._score(side)
        except (RuntimeError, OSError) as error:  # too many processes for the memory, say
            row |= {"in time/s": 0.0, "p50 (ms)": math.nan, "error": str(error).splitlines()[0]}
            side.stop()
        self._tried.append(row)

    def _score(self, side: Side) -> dict[str, Any]:
        """Find, roughly, the highest rate that a server answers in time."""
        alone = self.model.batches["requests/s"].iloc[0]
        rows = [row for row in self._tried if row["server"] == side.title and row["in time/s"] > 0]
        start = max([row["in time/s"] for row in rows], default=min(max(1.0, alone), FIRST))
        found = self._search(side, start, share=ENOUGH, step=2, seconds=2)
        good = found.tried[found.tried["met"]].nlargest(1, "rate")
        quickest = good if len(good) else found.tried.nsmallest(1, "rate")
        rate = 0.0 if math.isnan(found.rate) else found.rate
        return {"in time/s": rate, "p50 (ms)": quickest["p50"].iloc[0]}

    def _search(
        self, side: Side, start: float, *, share: float, step: float, seconds: float
    ) -> Capacity:
        """Find the highest rate that a server answers in time, by loads of some seconds."""
        limit = self.model.latency
        seconds = max(seconds, 10 * limit / 1000)

        def at(rate: float) -> Load:
            options: dict[str, Any] = {"arrivals": "constant", "rate": rate, "warm_up": 0.5}
            return load(**side.request, seconds=seconds, **options)

        return capacity(at, latency=limit, share=share, start=start, step=step)

    def _rate(self) -> float:
        """Return half of what the weaker of the two can bear, for both; at most 50 requests/s."""
        weaker = min(self._best_score(side) for side in self.sides)
        return min(max(1.0, weaker / 2), 50.0)

    def _rows(self, side: Side, setting: str) -> list[dict[str, Any]]:
        both = (side.title, setting)
        return [row for row in self._tried if (row["server"], row["setting"]) == both]

    def _best_score(self, side: Side) -> float:
        return max(float(row["in time/s"]) for row in self._rows(side, self._setting()))

    def _note(self, question: str, side: Side, value: Any) -> None:
        setting = TUNED if side.setting else AS_IT_COMES
        self._found.setdefault((question, setting), {})[side.title] = value

    def _part(self, setting: str, *questions: str) -> pd.DataFrame:
        """Return some rows of the scorecard."""
        rows = []
        for question in questions:
            found = {"compared": "one run each", **self._found[question, setting]}
            sides = {side.title: found.get(side.title, math.nan) for side in self.sides}
            rows.append({"": question, "setting": setting, **sides, "compared": found["compared"]})
        return pd.DataFrame(rows)


def _score_of(row: dict[str, Any]) -> tuple[float, float]:
    """Tell what to sort by: more in time, and then sooner."""
    p50 = row["p50 (ms)"]
    return row["in time/s"], -p50 if p50 > 0 else -math.inf


def _sentence(runs: pd.DataFrame, measure: str) -> str:
    """Return what the pairs allow to say, and how many requests failed."""
    try:
        sentence = compare(runs, measure).sentence
    except ValueError as error:  # a pair without a number
        sentence = str(error)
    failed = (runs["error"] != "").sum()
    return f"{sentence}; {failed} of {len(runs)} failed" if failed else sentence
