"""Batches for servers that have none of their own."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Batches(Generic[T, R]):
    """Calls a function of a list with what was asked for at about the same time.

    Parameters
    ----------
    function : callable
        Takes a list, returns one as long. It runs in a thread, one batch at a time.
    size : int
        How many there may be in a batch.
    wait : float
        Seconds that the first of a batch waits for others.
    """

    def __init__(self, function: Callable[[list[T]], list[R]], size: int, wait: float) -> None:
        self.function, self.size, self.wait = function, size, wait
        self.task: asyncio.Task[None] | None = None

    async def __call__(self, item: T) -> R:
        """Wait for the result of one item."""
        if self.task is None:  # not before there is an event loop
            self.queue: asyncio.Queue[tuple[T, asyncio.Future[R]]] = asyncio.Queue()
            self.task = asyncio.create_task(self._work())
        result: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self.queue.put_nowait((item, result))
        return await result

    async def _work(self) -> None:
        while True:
            batch = await self._next()
            try:
                answers = await asyncio.to_thread(self.function, [item for item, _ in batch])
            except Exception as error:
                for _, result in batch:
                    if not result.done():
                        result.set_exception(error)
                continue
            for (_, result), answer in zip(batch, answers, strict=True):
                if not result.done():  # whoever asked may have left
                    result.set_result(answer)

    async def _next(self) -> list[tuple[T, asyncio.Future[R]]]:
        batch = [await self.queue.get()]
        loop = asyncio.get_running_loop()
        end = loop.time() + self.wait
        while len(batch) < self.size:
            try:
                left = end - loop.time()
                batch.append(await asyncio.wait_for(self.queue.get(), left))
            except asyncio.TimeoutError:
                break
        return batch
