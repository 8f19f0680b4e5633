"""BentoML: two services, `Noop` and `T5`."""

import bentoml

SETTINGS = {
    "workers": 1,
    "traffic": {"timeout": 60},
    "logging": {"access": {"enabled": False}},
    "metrics": {"enabled": False},
}


@bentoml.service(name="noop", **SETTINGS)
class Noop:
    """Gives the tokens back."""

    @bentoml.api
    async def noop(self, tokens: list[list[int]]) -> list[list[int]]:
        """Give them back."""
        return tokens


@bentoml.service(name="t5", **SETTINGS)
class T5:
    """Eight tokens more."""

    def __init__(self) -> None:
        from fixed_work import Model

        self.model = Model()

    @bentoml.api(batchable=True, max_batch_size=16)
    def t5(self, tokens: list[list[int]]) -> list[list[int]]:
        """Eight tokens for each row: the rows of all requests that share a batch."""
        return self.model.generate(tokens)
