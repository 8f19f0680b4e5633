"""The files of both servers for a model of the reader's own, as it comes and tuned."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from helpers.environment import tuned
from helpers.own_model import OwnModel

CORES = os.cpu_count() or 1
MOST = 8  # processes of a model: each holds one, and memory is not without end
WAIT = 0.01  # seconds that the first request of a batch waits for others: Ray Serve's default
PATIENT = 0.25  # of the latency that is good enough, how much a batch may wait at most
# So that HAProxy hears of a replica that goes before it is gone; longer than `tuned` has it.
DRAINING = {"RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "3"}

RUNTIME = '''\
"""MLServer serves MyModel. Every element of its one tensor is a request as JSON, or an answer."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Runtime(MLModel):
    async def load(self) -> bool:
        import my_model  # here, so that only the process that needs it imports it

        # A thread of its own: the server goes on meanwhile, and there is one batch at a time.
        self.thread = ThreadPoolExecutor(1)
        self.model = my_model.MyModel()
        await self.in_thread(self.model.load)
        return True

    async def in_thread(self, function, *arguments):
        return await asyncio.get_running_loop().run_in_executor(self.thread, function, *arguments)

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        texts = StringCodec.decode_input(payload.inputs[0])
        answers = await self.in_thread(self.model.predict, [json.loads(text) for text in texts])
        output = StringCodec.encode_output("answers", [json.dumps(each) for each in answers])
        return InferenceResponse(model_name=self.name, outputs=[output])
