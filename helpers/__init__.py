"""What the notebooks share: starting servers, finding models, making load, showing results."""

from helpers import models
from helpers.display import show, timeline, timelines, use_tables
from helpers.environment import tuned
from helpers.experiment import alternate, capacity
from helpers.failures import Target, kill_under_load
from helpers.launch import command_run, mlserver_start, python_run, serve_run
from helpers.load import load
from helpers.measure import assert_answered, compare, summary
from helpers.reference import reference
from helpers.results import findings, record
from helpers.server import Server, ServerError, left_over
from helpers.turn import only
from helpers.workspace import workspace

use_tables()

__all__ = [
    "Server",
    "ServerError",
    "Target",
    "alternate",
    "assert_answered",
    "capacity",
    "command_run",
    "compare",
    "findings",
    "kill_under_load",
    "left_over",
    "load",
    "mlserver_start",
    "models",
    "only",
    "python_run",
    "record",
    "reference",
    "serve_run",
    "show",
    "summary",
    "timeline",
    "timelines",
    "tuned",
    "workspace",
]
