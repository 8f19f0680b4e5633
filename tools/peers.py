"""Measure other model servers beside the limit of this machine, for notebook 14.

    python -m tools.peers                # all of them
    python -m tools.peers LitServe       # some again; the numbers of the others stay

`make peers` first makes an environment for each, build/peers/NAME, from peers/NAME.txt. What they
run is in peers/. The numbers of a run are collected in build/peers/, so that one that was
interrupted goes on where it was; those of a whole run in full pace then go to
notebooks/results/peers/.

A peer and the limit are measured in turn. For the no-op the limit is uvicorn and Starlette alone,
for t5 the bare model in batches of 16, both in the main environment. So a peer's share of the limit
may be set beside that of MLServer and Ray Serve, although these were measured at another time.
"""

import argparse
import io
import json
import os
import shlex
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from helpers import Server, alternate, command_run, load, pace, summary
from helpers.environment import environment
from helpers.interpreter import server_python
from helpers.load import Load
from tools.notebooks import ROOT, write

PROGRAMS = ROOT / "peers"
ENVIRONMENTS = ROOT / "build" / "peers"
STORED = ROOT / "notebooks" / "results" / "peers" / "14_performance.json"

TOKENS = [100, 101, 102, 103]
BATCH = 16
USERS = {"no-op": 8, "t5": BATCH}
PATHS = {"no-op": "noop", "t5": "t5"}
SECONDS = {"no-op": 5, "t5": 10}
WARM_UP = {"no-op": 1, "t5": 3}
VARIABLES = {
    "PYTHONPATH": str(PROGRAMS),
    "BENTOML_DO_NOT_TRACK": "True",
}


@dataclass(frozen=True)
class Peer:
    """A server that others make.

    Attributes
    ----------
    name : str
        What to call it.
    folder : str
        Its environment in `ENVIRONMENTS`, made from the file of that name in peers/.
    packages : tuple of str
        Whose versions tell what was measured.
    command : str
        Starts it, as for `command_run`, by a program of its environment; ``{programs}`` stands for
        `PROGRAMS`, ``{service}`` for ``Noop`` or ``T5``.
    ready : str
        A path that answers with status 200 once the model is loaded.
    how : str
        What was chosen where there was a choice.
    batches : str
        Whose batches it makes.
    path : str
        Where to send a request; ``{}`` stands for the model's name.
    form : callable
        Makes the body out of the tokens.
    """

    name: str
    folder: str
    packages: tuple[str, ...]
    command: str
    ready: str
    how: str
    batches: str
    path: str = "/{}"
    form: Callable[[list[int]], Any] = lambda tokens: {"tokens": tokens}


OURS, ITS_OWN = "batches by peers/batches.py, which wait 2 s", "its own batches"
LIMIT = Peer(
    "the limit",
    "",
    ("uvicorn", "starlette"),
    "python -m uvicorn bare_server:app --host 127.0.0.1 --port {http} --no-access-log",
    "/ready",
    "nothing else",
    "the bare model's",
)
PEERS = [
    Peer(
        "FastAPI, uvicorn",
        "fastapi",
        ("fastapi", "uvicorn"),
        "uvicorn fastapi_server:app --host 127.0.0.1 --port {http} --no-access-log",
        "/openapi.json",
        "one worker, uvloop, httptools",
        OURS,
    ),
    Peer(
        "FastAPI, granian",
        "fastapi",
        ("fastapi", "granian"),
        "granian --interface asgi --host 127.0.0.1 --port {http} fastapi_server:app",
        "/openapi.json",
        "one worker, uvloop",
        OURS,
    ),
    Peer(
        "LitServe",
        "litserve",
        ("litserve",),
        "python {programs}/litserve_server.py",
        "/health",
        "one worker, one API server",
        ITS_OWN,
    ),
    Peer(
        "BentoML",
        "bentoml",
        ("bentoml",),
        "bentoml serve bentoml_server:{service} --host 127.0.0.1 --port {http}",
        "/readyz",
        "one worker, metrics off",
        ITS_OWN,
        form=lambda tokens: {"tokens": [tokens]},
    ),
    Peer(
        "KServe",
        "kserve",
        ("kserve",),
        "python {programs}/kserve_server.py",
        "/v2/health/ready",
        "one worker, no gRPC, no latency log",
        OURS,
        "/v2/models/{}/infer",
        lambda tokens: {
            "inputs": [
                {"name": "tokens", "shape": [1, len(tokens)], "datatype": "INT64", "data": tokens}
            ]
        },
    ),
]


