"""What a test waits for: a port, a process, those of a server."""

import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from helpers import left_over


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def runs(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and nobody collects does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def processes_in(folder: Path) -> list[psutil.Process]:
    """Find what runs of the servers that were started in a folder."""
    found = []
    for process in left_over():
        with contextlib.suppress(psutil.NoSuchProcess):  # it may end while we look
            if process.cwd() == str(folder):
                found.append(process)
    return found


def wait_until(condition: Callable[[], bool], seconds: float = 40) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return condition()
