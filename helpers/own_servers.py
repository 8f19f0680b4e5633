"""Both servers for a model of the reader's own: how to start, ask, change and stop them."""

import contextlib
import json
import os
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import requests

from helpers.environment import environment
from helpers.failures import Target
from helpers.interpreter import server_python
from helpers.launch import mlserver_start, serve_run
from helpers.own_files import DRAINING, Setting, threads, write_mlserver, write_ray_serve
from helpers.own_model import OwnModel
from helpers.server import Server

PATIENCE = 10  # seconds
_REDEPLOY = Path(__file__).parent / "programs" / "redeploy.py"


class Side(ABC):
    """One of the two: its files in a folder, and the server when it runs.

    Parameters
    ----------
    model : OwnModel
        What it serves.
    folder : Path
        Where its files go; absolute, and it is there.

    Attributes
    ----------
    server : Server or None
        What runs, if anything does.
    setting : Setting or None
        How it runs the model; None is as it comes.
    """

    title: str
    server: Server | None = None
    setting: Setting | None = None

    def __init__(self, model: OwnModel, folder: Path) -> None:
        self.model, self.folder = model, folder
        # whichever process imports it finds the model where its other files are
        path = [str(model.file.parent), str(folder), os.environ.get("PYTHONPATH", "")]
        self.env = {"PYTHONPATH": os.pathsep.join(filter(None, path))}

    @abstractmethod
    def start(self, setting: Setting | None) -> None:
        """Start the server with a setting (None: as it comes), in place of what runs."""

    @abstractmethod
    def use(self, setting: Setting) -> None:
        """Change to another setting, the fastest way that there is."""

    @abstractmethod
    def update(self) -> None:
        """Load the model anew in a server that goes on, and wait until that is done."""

    @property
    @abstractmethod
    def request(self) -> dict[str, Any]:
        """The reader's request: ``url`` and ``json``, as `load` takes them."""

    @abstractmethod
    def read(self, answer: Any) -> Any:
        """Take the model's answer out of the server's."""

    @property
    @abstractmethod
    def process(self) -> str:
        """A part of the titles of the processes that hold the model."""

    @property
    def running(self) -> Server:
        """The server, which must run."""
        if self.server is None:
            raise RuntimeError(f"{self.title} is not running.")
        return self.server

    def ask(self) -> None:
        """Ask, and complain if the answer is not the model's."""
        answer = requests.post(**self.request, timeout=60)
        latest = time.monotonic() + PATIENCE
        while answer.status_code == 503 and time.monotonic() < latest:  # HAProxy knows none yet
            time.sleep(0.1)
            answer = requests.post(**self.request, timeout=60)
        if not answer.ok:
            raise self.running.failure(f"answers {answer.status_code}: {answer.text[:200]}")
        self.model.check(self.title, self.read(answer.json()))

    def target(self) -> Target:
        """Return what `kill_under_load` kills: a process that holds the model."""
        path = self.request["url"].removeprefix(self.running.url)
        body = self.request["json"]
        return Target.of(self.running, path, body, process=self.process, who=None)

    def prepare(self) -> None:  # noqa: B027 (MLServer has nothing to prepare)
        """Do now what `update` would otherwise have to do first."""

    def stop(self) -> None:
        """Stop the server, if it runs."""
        if self.server:
            self.server.stop()
        self.server = None


