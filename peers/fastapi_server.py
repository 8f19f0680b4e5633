"""FastAPI: `app`, for uvicorn and for granian."""

import os

from fastapi import FastAPI
from pydantic import BaseModel


class Tokens(BaseModel):
    """What is asked and what is answered."""

    tokens: list[int]


app = FastAPI()

if os.environ["WORKLOAD"] == "no-op":

    @app.post("/noop")
    async def noop(body: Tokens) -> Tokens:
        """Give the tokens back."""
        return body

else:
    from batches import Batches
    from fixed_work import Model

    generate = Batches(Model().generate, size=16, wait=2)

    @app.post("/t5")
    async def t5(body: Tokens) -> Tokens:
        """Eight tokens more."""
        return Tokens(tokens=await generate(body.tokens))
