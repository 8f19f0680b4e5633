"""Servers that stand still while another has its turn, with small fake ones."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest
import requests
from fake_load import rows
from wait import listens, processes_in, wait_until

from helpers import Server, alternate, only, python_run
from helpers.turn import asked

FAKE = Path(__file__).with_name("fake_server.py")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty current folder with two programs in it."""
    for name in ("first.py", "second.py"):
        shutil.copy(FAKE, tmp_path / name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def two() -> Iterator[tuple[Server, Server]]:
    """Two servers, each with a child."""
    first = python_run("first.py", "leaves-child", ready="/")
    with first, python_run("second.py", "leaves-child", ready="/") as second:
        yield first, second


def still(server: Server) -> bool:
    """Tell whether all processes of a server stand still, or else none."""
    pids = server.processes()["PID"]
    [one] = {psutil.Process(pid).status() == psutil.STATUS_STOPPED for pid in pids}
    return one


def test_the_others_stand_still_and_go_on_afterwards(two: tuple[Server, Server]) -> None:
    first, second = two
    with only(first):
        assert [still(each) for each in two] == [False, True]
        assert requests.get(first.url, timeout=20).ok
        with pytest.raises(requests.Timeout):
            requests.get(second.url, timeout=0.5)
    assert requests.get(second.url, timeout=20).ok


def test_whatever_ends_the_block_they_go_on(two: tuple[Server, Server]) -> None:
    with pytest.raises(KeyboardInterrupt), only():
        assert all(still(each) for each in two)
        raise KeyboardInterrupt
    assert not any(still(each) for each in two)


def test_one_that_ends_meanwhile_is_no_trouble(two: tuple[Server, Server]) -> None:
    first, second = two
    with only(first):
        second.stop()
    assert second.state == "stopped" and requests.get(first.url, timeout=20).ok


def test_a_killed_kernel_leaves_nothing_that_stands_still(tmp_path: Path) -> None:
    begin = "from helpers import only, python_run; import time\n"
    start = "s = python_run('first.py', 'leaves-child', ready='/')\n"
    hold = "with only(): print(s.ports['http'], flush=True); time.sleep(1000)"
    command = [sys.executable, "-c", begin + start + hold]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as kernel:
        assert kernel.stdout
        port = int(kernel.stdout.readline())
        kernel.kill()
    assert wait_until(lambda: not listens(port), 20)  # and not after the grace
    assert wait_until(lambda: not processes_in(tmp_path))


def test_addresses_tell_who_is_asked(two: tuple[Server, Server]) -> None:
    first, second = two
    address = f"way 127.0.0.1:{second.ports['grpc']} 16"
    assert asked({("calls", 1): {"url": first.url + "/v2", "json": [1]}}) == [first]
    assert asked([first.url, address]) == [first, second]
    assert asked(first) == [first]
    assert asked("no address") == []
    assert asked([first.url, "http://127.0.0.1:9/"]) is None


@pytest.mark.parametrize(
    "asks, stand_still",
    [
        (["{first}", "{second}"], [[False, True], [True, False]]),
        (["{first}", "the model alone"], [[False, True], [True, True]]),
        (["{first}/a", "{first}/b"], [[False, True], [False, True]]),
        (["a", "b"], [[False, False], [False, False]]),
        (["{first}", "127.0.0.1:9"], [[False, False], [False, False]]),
    ],
)
def test_turns(two: tuple[Server, Server], asks: list[str], stand_still: list[list[bool]]) -> None:
    first, second = two
    targets = [each.format(first=first.url, second=second.url) for each in asks]
    seen = {}

    def run(target: str) -> pd.DataFrame:
        seen[target] = [still(each) for each in two]
        return rows(1)

    alternate(dict(zip("AB", targets, strict=True)), run, pairs=1)
    assert [seen[target] for target in targets] == stand_still
    assert not any(still(each) for each in two)
