"""The field of notebook 14: what can be told without the peers' environments."""

import asyncio
import contextlib
import json
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest

from tools import peers
from tools.notebooks import ROOT
from tools.peers import (
    LIMIT,
    PEERS,
    USERS,
    Peer,
    chosen,
    executable,
    keep,
    kept,
    main,
    measure,
    row,
)

KEYS = ["workload", "name", "version", "how", "users"]
KEYS += ["requests_per_second", "p50_ms", "relative_to", "client"]
NOOP = '{"tokens":[100,101,102,103]}'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for results and environments in which there is none."""
    monkeypatch.setattr(peers, "STORED", tmp_path / "results" / "peers.json")
    monkeypatch.setattr(peers, "ENVIRONMENTS", tmp_path / "build")
    return tmp_path


def rounds(peer: Peer, rates: dict[str, list[float]], answer: str = NOOP) -> pd.DataFrame:
    """Requests as `alternate` returns them, at these rates in each pair."""
    rows = [
        {"target": name, "pair": pair, "start": second / rate, "latency": 1000 / rate}
        for name, of_pairs in rates.items()
        for pair, rate in enumerate(of_pairs, start=1)
        for second in range(20)
    ]
    table = pd.DataFrame(rows).assign(run=1, late=0.0, status=200, error="", answer=answer)
    table.attrs["client"] = dict.fromkeys({(r["target"], r["pair"]) for r in rows}, 0.2)
    return table


# --- what is measured ---


@pytest.mark.parametrize("file", sorted(ROOT.glob("peers/*.txt")), ids=lambda file: file.stem)
def test_every_version_is_pinned_with_its_reason(file: Path) -> None:
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    assert lines and not [line for line in lines if not re.fullmatch(r"\S+==\S+ +# .+", line)]
    main_ones = (ROOT / "requirements.txt").read_text().splitlines()
    for package in ["torch", "transformers"]:  # else it might be another model
        (pin,) = [line.split()[0] for line in lines if line.startswith(package + "==")]
        assert pin in [line.split()[0] for line in main_ones if line]


def test_every_peer_has_its_environment_and_its_program() -> None:
    assert {peer.folder for peer in PEERS} == {file.stem for file in ROOT.glob("peers/*.txt")}
    for peer in [LIMIT, *PEERS]:
        (program,) = re.findall(r"(\w+_server)", peer.command)
        assert (ROOT / "peers" / f"{program}.py").is_file()
        assert peer.ready.startswith("/") and peer.how
        pins = (ROOT / "peers" / f"{peer.folder}.txt").read_text() if peer is not LIMIT else ""
        assert all(re.search(rf"^{p}(\[\w+\])?==", pins, re.M) for p in peer.packages if pins)


def test_the_model_is_that_of_the_notebook() -> None:
    notebook = nbformat.read(ROOT / "notebooks" / "14_performance.ipynb", as_version=4)
    (theirs,) = [c.source for c in notebook.cells if c.source.startswith("%%writefile work.py")]
    ours = (ROOT / "peers" / "fixed_work.py").read_text()
    for part in ["manual_seed", "set_num_threads", "config =", "Generation(config", ".generate("]:
        (line,) = [each.strip() for each in theirs.splitlines() if part in each]
        assert line in ours, "measure them again: `make peers`"


def test_peers_are_chosen_by_the_beginning_of_their_names() -> None:
    assert chosen([]) == PEERS
    assert [peer.name for peer in chosen(["lit", "fastapi, g"])] == ["FastAPI, granian", "LitServe"]
    with pytest.raises(ValueError, match="No peer's name begins with 'torch'.*BentoML"):
        chosen(["torch"])


def test_a_missing_environment_says_what_makes_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = "LitServe has no environment yet.*`make peers` makes it"
    (litserve,) = chosen(["litserve"])
    with pytest.raises(FileNotFoundError, match=sentence):
        executable(litserve, "python")
    with pytest.raises(FileNotFoundError, match=sentence):
        measure(litserve, "no-op")
    with pytest.raises(SystemExit) as left:
        main(["LitServe"])
    assert left.value.code == 1
    assert re.match(sentence, capsys.readouterr().err)


# --- what is kept ---


def test_a_row_holds_a_number_for_each_pair() -> None:
    (peer,) = chosen(["litserve"])
    requests = rounds(peer, {LIMIT.name: [100, 80], peer.name: [50, 40]})
    found = row(peer, "no-op", "litserve 1.2", requests)
    assert list(found) == KEYS
    assert found["version"] == "litserve 1.2" and found["users"] == USERS["no-op"]
    assert found["requests_per_second"] == [50, 40] and found["relative_to"] == [100, 80]
    assert found["p50_ms"] == [20, 25] and found["client"] == [0.2, 0.2]


@pytest.mark.parametrize("workload", USERS)
def test_a_wrong_answer_or_an_error_is_no_result(workload: str) -> None:
    (peer,) = chosen(["kserve"])
    requests = rounds(peer, {LIMIT.name: [100], peer.name: [50]})
    if workload == "t5":
        requests["answer"] = "[0,1,2]"
    wrong, failed = requests.copy(), requests.copy()
    wrong.loc[30, "answer"] = "[0,1,3]"
    failed.loc[30, "error"] = "HTTP 503"
    row(peer, workload, "", requests)
    with pytest.raises(RuntimeError, match=r"KServe.*1 of 40 requests.*\[0,1,3\]"):
        row(peer, workload, "", wrong)
    with pytest.raises(RuntimeError, match="KServe.*1 of 40 requests.*HTTP 503"):
        row(peer, workload, "", failed)


def example(workload: str, name: str, rate: float) -> dict[str, Any]:
    return {"workload": workload, "name": name, "requests_per_second": [rate]}


def rates(file: Path) -> list[tuple[Any, ...]]:
    return [(r["workload"], r["name"], *r["requests_per_second"]) for r in kept(file)]


def test_a_new_row_replaces_the_older_one_of_the_same_peer(folder: Path) -> None:
    keep([example("t5", "LitServe", 1), example("no-op", "KServe", 2)], peers.STORED)
    keep([example("no-op", "LitServe", 3), example("no-op", "KServe", 4)], peers.STORED)
    assert rates(peers.STORED) == [
        ("no-op", "LitServe", 3),
        ("no-op", "KServe", 4),
        ("t5", "LitServe", 1),
    ]


@pytest.fixture
def measured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Run `main` with a measurement that is over at once; returns what it measured."""
    monkeypatch.setattr(peers, "ROOT", folder)
    monkeypatch.setattr(peers, "executable", lambda *_: "")
    seen: list[str] = []

    def run(*arguments: str, fails_at: str = "") -> list[str]:
        def measure(peer: Peer, workload: str) -> dict[str, Any]:
            if peer.name == fails_at:
                raise KeyboardInterrupt
            seen.append(peer.name)
            found = example(workload, peer.name, len(seen))
            return {**found, "version": "1", "relative_to": [10.0]}

        seen.clear()
        monkeypatch.setattr(peers, "measure", measure)
        with contextlib.suppress(KeyboardInterrupt):
            main(["--workload", "t5", *arguments])
        return seen

    return run


