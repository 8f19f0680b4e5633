"""`serve run` on a Ray cluster of its own. Run by the servers' interpreter, never imported.

    python serve.py PORT READY DASHBOARD_PORT TARGET [OPTION ...]

`serve run` by itself joins any Ray it finds, opens a dashboard, and has no option for the port. So
this starts Ray and Serve first, then hands over to `serve run`, which uses what is running. Writes
the file READY when every application runs (and HAProxy, if it is used, knows its replicas), empty,
or with the reason why one cannot.
"""

import csv
import io
import os
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping

import ray
from applications import outcome  # type: ignore[import-not-found]  # beside this file
from ray import serve
from ray.serve.schema import DeploymentStatusOverview
from ray.serve.scripts import cli

sys.path.pop(0)  # the folder of this file: a reader's own models.py must not be hidden by ours
port, ready, dashboard_port, *arguments = sys.argv[1:]


def announce(message: str) -> None:
    """Write the READY file in one step, so that nobody reads half of it."""
    with open(ready + ".part", "w") as file:
        file.write(message)
    os.replace(ready + ".part", ready)


def watch() -> None:
    """Wait until all applications run; `serve run` itself looks only once a second."""
    try:
        reason = outcome()
        if not reason:
            balance()
        announce(reason)
    except Exception as error:  # else nobody would hear of it before the time-out
        announce(f"Serve does not tell its status: {error}")


def balance() -> None:
    """Wait until HAProxy, if it is used, knows the replicas."""
    latest = time.monotonic() + 10  # not for ever: an application need not have a route
    while "HAPROXY_STATS_PORT" in os.environ and time.monotonic() < latest:
        if all(balanced(name, a.deployments) for name, a in serve.status().applications.items()):
            break
        time.sleep(0.1)


def balanced(application: str, deployments: Mapping[str, DeploymentStatusOverview]) -> bool:
    """Tell whether HAProxy knows as many replicas as one of the deployments has, all healthy."""
    page = f"http://127.0.0.1:{os.environ['HAPROXY_STATS_PORT']}/stats;csv"
    try:
        with urllib.request.urlopen(page, timeout=1) as answer:
            rows = list(csv.DictReader(io.TextIOWrapper(answer)))
    except OSError:  # it is reading a new configuration
        return False
    states = [
        row["status"]
        for row in rows
        if row["# pxname"] == f"http-{application}" and row["svname"].startswith("SERVE_REPLICA")
    ]
    replicas = [sum(d.replica_states.values()) for d in deployments.values()]
    return len(states) in replicas and all(state.startswith("UP") for state in states)


ray.init(
    address="local",  # never join a cluster that happens to run on this machine
    namespace="serve",
    include_dashboard=bool(int(dashboard_port)),
    dashboard_port=int(dashboard_port) or None,
    object_store_memory=200 * 2**20,  # bytes; Serve passes requests, not data frames
)
serve.start(http_options={"host": "127.0.0.1", "port": int(port), "location": "EveryNode"})
threading.Thread(target=watch, daemon=True).start()
try:
    cli(["run", *arguments])
except SystemExit as end:
    if end.code == signal.SIGTERM:  # as a platform stops it: how Ray ends is for clients to see
        raise
    # Serve has shut down. Ray would need seconds to end its processes one by one; the guard kills.
    sys.stdout.flush()
    os._exit(int(end.code or 0))
