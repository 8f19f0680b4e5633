"""Send requests with locust and print one CSV row for each. Run by the servers' interpreter.

    python _load.py SPECIFICATION

The specification is the JSON that `helpers.load` writes. Ends early, with the rows it has, when
standard input does: no load outlives the notebook that asked for it.
"""

import csv
import itertools
import json
import os
import runpy
import sys
import time
from typing import Any

import gevent.socket
from locust import FastHttpUser, User, task
from locust.env import Environment

spec = json.loads(sys.argv[1])
users, rate, timeout = spec["users"], spec["rate"], spec["timeout"]
started = itertools.count()


class Client(FastHttpUser):
    """Sends the same request over and over, on a connection that it keeps."""

    network_timeout = connection_timeout = timeout

    def on_start(self) -> None:
        """Spread the users over time, else a steady load would come in bursts."""
        self.due = time.monotonic()
        if rate:
            self.due += next(started) / rate
            gevent.sleep(self.due - time.monotonic())

    def wait_time(self) -> float:
        """Return the seconds until the next request is due; what was missed is not made up for."""
        now = time.monotonic()
        self.due = max(now, self.due + users / rate) if rate else now
        return self.due - now

    @task
    def send(self) -> None:
        """Send the request; what came of it goes to `write`."""
        with self.client.request(
            spec["method"],
            spec["url"],
            data=spec["body"],
            headers=spec["headers"],
            catch_response=True,
        ) as answer:
            if answer.status_code == 200 and (spec["expect"] or "") not in (answer.text or ""):
                answer.failure("wrong answer")


def kind(error: object, status: int) -> str:
    """Name a failure in the reader's words."""
    error = getattr(error, "original", None) or error  # what geventhttpclient has wrapped
    if status >= 400:
        return f"HTTP {status}"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ConnectionError) or "ConnectionClosed" in type(error).__name__:
        return "connection closed"
    return str(error) or type(error).__name__


rows = csv.writer(sys.stdout)
rows.writerow(["run", "start", "latency", "status", "error", "answer", "cpu"])
run = 0  # 0 is the warm-up, which nobody asks about


def write(
    response_time: float,
    start_time: float | None = None,
    exception: object = None,
    response: Any = None,
    **_: object,
) -> None:
    """Print a row; `Load.result` says what its columns are."""
    if run:
        status = getattr(response, "status_code", 0) or 0
        error = kind(exception, status) if exception else ""
        # a locustfile's own request may not say when it began
        start = start_time or time.time() - response_time / 1000
        text = getattr(response, "text", response)
        text = "" if text is None else str(text)[:1000]
        rows.writerow([run, start, response_time, status, error, text, time.process_time()])


def finish() -> None:
    """End with the rows that there are, at once; locust would take its time."""
    sys.stdout.flush()
    os._exit(0)


def finish_with_the_kernel() -> None:
    """Wait until standard input ends."""
    gevent.socket.wait_read(sys.stdin.fileno())
    finish()


gevent.spawn(finish_with_the_kernel)
classes: list[type[User]] = [Client]
if spec["locustfile"]:
    sys.path.insert(0, os.getcwd())
    names = runpy.run_path(spec["locustfile"]).values()
    found = [c for c in names if isinstance(c, type) and issubclass(c, User) and not c.abstract]
    classes = [c for c in found if c.__module__ == "<run_path>"]
    if len(classes) != 1:
        sys.exit(f"{spec['locustfile']} must define one class of locust users, not {len(classes)}.")

# A run that ends lets the requests under way come back: they are not lost.
host = spec["url"] or None
environment = Environment(user_classes=classes, host=host, stop_timeout=timeout + 1)
environment.events.request.add_listener(write)
runner = environment.create_local_runner()
for run in range(0 if spec["warm_up"] else 1, spec["repeat"] + 1):
    if run == 1:
        sys.stdout.flush()  # says that it has begun
    started = itertools.count()
    runner.start(users, spawn_rate=users)
    gevent.sleep(spec["seconds"] if run else spec["warm_up"])
    runner.stop()
finish()