def start(peer: Peer, workload: str) -> Server:
    """Start a peer with the program for a workload.

    Raises
    ------
    FileNotFoundError
        If its environment is not there.
    """
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    program, *arguments = shlex.split(peer.command)
    command = [program if peer is LIMIT else executable(peer, program), *arguments]
    service = {"no-op": "Noop", "t5": "T5"}[workload]
    filled = [part.replace("{programs}", str(PROGRAMS)) for part in command]
    filled = [part.replace("{service}", service) for part in filled]
    return command_run(
        shlex.join(filled),
        ready=peer.ready,
        cwd=ENVIRONMENTS,
        log=f"{peer.folder or 'limit'}-{PATHS[workload]}.log",
        env={**VARIABLES, "WORKLOAD": workload},
    )


def executable(peer: Peer, program: str) -> str:
    """Return the path of a program of a peer's environment.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    """
    path = ENVIRONMENTS / peer.folder / "bin" / program
    if not path.exists():
        raise FileNotFoundError(
            f"{peer.name} has no environment yet: there is no {path.relative_to(ENVIRONMENTS)} in "
            "build/peers. `make peers` makes it, and then measures."
        )
    return str(path)


def version(peer: Peer) -> str:
    """Name the packages of a peer with the versions that are installed."""
    script = "import sys; from importlib.metadata import version\n"
    script += "print(', '.join(f'{name} {version(name)}' for name in sys.argv[1:]))"
    command = [executable(peer, "python"), "-c", script, *peer.packages]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def bare_model() -> pd.DataFrame:
    """Let the model answer without a server; returns what `Load.result` would."""
    script, seconds = str(PROGRAMS / "bare_model.py"), str(pace.seconds(SECONDS["t5"]))
    done = subprocess.run(
        [server_python(), script, str(BATCH), seconds],
        env={**os.environ, **environment(), **VARIABLES},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return pd.read_csv(io.StringIO(done.stdout), keep_default_na=False)


@contextmanager
def asleep(server: Server) -> Iterator[None]:
    """Suspend a server: some look for work all the time, which the bare model would miss."""
    processes = [psutil.Process(pid) for pid in server.processes()["PID"]]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def measure(peer: Peer, workload: str, pairs: int = 5) -> dict[str, Any]:
    """Measure a peer and the limit in turn.

    Returns
    -------
    dict
        What `row` makes of it.
    """

    def run(target: Peer) -> Load | pd.DataFrame:
        if target is LIMIT and workload == "t5":
            with asleep(servers[peer.name]):
                return bare_model()
        return load(
            servers[target.name].url + target.path.format(PATHS[workload]),
            json=target.form(TOKENS),
            users=USERS[workload],
            seconds=SECONDS[workload],
            warm_up=WARM_UP[workload],
        )

    with ExitStack() as stack:
        servers = {peer.name: stack.enter_context(start(peer, workload))}
        if workload == "no-op":
            servers[LIMIT.name] = stack.enter_context(start(LIMIT, workload))
        rounds = alternate({LIMIT.name: LIMIT, peer.name: peer}, run, pairs)
    return row(peer, workload, version(peer), rounds)


def row(peer: Peer, workload: str, versions: str, rounds: pd.DataFrame) -> dict[str, Any]:
    """Make of all requests what is kept of them.

    Returns
    -------
    dict
        ``workload``, ``name``, ``version``, ``how``, ``users``; and by pair
        ``requests_per_second``, ``p50_ms``, ``relative_to`` (requests/s of the limit) and
        ``client`` (the share of a core that the client used while the peer was measured).

    Raises
    ------
    RuntimeError
        If a request failed, or was answered otherwise than the limit does.
    """
    tokens = str(TOKENS).replace(" ", "")
    if workload == "t5":
        tokens = rounds.loc[rounds["target"] == LIMIT.name, "answer"].iloc[0]
    answers = rounds["answer"].str.replace(" ", "")
    wrong = (rounds["error"] != "") | ~answers.str.contains(tokens, regex=False)
    if wrong.any():
        first = " ".join(rounds.loc[wrong, ["error", "answer"]].iloc[0])
        raise RuntimeError(
            f"{peer.name}, {workload}: {wrong.sum()} of {len(rounds)} requests failed or were "
            f"answered otherwise than {tokens}, the first of them: {first}"
        )
    of_limit, of_peer = (
        summary(rounds[rounds["target"] == name].assign(run=rounds["pair"]))
        for name in (LIMIT.name, peer.name)
    )
    client = rounds.attrs.get("client", {})
    return {
        "workload": workload,
        "name": peer.name,
        "version": versions,
        "how": peer.how + (f"; {peer.batches}" if workload == "t5" else ""),
        "users": USERS[workload],
        "requests_per_second": of_peer["requests/s"].tolist(),
        "p50_ms": of_peer["p50"].tolist(),
        "relative_to": of_limit["requests/s"].tolist(),
        "client": [round(client[peer.name, pair], 2) for pair in of_peer.index],
    }


def collected() -> Path:
    """Return the file in which the numbers of a run are until it is over."""
    return ENVIRONMENTS / f"{'quick' if pace.quick() else 'full'}.json"


def keep(new: Sequence[dict[str, Any]], file: Path) -> None:
    """Add rows to a file, in place of older ones of the same peer and workload."""
    keys = {(each["workload"], each["name"]) for each in new}
    rows = [*(each for each in kept(file) if (each["workload"], each["name"]) not in keys), *new]
    order = [(workload, peer.name) for workload in USERS for peer in PEERS]
    rows.sort(key=lambda each: order.index((each["workload"], each["name"])))
    file.parent.mkdir(parents=True, exist_ok=True)
    # a quick run may be over before a rate can be told
    write(file, json.dumps(rows, indent=1, allow_nan=pace.quick()) + "\n")


def kept(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a file; none if it is not there."""
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else []


def chosen(names: Iterable[str]) -> list[Peer]:
    """Find peers by the beginning of their names; all if there are none.

    Raises
    ------
    ValueError
        If a name fits none.
    """
    names = [name.lower() for name in names]
    for name in names:
        if not any(peer.name.lower().startswith(name) for peer in PEERS):
            known = ", ".join(peer.name for peer in PEERS)
            raise ValueError(f"No peer's name begins with {name!r}. There are: {known}.")
    return [peer for peer in PEERS if peer.name.lower().startswith(tuple(names or [""]))]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and say after each what came out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="how the names of peers begin; all if none")
    parser.add_argument("--workload", choices=list(USERS), help="one of the two only")
    parsed = parser.parse_args(arguments)
    try:
        peers = chosen(parsed.names)
        for peer in peers:
            executable(peer, "python")
    except (FileNotFoundError, ValueError) as error:
        parser.exit(1, f"{error}\n")
    done = {(each["workload"], each["name"]) for each in kept(collected())}
    for workload in [parsed.workload] if parsed.workload else USERS:
        for peer in peers:
            if (workload, peer.name) in done:
                print(f"{workload}: {peer.name} was measured before this run was interrupted")
                continue
            new = measure(peer, workload)
            keep([new], collected())
            shares = [
                rate / limit
                for rate, limit in zip(new["requests_per_second"], new["relative_to"], strict=True)
            ]
            print(
                f"{workload}: {peer.name} ({new['version']}): {new['requests_per_second']} "
                f"requests/s, {min(shares):.2f} to {max(shares):.2f} of the limit",
                flush=True,
            )
    if not pace.quick():
        keep(kept(collected()), STORED)
        print(f"Stored in {STORED.relative_to(ROOT)}.")
    collected().unlink()


if __name__ == "__main__":
    main()
