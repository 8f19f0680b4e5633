"""What the notebooks share: starting servers, finding models, showing tables."""

from helpers import models
from helpers.load import load, summary, timeline
from helpers.results import findings, record
from helpers.servers import (
    Server,
    ServerError,
    command_run,
    left_over,
    mlserver_start,
    python_run,
    serve_run,
    show,
    workspace,
)

__all__ = [
    "Server",
    "ServerError",
    "command_run",
    "findings",
    "left_over",
    "load",
    "mlserver_start",
    "models",
    "python_run",
    "record",
    "serve_run",
    "show",
    "summary",
    "timeline",
    "workspace",
]
