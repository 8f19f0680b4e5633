"""KServe's Python server, over the Open Inference Protocol."""

import logging
import os
from typing import Any

import uvicorn
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.utils.utils import generate_uuid


class Local(uvicorn.Config):
    """KServe listens on all interfaces, without a choice."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options | {"host": "127.0.0.1"})


class Noop(Model):
    """Gives the tokens back."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.ready = True

    async def generate(self, tokens: list[int]) -> list[int]:
        """Give them back."""
        return tokens

    async def predict(self, payload: InferRequest, *_: Any, **__: Any) -> InferResponse:
        """Answer in one tensor."""
        tokens = await self.generate(payload.inputs[0].data)
        output = InferOutput("tokens", [1, len(tokens)], "INT64", tokens)
        return InferResponse(payload.id or generate_uuid(), self.name, [output])


class T5(Noop):
    """Eight tokens more."""

    def __init__(self, name: str) -> None:
        import fixed_work
        from batches import Batches

        self.batches = Batches(fixed_work.Model().generate, size=16, wait=2)
        super().__init__(name)

    async def generate(self, tokens: list[int]) -> list[int]:
        """Eight tokens for the row."""
        return await self.batches(tokens)


if __name__ == "__main__":
    uvicorn.Config = Local  # type: ignore[misc]
    model = Noop("noop") if os.environ["WORKLOAD"] == "no-op" else T5("t5")
    logging.disable(logging.INFO)  # three lines for each request
    port = int(os.environ["PORT"])
    ModelServer(http_port=port, enable_grpc=False, enable_latency_logging=False).start([model])
