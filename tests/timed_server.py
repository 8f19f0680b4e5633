"""An HTTP server whose truth is known, in a process of its own.

`timed_server(service, ["one-by-one"], ["stall"])` runs it: each request takes so many seconds, all
at the same time or one by one. With "stall" none is begun in the first second of every five.
"""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def timed_server(service: float, *how: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Give the server's address and its process."""
    command = [sys.executable, __file__, str(service), *how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}", process
        finally:
            process.kill()


begin = free = time.monotonic()
lock = threading.Lock()


def done() -> float:
    """When a request that comes now will be done: planned, so that no overhead adds up."""
    global free
    now = time.monotonic()
    if "stall" in sys.argv and (into_period := (now - begin) % 5) < 1:
        now += 1 - into_period
    if "one-by-one" in sys.argv:
        with lock:
            free = now = max(now, free) + float(sys.argv[1])
            return now
    return now + float(sys.argv[1])


def answer(connection: socket.socket) -> None:
    with connection, connection.makefile("rb") as lines:
        while lines.readline():
            while lines.readline().strip():
                pass
            time.sleep(max(0.0, done() - time.monotonic()))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as listening:
        print(listening.getsockname()[1], flush=True)
        while True:
            threading.Thread(target=answer, args=listening.accept()[:1], daemon=True).start()
