"""What the notebooks share: starting servers, finding models, showing tables."""

from helpers import models
from helpers.servers import (
    Server,
    ServerError,
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
    "left_over",
    "mlserver_start",
    "models",
    "python_run",
    "serve_run",
    "show",
    "workspace",
]
