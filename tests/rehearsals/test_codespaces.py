"""GitHub Codespaces, played on this machine: what devcontainer.json says, done in order.

Its commands run in a clean copy as somebody who is not root, and the first notebooks in the kernel
that it names, while we watch which ports the editor would tell the reader of. What only GitHub has
is not rehearsed: the image, the editor, a prebuild. What the commands print in the reader's first
minutes, and when, is in build/rehearsal/codespaces.txt. It takes some ten minutes and 6 GB.
"""

import contextlib
import getpass
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
import requests
from conftest import NOT_IN_THE_CLONE
from jsonschema.validators import validator_for
from wait import listens, wait_until

from tools.notebooks import ROOT, find

SCHEMAS = [
    "devcontainers/spec/main/schemas/devContainer.base.schema.json",
    "microsoft/vscode/main/extensions/configuration-editing/schemas/"
    "devContainer.codespaces.schema.json",
]
COMMANDS = [
    "onCreateCommand",
    "updateContentCommand",
    "postCreateCommand",
    "postStartCommand",
    "postAttachCommand",
]
QUIET = ["silent", "ignore"]  # all other values show or open something
# A reader's shell has none of our environment, but for where packages come from.
INHERITED = re.compile(r"PATH|LANG|(PIP|UV|SSL|REQUESTS|CURL)_.*|.*_proxy", re.IGNORECASE)

pytestmark = pytest.mark.timeout(3600)


def read() -> dict[str, Any]:
    """devcontainer.json without its comments, which have lines of their own."""
    text = (ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))
    return content


CONTENT = read()


