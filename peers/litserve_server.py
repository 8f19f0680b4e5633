"""LitServe. An API runs in a process of its own, beside the one that speaks HTTP."""

import os
from typing import Any

import litserve


class Noop(litserve.LitAPI):
    """Gives the tokens back."""

    def setup(self, device: str) -> None:
        """Nothing to load."""

    def decode_request(self, request: dict[str, Any]) -> list[int]:
        """Take the tokens out of the body."""
        return request["tokens"]

    def predict(self, tokens: Any) -> Any:
        """Give them back."""
        return tokens

    def encode_response(self, output: list[int]) -> dict[str, Any]:
        """Make a body of tokens."""
        return {"tokens": output}


class T5(Noop):
    """Eight tokens more, for all rows of a batch."""

    def setup(self, device: str) -> None:
        """Load the model, in the process that calls it."""
        from fixed_work import Model

        self.model = Model()

    def predict(self, tokens: Any) -> Any:
        """Eight tokens for each row."""
        return self.model.generate(tokens)

    def batch(self, inputs: list[Any]) -> list[Any]:
        """Leave the rows a list."""
        return inputs

    def unbatch(self, output: list[Any]) -> list[Any]:
        """Leave the answers a list."""
        return output


if __name__ == "__main__":
    if os.environ["WORKLOAD"] == "no-op":
        api: litserve.LitAPI = Noop(api_path="/noop")
    else:
        api = T5(api_path="/t5", max_batch_size=16, batch_timeout=2)
    # for hundreds of requests per second, say its makers
    server = litserve.LitServer(api, accelerator="cpu", fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        generate_client_file=False,
        access_log=False,
    )