def test_an_interrupted_run_goes_on_where_it_was(measured: Callable[..., list[str]]) -> None:
    names = [peer.name for peer in PEERS]
    assert measured(fails_at="LitServe") == names[:2]
    assert not peers.STORED.exists()
    assert measured() == names[2:]
    assert [name for _, name, _ in rates(peers.STORED)] == names
    assert measured("litserve") == ["LitServe"]  # over, so the next run begins anew
    assert rates(peers.STORED)[2] == ("t5", "LitServe", 1) and len(rates(peers.STORED)) == 5


def test_a_quick_run_does_not_replace_what_is_stored(
    measured: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep([example("t5", "LitServe", 100)], peers.STORED)
    monkeypatch.setenv("TUTORIAL_PACE", "quick")
    assert measured("litserve") == ["LitServe"]
    assert rates(peers.STORED) == [("t5", "LitServe", 100)]


def test_what_is_stored_has_every_peer_and_as_many_numbers() -> None:
    if not peers.STORED.exists():
        pytest.skip("not measured yet")
    stored = json.loads(peers.STORED.read_text(encoding="utf-8"))
    names = [(each["workload"], each["name"]) for each in stored]
    assert names == [(workload, peer.name) for workload in USERS for peer in PEERS]
    for each in stored:
        assert list(each) == KEYS
        assert {len(each[key]) for key in KEYS[-4:]} == {5}


# --- batches for servers that have none ---


def batched(size: int, items: list[int], wait: float = 0.05) -> tuple[list[Any], list[list[int]]]:
    """Ask for all items at the same time; what came out, and the batches that were made."""
    batches_class = runpy.run_path(str(ROOT / "peers" / "batches.py"))["Batches"]
    seen: list[list[int]] = []

    def double(batch: list[int]) -> list[int]:
        seen.append(batch)
        if 13 in batch:
            raise ValueError("an unlucky one")
        return [2 * item for item in batch]

    async def ask() -> list[Any]:
        double_one = batches_class(double, size=size, wait=wait)
        return await asyncio.gather(*map(double_one, items), return_exceptions=True)

    return asyncio.run(ask()), seen


def test_what_is_asked_at_the_same_time_shares_a_batch() -> None:
    answers, batches = batched(4, list(range(10)))
    assert answers == [2 * item for item in range(10)]
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_an_error_reaches_those_of_its_batch_and_no_others() -> None:
    answers, batches = batched(2, [1, 13, 3, 4])
    assert [str(a) for a in answers] == ["an unlucky one", "an unlucky one", "6", "8"]
    assert batches == [[1, 13], [3, 4]]