'''

APP = '''\
"""Ray Serve serves MyModel. A request is JSON, and so is the answer."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse


@serve.deployment
class Served:
    def __init__(self) -> None:
        import my_model  # here, so that only a replica imports it

        # A thread of its own: the replica goes on meanwhile, and there is one batch at a time.
        self.thread = ThreadPoolExecutor(1)
        self.model = my_model.MyModel()
        self.thread.submit(self.model.load).result()

    def reconfigure(self, config: dict) -> None:
        self.predict.set_max_batch_size(config["max_batch_size"])
        self.predict.set_batch_wait_timeout_s(config["batch_wait_timeout_s"])

    @serve.batch(max_batch_size=1, batch_wait_timeout_s=0)
    async def predict(self, requests: list) -> list:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.thread, self.model.predict, requests)

    async def __call__(self, request: Request) -> JSONResponse:
        return JSONResponse(await self.predict(await request.json()))


app = Served.bind()
'''


@dataclass(frozen=True)
class Setting:
    """How a tuned server runs the model.

    Attributes
    ----------
    processes : int
        How many processes hold it: replicas, or workers. One is MLServer's own, without a worker.
    threads : int
        What each of them may compute with (``OMP_NUM_THREADS``).
    batch : int
        How many requests `predict` gets at most; 1 is no batching.
    wait : float
        How long the first request of a batch waits for others (seconds).
    """

    processes: int
    threads: int
    batch: int
    wait: float = 0.0


def settings(model: OwnModel) -> list[Setting]:
    """Return what the search tries with either server, in this order.

    One process with a thread for each core, and as many processes as there are cores (at most
    `MOST`), which share them; each without batches, with small and with large ones. A batch waits
    for a moment, or for as long as the model needs for such a batch: both servers close it when its
    wait is over, also while the model is busy with the one before, and small ones may pile up.

    Parameters
    ----------
    model : OwnModel
        What is served.
    """
    several = min(CORES, MOST)
    splits = dict.fromkeys([(1, CORES), (several, CORES // several)])
    most = PATIENT * model.latency / 1000
    batches = [(1, 0.0)]
    for size in (32, 8):
        needs = float(model.batches.set_index("list of")["ms"][size]) / 1000
        waits = sorted({round(min(wait, most), 4) for wait in (WAIT, max(WAIT, needs))})
        batches += [(size, wait) for wait in waits]
    return [Setting(*split, *batch) for batch in batches for split in splits]


def write_mlserver(model: OwnModel, folder: Path, setting: Setting | None, release: int = 1) -> str:
    """Write MLServer's runtime and a model repository with one model.

    Parameters
    ----------
    model : OwnModel
        What is served.
    folder : Path
        Where to write.
    setting : Setting or None
        How the model runs; None is as it comes.
    release : int
        Another number is another release, which MLServer tells to nobody.

    Returns
    -------
    str
        What to start: ``mlserver start ...``
    """
    _write(folder / "mlserver_runtime.py", _for(model, RUNTIME))
    repository = "mlserver_tuned" if setting else "mlserver_as_it_comes"
    about: dict[str, Any] = {"name": "model", "implementation": "mlserver_runtime.Runtime"}
    if setting:
        server = {"debug": False, "gzip_enabled": False, "metrics_endpoint": None}
        workers = setting.processes if setting.processes > 1 else 0
        text = _json({**server, "parallel_workers": workers})
        _write(folder / repository / "settings.json", text)
        if setting.batch > 1:
            about |= {"max_batch_size": setting.batch, "max_batch_time": setting.wait}
    if release > 1:
        about["parameters"] = {"extra": {"release": release}}
    _write(folder / repository / "model" / "model-settings.json", _json(about))
    return repository


def write_ray_serve(
    model: OwnModel, folder: Path, setting: Setting | None, release: int = 1
) -> str:
    """Write Ray Serve's application and its config file.

    Parameters
    ----------
    model : OwnModel
        What is served.
    folder : Path
        Where to write.
    setting : Setting or None
        How the model runs; None is as it comes.
    release : int
        Another number is another environment: without a difference Ray sees nothing to do.

    Returns
    -------
    str
        What to start: ``serve run ...``
    """
    _write(folder / "ray_serve_app.py", _for(model, APP))
    app: dict[str, Any] = {"name": "model", "route_prefix": "/"}
    app["import_path"] = "ray_serve_app:app"
    config: dict[str, Any] = {"applications": [app]}
    variables = threads(setting)
    if release > 1:
        variables["RELEASE"] = str(release)
    if variables:
        app["runtime_env"] = {"env_vars": variables}
    if setting:
        batches = {
            "max_batch_size": setting.batch,
            "batch_wait_timeout_s": setting.wait,
        }
        served = {
            "name": "Served",
            "num_replicas": setting.processes,
            "max_ongoing_requests": 100,  # the default of five would bound a batch
            "ray_actor_options": {"num_cpus": 0.1},  # a reservation; its threads stand above
            "user_config": batches,
        }
        app["deployments"] = [served]
        config["logging_config"] = {"enable_access_log": False}
    file = "ray_serve_tuned.yaml" if setting else "ray_serve_as_it_comes.yaml"
    _write(folder / file, yaml.safe_dump(config, sort_keys=False))
    return file


def commands(mlserver: Setting) -> dict[str, str]:
    """Return what to type in the folder, by the name of the server and its setting.

    Parameters
    ----------
    mlserver : Setting
        MLServer's tuned one; that of Ray Serve is all in its file.
    """
    # but for ports and folders, which are there so that two can run at a time
    switches = {**tuned(), **DRAINING}
    switches = {k: v for k, v in switches.items() if "{" not in v and "PORT" not in k}
    return {
        "MLServer, as it comes": "mlserver start mlserver_as_it_comes",
        "MLServer, tuned": f"{_assigned(threads(mlserver))}mlserver start mlserver_tuned",
        "Ray Serve, as it comes": "serve run ray_serve_as_it_comes.yaml",
        "Ray Serve, tuned": f"{_assigned(switches)}serve run ray_serve_tuned.yaml",
    }


def threads(setting: Setting | None) -> dict[str, str]:
    """Return the environment variable that says how many threads a process computes with."""
    return {"OMP_NUM_THREADS": str(setting.threads)} if setting else {}


def _assigned(variables: dict[str, str]) -> str:
    return "".join(f"{name}={value} " for name, value in variables.items())


def _for(model: OwnModel, template: str) -> str:
    return template.replace("my_model", model.file.stem).replace("MyModel", model.name)


def _json(content: object) -> str:
    return json.dumps(content, indent=4) + "\n"


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