class Codespace(NamedTuple):
    """A clean copy of the repository, and whose it is."""

    project: Path
    user: str
    printed: Path

    def start(self, command: str, **variables: str) -> subprocess.Popen[str]:
        """Start a command as the reader's shell would, in a process group of its own."""
        entry = pwd.getpwnam(self.user)
        home = {"HOME": entry.pw_dir, "USER": self.user}
        kept = {name: text for name, text in os.environ.items() if INHERITED.fullmatch(name)}
        become: dict[str, Any] = {}
        if entry.pw_uid != os.geteuid():
            become = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        return subprocess.Popen(
            ["sh", "-c", command],
            cwd=self.project,
            env={**kept, **home, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            **become,
        )

    def interpreter(self) -> str:
        """The Python that the editor offers as kernel."""
        path = str(CONTENT["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"])
        return path.replace("${containerWorkspaceFolder}", str(self.project))

    def processes(self) -> list[psutil.Process]:
        """What runs for this user."""
        running = psutil.process_iter(["username", "status"])
        mine = [process for process in running if process.info["username"] == self.user]
        return [process for process in mine if process.info["status"] != psutil.STATUS_ZOMBIE]

    def ports(self) -> set[int]:
        """The ports on which something of this user listens, as the editor finds them."""
        found = set[int]()
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                connections = process.net_connections("tcp")
                found |= {c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN}
        return found


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Somebody who is not root, and their folder: a new user if we are root, else ourselves."""
    if os.geteuid() != 0:
        yield getpass.getuser(), tmp_path_factory.mktemp("codespace")
        return
    if not shutil.which("useradd"):
        pytest.skip("Here root cannot make another user: no useradd.")
    user = f"reader{os.getpid()}"
    subprocess.run(["useradd", "--create-home", user], check=True)
    yield user, Path(pwd.getpwnam(user).pw_dir)
    theirs = [p for p in psutil.process_iter(["username"]) if p.info["username"] == user]
    for process in theirs:
        process.kill()
    psutil.wait_procs(theirs, timeout=10)
    subprocess.run(["userdel", "--remove", user], check=True, capture_output=True)


@pytest.fixture(scope="module")
def codespace(reader: tuple[str, Path]) -> Codespace:
    """The copy, after all commands, in order."""
    user, home = reader
    printed = ROOT / "build" / "rehearsal" / "codespaces.txt"
    made = Codespace(home / "project", user, printed)
    shutil.copytree(ROOT, made.project, ignore=shutil.ignore_patterns(*NOT_IN_THE_CLONE))
    for path in [made.project, *made.project.rglob("*")]:
        shutil.chown(path, user)
    printed.parent.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    with printed.open("w", encoding="utf-8") as log:
        for command in [CONTENT[name] for name in COMMANDS if name in CONTENT]:
            with made.start(command) as running:
                assert running.stdout
                for line in running.stdout:
                    log.write(f"{time.monotonic() - begin:6.1f} s  {line}")
            log.write(f"{time.monotonic() - begin:6.1f} s  ({command}: {running.returncode})\n")
            log.flush()
            if running.returncode:
                text = printed.read_text(encoding="utf-8")
                if "No Python 3.10" in text:  # in the image there is a Python 3.12
                    pytest.skip("No Python here that the reader may run; a PATH with one helps.")
                pytest.fail(text)
    return made


def complaints(content: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    return [error.message for error in validator_for(schema)(schema).iter_errors(content)]


@pytest.mark.parametrize("name", SCHEMAS, ids=["dev containers", "codespaces"])
def test_it_is_what_the_published_schema_asks_for(name: str) -> None:
    try:
        answer = requests.get(f"https://raw.githubusercontent.com/{name}", timeout=20)
        answer.raise_for_status()
    except requests.RequestException as error:
        pytest.skip(f"The published schema cannot be had: {error}")
    assert complaints(CONTENT, answer.json()) == []
    wrong = {**CONTENT, "customizations": {"codespaces": {"openFiles": 1}}, "postCreate": "make"}
    assert complaints(wrong, answer.json())


def test_the_files_that_it_opens_are_there() -> None:
    opened = CONTENT["customizations"]["codespaces"]["openFiles"]
    assert opened and all((ROOT / name).is_file() for name in opened)


def test_the_ports_with_a_name_are_those_that_the_commands_use_by_default() -> None:
    from mlserver import Settings
    from ray._private.ray_constants import DEFAULT_DASHBOARD_PORT
    from ray.serve.config import HTTPOptions

    its = Settings()
    assert {port: each["label"] for port, each in CONTENT["portsAttributes"].items()} == {
        "8888": "JupyterLab",  # see the test that starts it
        str(HTTPOptions().port): "Ray Serve",
        str(DEFAULT_DASHBOARD_PORT): "Ray dashboard",
        str(its.http_port): "MLServer REST",
        str(its.grpc_port): "MLServer gRPC",
        str(its.metrics_port): "MLServer metrics",
    }


def test_the_reader_is_told_what_takes_so_long(codespace: Codespace) -> None:
    first = codespace.printed.read_text(encoding="utf-8").splitlines()[:5]
    assert any("It takes some minutes, and happens once" in line for line in first), first


def told(ports: set[int]) -> set[int]:
    """Those of some ports of which the editor tells the reader when it finds them."""
    other = CONTENT.get("otherPortsAttributes", {})
    every = {port: CONTENT["portsAttributes"].get(str(port), other) for port in ports}
    return {port for port, its in every.items() if its.get("onAutoForward") not in QUIET}


def test_the_first_notebooks_run_in_its_kernel_and_no_port_asks_for_attention(
    codespace: Codespace,
) -> None:
    notebooks = " ".join(f"notebooks/{path.name}" for path in find(["01", "02", "03"]))
    command = f"{codespace.interpreter()} -m pytest --nbval --color=no {notebooks}"
    before, seen = codespace.ports(), set[int]()
    running = codespace.start(f"{command} > nbval.log 2>&1")
    while running.poll() is None:
        seen |= codespace.ports()
        time.sleep(0.5)
    assert running.returncode == 0, (codespace.project / "nbval.log").read_text()
    assert len(seen - before) > 10  # the kernels', both servers', Ray's own
    assert not told(seen)


def test_make_lab_is_where_its_port_says(codespace: Codespace) -> None:
    [port] = [p for p, its in CONTENT["portsAttributes"].items() if its["label"] == "JupyterLab"]
    if listens(int(port)):
        pytest.skip(f"Something listens on {port} already.")
    lab = codespace.start("make lab > lab.log 2>&1", BROWSER="true")
    try:
        wait_until(lambda: listens(int(port)) or lab.poll() is not None, 120)
        assert int(port) in codespace.ports(), (codespace.project / "lab.log").read_text()
        assert not told(codespace.ports())
    finally:
        if lab.poll() is None:
            os.killpg(lab.pid, signal.SIGTERM)
        lab.wait(60)


def test_nothing_is_left_running(codespace: Codespace) -> None:
    """The last test: whatever the others started has ended."""
    if codespace.user == getpass.getuser():
        pytest.skip("What else runs for this user is not known.")
    assert wait_until(lambda: not codespace.processes()), codespace.processes()
