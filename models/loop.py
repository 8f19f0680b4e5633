"""The training loop of train.py: one model, several processes of one thread each, on a CPU."""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from tqdm import tqdm
from transformers.optimization import Adafactor

SEED = 20261122
WORKERS = 2  # processes of one thread each: faster than one process of two threads
TOKENS = 2000  # source and target tokens in one worker's batch, padding included
DROPOUT = 0.1
COOLING = 0.65  # where, in the course of the steps, the learning rate starts to fall to zero
Pair = tuple[list[int], list[int]]  # token numbers of a source and its target


class Stage(Protocol):
    """What the loop needs to know of a model."""

    name: str
    learning_rate: float
    model: Any

    def examples(self, rng: random.Random, cooling: bool) -> list[Pair]:
        """Return the examples of one epoch."""

    def loss(self, batch: list[Pair], smoothing: float) -> torch.Tensor:
        """Return the mean loss of a batch."""


def batches(pairs: list[Pair], rng: random.Random) -> list[list[Pair]]:
    """Return batches of pairs of like length, in random order, as many for each worker."""
    pairs = sorted(pairs, key=lambda p: (len(p[1]) + rng.random(), len(p[0]) + rng.random()))
    result: list[list[Pair]] = [[]]
    widths = (0, 0)
    for source, target in pairs:
        widths = max(widths[0], len(source)), max(widths[1], len(target))
        if sum(widths) * (len(result[-1]) + 1) > TOKENS and result[-1]:
            result.append([])
            widths = len(source), len(target)
        result[-1].append((source, target))
    rng.shuffle(result)
    return result[: len(result) // WORKERS * WORKERS]


class Dropout(torch.nn.Module):
    """Dropout whose masks are slices of one random pool: drawing them costs too much on a CPU."""

    offsets = random.Random()

    def __init__(self) -> None:
        super().__init__()
        draws = torch.rand(1 << 22, generator=torch.Generator().manual_seed(SEED))
        self.pool = ((draws >= DROPOUT) / (1 - DROPOUT)).bfloat16()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `x` with some of its values set to zero."""
        start = self.offsets.randrange(len(self.pool) - x.numel())
        return x * self.pool[start : start + x.numel()].view_as(x)

    @classmethod
    def put_into(cls, model: torch.nn.Module) -> None:
        """Replace the dropout modules, and leave the attention weights without."""
        shared = cls()
        for module in list(model.modules()):
            for name, child in module.named_children():
                if isinstance(child, torch.nn.Dropout):
                    setattr(module, name, shared)
            if isinstance(getattr(module, "dropout", None), float):
                module.dropout = 0.0  # type: ignore


def copy(targets: Any, sources: Any) -> None:
    """Copy one model's tensors to another's."""
    for target, source in zip(targets, sources, strict=True):
        target.data.copy_(source)


def restore(model: torch.nn.Module, checkpoint: Path) -> Any:
    """Put a checkpoint's averaged weights into a model; return the checkpoint."""
    saved = torch.load(checkpoint, weights_only=False)
    copy(model.parameters(), saved["average"])
    return saved


def fit(make: Callable[[], Stage], checkpoint: Path, steps: int) -> None:
    """Train a model, or go on training it, until it has made so many steps.

    Parameters
    ----------
    make : callable
        Makes the stage; every worker calls it, so it must be picklable.
    checkpoint : Path
        Written every 250 steps; the training starts from it if it is there.
    steps : int
        How many steps in all.
    """
    parameters = sum(parameter.numel() for parameter in make().model.parameters())
    grads = torch.zeros(WORKERS, parameters, dtype=torch.bfloat16).share_memory_()
    barrier = torch.multiprocessing.get_context("spawn").Barrier(WORKERS)
    torch.multiprocessing.spawn(_work, (make, checkpoint, steps, grads, barrier), nprocs=WORKERS)


def _work(
    rank: int,
    make: Callable[[], Stage],
    checkpoint: Path,
    steps: int,
    grads: torch.Tensor,
    barrier: Any,
) -> None:
    """Be one of the workers, which hold the same weights and see different batches.

    The model computes in bfloat16; the optimizer keeps the weights in float32. After a warm-up the
    learning rate falls with the square root of the step, and from `COOLING` on to zero. `grads` is
    memory that the workers share, (workers, parameters): each writes its gradients into a row.
    """
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    stage = make()
    model = stage.model.bfloat16().train()
    Dropout.put_into(model)
    weights = list(model.parameters())
    master = [torch.nn.Parameter(weight.detach().float()) for weight in weights]
    average = [weight.detach().clone() for weight in master]
    mean = torch.zeros(grads.shape[1])
    views = mean.split([weight.numel() for weight in master])
    for weight, view in zip(master, views, strict=True):
        weight.grad = view.view_as(weight)
    optimizer = Adafactor(master, lr=1.0, scale_parameter=True, relative_step=False)
    step, epoch, position, seconds, cooling = 0, 0, 0, 0.0, False
    if checkpoint.is_file():
        saved = torch.load(checkpoint, weights_only=False)
        step, epoch, position, seconds, cooling = saved["where"]
        optimizer.load_state_dict(saved["optimizer"])
        copy(master + average, saved["master"] + saved["average"])
        copy(weights, master)

    def fill() -> list[list[Pair]]:
        rng = random.Random(f"{SEED} {stage.name} {epoch}")
        return batches(stage.examples(rng, cooling), rng)

    queue, losses, started = fill() if 0 < step < steps else [], [], time.time() - seconds
    progress = tqdm(total=steps, initial=step, desc=stage.name, mininterval=10, disable=rank > 0)
    while step < steps:
        if step >= COOLING * steps and not cooling:
            cooling, queue = True, []
        if position >= len(queue):
            epoch, position = epoch + 1, 0
            queue = fill()
        Dropout.offsets = random.Random(f"{SEED} {step} {rank}")
        loss = stage.loss(queue[position + rank], smoothing=0.1 if step < 0.85 * steps else 0.0)
        position += WORKERS
        model.zero_grad()
        loss.backward()
        torch.cat([weight.grad.flatten() for weight in weights], out=grads[rank])
        barrier.wait()
        mean.copy_(grads[0])
        for other in grads[1:]:
            mean += other
        mean /= WORKERS
        barrier.wait()
        torch.nn.utils.clip_grad_norm_(master, 1.0)
        rate = min(1.0, step / 400, math.sqrt(3000 / max(step, 1)))
        rate *= min(1.0, (1 - step / steps) / (1 - COOLING))
        optimizer.param_groups[0]["lr"] = stage.learning_rate * max(rate, 1e-3)
        optimizer.step()
        copy(weights, master)
        step += 1
        if step % 10 == 0:  # what is shipped is the average of the last several hundred steps
            share = max(0.02, 100 / (step + 100))
            torch._foreach_lerp_(average, [weight.data for weight in master], share)
        losses.append(loss.item())
        progress.update()
        if rank == 0 and (step % 250 == 0 or step == steps):
            state = {"optimizer": optimizer.state_dict(), "master": master, "average": average}
            state["where"] = step, epoch, position, time.time() - started, cooling
            torch.save(state, temporary := checkpoint.with_suffix(".tmp"))
            os.replace(temporary, checkpoint)
            progress.set_postfix(epoch=epoch, loss=f"{sum(losses) / len(losses):.3f}")
            losses.clear()