class MLServerSide(Side):
    """MLServer: a model repository with one model, and a runtime."""

    title = "MLServer"

    def start(self, setting: Setting | None) -> None:
        """Start MLServer with a setting (None: as it comes), in place of what runs."""
        self.stop()
        self.setting = setting
        repository = write_mlserver(self.model, self.folder, setting)
        env = {**self.env, **threads(setting)}
        self.server = mlserver_start(repository, cwd=self.folder, log=f"{repository}.log", env=env)

    def use(self, setting: Setting) -> None:
        """Start it again: it reads how many workers and how large batches only then."""
        self.start(setting)

    def update(self) -> None:
        """Ask the repository API to load the model, which then replaces the one that is there."""
        write_mlserver(self.model, self.folder, self.setting, release=2)
        url = f"{self.running.url}/v2/repository/models/model/load"
        requests.post(url, timeout=600).raise_for_status()

    @property
    def request(self) -> dict[str, Any]:
        """The request as JSON in a tensor of the Open Inference Protocol."""
        data = [json.dumps(self.model.request)]
        tensor = {"name": "requests", "shape": [1, 1], "datatype": "BYTES", "data": data}
        return {"url": f"{self.running.url}/v2/models/model/infer", "json": {"inputs": [tensor]}}

    def read(self, answer: Any) -> Any:
        """Take the model's answer out of the tensor."""
        return json.loads(answer["outputs"][0]["data"][0])

    @property
    def process(self) -> str:
        """That of a worker, or where there is none of the server itself."""
        alone = self.setting is not None and self.setting.processes == 1
        return "mlserver start" if alone else "spawn_main"


class RayServeSide(Side):
    """Ray Serve: an application with one deployment."""

    title = "Ray Serve"
    _deployer: subprocess.Popen[str] | None = None

    def start(self, setting: Setting | None) -> None:
        """Start a Ray and the application with a setting (None: as it comes)."""
        self.stop()
        self.setting = setting
        file = write_ray_serve(self.model, self.folder, setting)
        env = {**self.env, **(DRAINING if setting else {})}
        log = Path(file).with_suffix(".log").name
        self.server = serve_run(file, cwd=self.folder, log=log, tuned=bool(setting), env=env)

    def use(self, setting: Setting) -> None:
        """Deploy another config: Ray Serve changes what differs."""
        self.setting = setting
        self._deploy(write_ray_serve(self.model, self.folder, setting))
        time.sleep(1)  # HAProxy hears of its replicas a moment later

    def update(self) -> None:
        """Deploy with another environment, for which Ray Serve replaces the replicas."""
        self._deploy(write_ray_serve(self.model, self.folder, self.setting, release=2))

    @property
    def request(self) -> dict[str, Any]:
        """The request as it is."""
        return {"url": self.running.url + "/", "json": self.model.request}

    def read(self, answer: Any) -> Any:
        """Return the answer, which is the model's."""
        return answer

    @property
    def process(self) -> str:
        """That of a replica."""
        return "ServeReplica:model:"

    def prepare(self) -> None:
        """Start the program that deploys, which has to import Ray first."""
        if self._deployer:
            return
        if not self.running.pid:
            raise self.running.failure("does not run any more")
        words = [word for line in self.running.command_lines().values() for word in line]
        addresses = {w.partition("=")[2] for w in words if w.startswith("--gcs-address=")}
        access = {
            "RAY_ADDRESS": addresses.pop(),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.running.scratch / "token"),
        }
        with open(self.folder / "redeploy.log", "w") as log:
            self._deployer = subprocess.Popen(
                [server_python(), str(_REDEPLOY)],
                cwd=self.folder,
                env={**os.environ, **environment(), **self.env, **access},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # Ctrl-C is for us
            )
        assert self._deployer.stdout
        self._deployer.stdout.readline()  # it is connected

    def stop(self) -> None:
        """Stop the server and the program that deploys, if they run."""
        if self._deployer:
            self._deployer.kill()
            self._deployer.communicate()
            self._deployer = None
        super().stop()

    def _deploy(self, file: str) -> None:
        self.prepare()
        assert self._deployer and self._deployer.stdin and self._deployer.stdout
        with contextlib.suppress(BrokenPipeError):  # it has ended, which the next line tells
            self._deployer.stdin.write(f"{self.folder / file}\n")
            self._deployer.stdin.flush()
        line = self._deployer.stdout.readline()
        reason = json.loads(line) if line else "its reasons are in redeploy.log"
        if reason:
            raise RuntimeError(f"Ray Serve cannot deploy {file}: {reason}")
