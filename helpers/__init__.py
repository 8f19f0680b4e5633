"""What the notebooks share: starting servers, finding models, and later measuring and drawing."""

from helpers import models
from helpers.servers import (
    Server,
    ServerError,
    left_over,
    mlserver_start,
    python_run,
    serve_run,
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
    "workspace",
]
