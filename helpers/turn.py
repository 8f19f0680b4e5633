"""Whose turn it is: while one server is measured, the others stand still.

A server that nobody asks is not at rest. The processes of Ray Serve look after each other all the
time, which takes a part of a core, and can take more than that from a model whose threads wait for
one another on every core. Whatever is measured beside it would pay for it (notebook 07 tries it).
"""

import contextlib
import os
import re
import signal
from collections.abc import Iterator

from helpers.ports import HOST
from helpers.server import Server
from helpers.workspace import running

_ADDRESS = re.compile(rf"\b{re.escape(HOST)}:(\d+)")


@contextlib.contextmanager
def only(*servers: Server) -> Iterator[None]:
    """Let all other servers of this kernel stand still (SIGSTOP) until the block ends.

    They keep their memory, their ports and their connections, and go on afterwards (SIGCONT). Ray
    Serve 2.55.1 then has half a second of work to catch up with, which a warm-up covers. Keep the
    block short: after a minute it goes on as before, after a hundred seconds the first request to
    its HAProxy was seen to fail.

    Parameters
    ----------
    *servers : Server
        Those that go on.

    Examples
    --------
    >>> with only(mlserver):                                                # doctest: +SKIP
    ...     requests = load(mlserver.url, json=body, seconds=5).result()
    """
    groups = [each.pid for each in _running() if each not in servers]
    try:
        _send(signal.SIGSTOP, groups)
        yield
    finally:
        _send(signal.SIGCONT, groups)


def asked(target: object) -> list[Server] | None:
    """Find the servers whose addresses a target holds: a URL, a request, a dict of requests.

    Parameters
    ----------
    target : object
        Anything whose ``repr`` shows its addresses.

    Returns
    -------
    list of Server or None
        Empty if there is no address in it. None if there is one that is no running server's: it may
        be a further port of any of them.
    """
    ports = {int(port) for port in _ADDRESS.findall(repr(target))}
    found = [each for each in _running() if ports.intersection(each.ports.values())]
    known = {port for each in found for port in each.ports.values()}
    return found if ports <= known else None


def _running() -> list[Server]:
    return [each for each in running.values() if isinstance(each, Server)]


def _send(number: int, groups: list[int | None]) -> None:
    for group in groups:
        if group is not None:  # its main process leads a group, in which all the others are
            with contextlib.suppress(OSError):  # it has just gone
                os.killpg(group, number)
