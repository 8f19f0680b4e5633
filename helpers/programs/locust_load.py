"""Send requests with locust and print one CSV row for each. Run by the servers' interpreter.

    python locust_load.py SPECIFICATION

The specification is the JSON that `helpers.load` writes. In a closed loop locust's runner has its
users ask one request after the other. In the open loop no user waits for another: requests are due
at times fixed beforehand, and each is sent when due, by a user that is idle or else by a new one.

Whatever comes on standard input ends the load when all that is under way has come back. The end of
standard input ends it at once, with the rows it has: no load outlives the notebook that asked for
it.
"""

import csv
import functools
import importlib.metadata
import itertools
import json
import os
import random
import resource
import runpy
import sys
import time
import traceback
from collections import deque
from collections.abc import Iterator
from typing import Any

import gevent.event
import gevent.monkey
import gevent.socket
from gevent.threadpool import ThreadPool

# While locust is imported, gevent looks for plugins 25 times, each time in every package that is
# installed. Once for each kind of plugin is enough, and a load begins so much sooner.
importlib.metadata.entry_points = functools.cache(  # type: ignore[assignment]
    importlib.metadata.entry_points
)
from locust import FastHttpUser, User, constant, task  # noqa: E402
from locust.env import Environment  # noqa: E402

IN_FLIGHT = 5000  # requests that may be under way at a time in the open loop: a safety

spec = json.loads(sys.argv[1])
timeout = spec["timeout"]


class Client(FastHttpUser):
    """Sends the same request over and over, on a connection that it keeps."""

    network_timeout = connection_timeout = timeout
    wait_time = constant(0)

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
rows.writerow(["run", "start", "late", "latency", "status", "error", "answer", "cpu"])
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
        sent = start_time or time.time() - response_time / 1000
        due = getattr(gevent.getcurrent(), "due", sent)
        late = (sent - due) * 1000
        text = getattr(response, "text", response)
        text = "" if text is None else str(text)[:1000]
        cpu = time.process_time()
        rows.writerow([run, due, late, late + response_time, status, error, text, cpu])


def closed(seconds: float) -> None:
    """Let the users ask one request after the other for some seconds."""
    runner = environment.runner or environment.create_local_runner()
    runner.start(spec["users"], spawn_rate=spec["users"])
    enough.wait(seconds)
    runner.stop()


def due_times(seconds: float) -> Iterator[float]:
    """Yield the seconds after the beginning at which requests are due."""
    chance = random.Random(spec["seed"] + run)
    due: Iterator[float] = (number / spec["rate"] for number in itertools.count())
    if spec["arrivals"] == "poisson":
        due = itertools.accumulate(chance.expovariate(spec["rate"]) for _ in itertools.count())
    return itertools.takewhile(lambda moment: moment < seconds, due)


idle: list[User] = []  # they keep their connections for the next request


def open_loop(seconds: float) -> None:
    """Send each request when it is due, and wait until all have come back."""
    sleep = gevent.monkey.get_original("time", "sleep")
    begin, begin_wall = time.perf_counter(), time.time()
    due: deque[float] = deque()
    under_way: set[gevent.Greenlet] = set()
    wake = gevent.get_hub().loop.async_()

    def keep_time() -> None:
        # in a thread, because gevent's own timers are whole milliseconds, as long as a no-op takes
        for moment in due_times(seconds):
            sleep(max(0.0, begin + moment - time.perf_counter()))
            if enough.is_set():
                break
            due.append(begin_wall + moment)
            wake.send()

    def send_all_due() -> None:
        while due:
            if len(under_way) >= IN_FLIGHT:
                give_up(
                    f"{IN_FLIGHT} requests are under way at a time: the server, or this client, "
                    f"does not keep up with {spec['rate']:g} requests/s. Lower the rate, or "
                    "shorten the load."
                )
            greenlet = gevent.Greenlet(send)
            greenlet.due = due.popleft()
            under_way.add(greenlet)
            greenlet.link(under_way.discard)
            greenlet.start()

    def send() -> None:
        user = idle.pop() if idle else new_user()
        try:
            random.choice(user.tasks)(user)  # type: ignore[operator]
        except Exception:
            give_up(traceback.format_exc())
        idle.append(user)

    wake.start(send_all_due)
    ThreadPool(1).spawn(keep_time).get()
    send_all_due()
    gevent.joinall(list(under_way))
    wake.stop()


def new_user() -> User:
    """Make one more user, as locust's runner would."""
    user = classes[0](environment)
    user.on_start()
    return user


def finish() -> None:
    """End with the rows that there are, at once; locust would take its time."""
    sys.stdout.flush()
    os._exit(0)


def give_up(reason: str) -> None:
    """End at once with an error that `Load.result` raises."""
    print(reason, file=sys.stderr, flush=True)
    os._exit(1)


def obey() -> None:
    """Do what standard input says."""
    while True:
        gevent.socket.wait_read(sys.stdin.fileno())
        if not os.read(sys.stdin.fileno(), 100):
            finish()
        enough.set()


enough = gevent.event.Event()
gevent.spawn(obey)
classes: list[type[User]] = [Client]
if spec["locustfile"]:
    sys.path.insert(0, os.getcwd())
    names = runpy.run_path(spec["locustfile"]).values()
    found = [c for c in names if isinstance(c, type) and issubclass(c, User) and not c.abstract]
    classes = [c for c in found if c.__module__ == "<run_path>"]
    if len(classes) != 1:
        sys.exit(f"{spec['locustfile']} must define one class of locust users, not {len(classes)}.")

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # a request under way is an open file
most = 2 * IN_FLIGHT if hard == resource.RLIM_INFINITY else min(hard, 2 * IN_FLIGHT)
if soft != resource.RLIM_INFINITY:
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))

# A run that ends lets the requests under way come back: they are not lost.
classes[0].host = spec["url"] or None
environment = Environment(user_classes=classes, stop_timeout=timeout + 1)
environment.events.request.add_listener(write)
send_for = closed if spec["arrivals"] == "closed" else open_loop
forever = 10**9  # seconds; until the notebook says stop
for run in range(0 if spec["warm_up"] else 1, spec["repeat"] + 1):
    if enough.is_set():
        break
    if run == 1:
        sys.stdout.flush()  # says that it has begun
    send_for((spec["seconds"] or forever) if run else spec["warm_up"])
finish()
