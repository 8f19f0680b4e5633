"""The environment variables that servers and scripts run under."""

import os
from pathlib import Path

from helpers import models
from helpers.interpreter import server_python


def environment() -> dict[str, str]:
    """Return the environment variables under which commands and servers run.

    Returns
    -------
    dict of str to str
        What to add to ``os.environ``: the servers' commands first in ``PATH``, no telemetry, no
        proxy between us and our own machine, and what the models need (`models.variables`).
    """
    folder = str(Path(server_python()).parent)
    path = [p for p in os.environ.get("PATH", os.defpath).split(os.pathsep) if p != folder]
    no_proxy = [os.environ.get("NO_PROXY", ""), "127.0.0.1", "localhost"]
    direct = ",".join(dict.fromkeys(host for part in no_proxy for host in part.split(",") if host))
    return {
        **models.variables(),
        "PATH": os.pathsep.join([folder, *path]),
        "NO_PROXY": direct,
        "no_proxy": direct,
        "PYTHONUNBUFFERED": "1",  # a log line is in the log when it is printed
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run`, replicas are not to resolve again
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # its future default; unset, it warns
        "RAY_COLOR_PREFIX": "0",  # no colour codes in a log that a notebook shows
        # on a slow machine Ray would give up on parts of itself that are still importing
        "RAY_raylet_start_wait_time_s": "120",
        "RAY_DASHBOARD_SUBPROCESS_MODULE_WAIT_READY_TIMEOUT": "120",
        "RAY_DEDUP_LOGS": "0",  # a line for every request, also when two replicas write the same
    }
