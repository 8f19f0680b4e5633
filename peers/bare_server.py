"""The limit of the no-op: uvicorn and Starlette, and nothing else."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def noop(request: Request) -> JSONResponse:
    """Give the tokens back."""
    body = await request.json()
    return JSONResponse({"tokens": body["tokens"]})


async def ready(request: Request) -> JSONResponse:
    """Say that it runs."""
    return JSONResponse({})


app = Starlette(routes=[Route("/noop", noop, methods=["POST"]), Route("/ready", ready)])
