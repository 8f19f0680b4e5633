"""Who else could reach the servers of a notebook: nobody, but for a short list with reasons.

The sockets are those that were listened on while each notebook ran behind the gate of
test_leaks.py; the two share the run.
"""

import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest
from gate import Listener, each_notebook, linux_only, rehearse, watch
from wait import wait_until

from tools.notebooks import find

pytestmark = [linux_only, pytest.mark.timeout(1800)]


@dataclass(frozen=True)
class Open:
    """What may listen beyond this machine: in notebooks whose name begins so, and why."""

    notebook: str
    process: str  # a regular expression
    why: str


OPEN = [
    Open(
        "",
        r"^ray::(ServeReplica|SERVE_REPLICA):|default_worker\.py",  # before it has its name
        "The gRPC by which deployments call each other, and that of Serve with HAProxy: Ray 2.55 "
        "has [::] in its code, and no setting for it. Nor does its token guard it.",
    ),
    Open(
        "09",
        r"^ray::ProxyActor",
        "Serve's gRPC: the same [::], whatever the host for HTTP is. The notebook shows it.",
    ),
    Open(
        "13",
        r"^ray::|^ray-dashboard|/ray/|ray\.util",
        "A cluster of two nodes, which call each other at the machine's address: everything of "
        "Ray's listens for it. Whoever does not have the token is turned away.",
    ),
]


def is_open(listener: Listener) -> bool:
    """Tell whether others than this machine could connect."""
    address = ip_address(listener.ip)
    return not (getattr(address, "ipv4_mapped", None) or address).is_loopback


def allowed(listener: Listener, notebook: str) -> list[Open]:
    """The entries of the list that allow an open socket in a notebook."""
    return [
        each
        for each in OPEN
        if notebook.startswith(each.notebook) and re.search(each.process, listener.process)
    ]


def not_on_the_list(listeners: Iterable[Listener], notebook: str) -> list[Listener]:
    """The listeners that others could reach, and for no reason that we know."""
    return [each for each in listeners if is_open(each) and not allowed(each, notebook)]


@each_notebook
def test_nothing_of_a_notebook_can_be_reached_from_elsewhere(path: Path) -> None:
    listeners = rehearse(path).listeners
    assert listeners, "not even the kernel was seen"
    assert not not_on_the_list(listeners, path.stem)


def test_nothing_is_on_the_list_that_no_notebook_opens() -> None:
    used = {
        each
        for path in find()
        for listener in rehearse(path).listeners
        if is_open(listener)
        for each in allowed(listener, path.stem)
    }
    assert used == set(OPEN)


def test_a_server_is_seen_and_an_open_one_is_named() -> None:
    code = "import socket; s = socket.create_server(('127.0.0.1', 0)); input()"
    command = [sys.executable, "-c", code]
    with watch(0.1) as listeners, subprocess.Popen(command, stdin=subprocess.PIPE) as server:
        assert wait_until(lambda: bool(listeners))
        server.communicate(b"\n")
    [seen] = listeners
    assert seen.ip == "127.0.0.1" and "create_server" in seen.process
    safe = [seen, Listener("a", "::1", 1), Listener("b", "::ffff:127.0.0.1", 1)]
    open_to_all = [Listener(f"at {ip}", ip, 1) for ip in ("0.0.0.0", "::", "192.0.2.1")]
    replica = Listener("ray::ServeReplica:app:Model", "::", 1)
    proxy = Listener("ray::ProxyActor", "::", 1)
    assert not_on_the_list([*safe, *open_to_all, replica], "02_ray_serve") == open_to_all
    assert not_on_the_list([proxy], "09_protocols_and_streaming") == []
    assert not_on_the_list([proxy], "02_ray_serve") == [proxy]
