"""Model servers in the background of a notebook.

Each server is started under a guard (`helpers/_guard.py`) in a process group of its own, on free
ports of 127.0.0.1. Starting returns when its models are ready, and says why when they never will
be. Nothing is left behind: not by `Server.stop`, not by an interrupt, not by a kernel that is
killed.
"""

import ast
import contextlib
import errno
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import requests
from IPython.core.getipython import get_ipython
from IPython.display import clear_output
from pandas.io.formats.style import Styler

from helpers.interpreter import environment, server_python

HOST = "127.0.0.1"
START = Path.cwd()
"""Where the notebook lives; paths are shown relative to it."""

GRACE = 30.0  # seconds that a server has to stop by itself before it is killed
_POLL = 0.1  # seconds between two looks at a server that starts
_PROBE = re.compile(r'"GET \S*/(ready|healthz) HTTP')  # our own looks, of no interest in a log
_COLOUR = re.compile(r"\033\[\d*m")
_running: dict[Path, "Server"] = {}  # by log file: starting again replaces


class ServerError(RuntimeError):
    """A server ended while it started, or did not get ready in time."""


class Server:
    """One model server: a command in the background, its URL and its log.

    Use `serve_run`, `mlserver_start` or `python_run` to make one.

    Parameters
    ----------
    title : str
        What to call it, for instance ``"MLServer"``.
    shown : str
        The command as a reader would type it.
    command : list of str
        The command as it is run. ``{scratch}`` and ``{http}``, ``{grpc}``, ``{metrics}``,
        ``{dashboard}`` are replaced by a temporary folder and by ports.
    ready : callable
        Takes the server, returns whether its models are ready; asked every tenth of a second.
        May raise `ServerError` if they never will be.
    cwd : Path
        The folder to run the command in.
    log : str
        Name of the log file in that folder.
    port : int, optional
        The HTTP port; a free one if not given.
    timeout : float
        Seconds to wait until it is ready.
    env : dict of str to str, optional
        Environment variables for it, besides those of this process.

    Attributes
    ----------
    url : str
        ``http://127.0.0.1:<port>``.
    ports : dict of str to int
        ``http``, ``grpc``, ``metrics`` and ``dashboard``; which of them are used is the server's
        own business.
    log : Path
        The log file.
    """

    def __init__(
        self,
        title: str,
        shown: str,
        command: list[str],
        ready: "Callable[[Server], bool]",
        *,
        cwd: Path,
        log: str,
        port: int | None = None,
        timeout: float = 180,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.title, self.shown, self.cwd, self.log = title, shown, cwd, cwd / log
        self._command, self._ready = command, ready
        self._timeout, self._env = timeout, env or {}
        self._guard: subprocess.Popen[bytes] | None = None
        self.scratch = Path("/tmp/serve-not-started")
        self.ports = _free_ports("http", "grpc", "metrics", "dashboard")
        if port is not None:
            self.ports["http"] = port

    @property
    def url(self) -> str:
        """Base of every address of this server."""
        return f"http://{HOST}:{self.ports['http']}"

    @property
    def state(self) -> str:
        """``"running"``, ``"stopped"``, or how it ended: ``"ended (exit status 1)"``."""
        if self._guard is None:
            return "stopped"
        status = self._guard.poll()
        return "running" if status is None else f"ended (exit status {status})"

    @property
    def pid(self) -> int | None:
        """Process ID of the server's main process, None when it is not running."""
        if self.state == "running":
            with contextlib.suppress(psutil.Error, IndexError):
                return psutil.Process(self._guard.pid).children()[0].pid  # type: ignore[union-attr]
        return None

    def start(self) -> "Server":
        """Start the server and wait until its models are ready.

        A server that writes to the same log file is stopped first, so that running a notebook's
        cell again replaces the server. An interrupt while waiting stops everything.

        Returns
        -------
        Server
            Itself.

        Raises
        ------
        ServerError
            If it ends or reports a failure before it is ready, or is not ready in time. The
            message holds the command, the exit status and the last lines of the log.
        OSError
            If its port is taken.
        """
        if old := _running.pop(self.log, None):
            old.stop()
        self._check_port()
        _running[self.log] = self
        try:
            self._launch()
            self._wait()
        except BaseException:
            self._kill()
            raise
        return self

    def stop(self) -> None:
        """Stop the server as Ctrl-C would, and wait until all its processes are gone.

        What has not ended after the grace is killed; an interrupt kills at once. Stopping a
        server that does not run does nothing.
        """
        if self._guard is None:
            return
        assert self._guard.stdin
        with contextlib.suppress(BrokenPipeError):
            self._guard.stdin.close()
        try:
            self._guard.wait(GRACE + 10)
        except BaseException as error:
            self._kill()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
        self._forget()

    def logs(self, lines: int = 20) -> None:
        """Print the last lines of the log.

        Parameters
        ----------
        lines : int
            How many.
        """
        print(_tail(self.log, lines))

    def processes(self) -> pd.DataFrame:
        """List the server's processes, each indented below the one that started it.

        Returns
        -------
        pandas.DataFrame
            One row per process: ``process`` (its title), ``PID``, ``threads``, and ``memory (MB)``:
            where Linux tells it the proportional set size, in which a page that n processes share
            counts 1/n in each, so that the column may be added up; elsewhere the resident set.
            Empty when the server is not running.
        """
        rows: list[tuple[str, int, int, float]] = []

        def add(process: psutil.Process, depth: int) -> None:
            with contextlib.suppress(psutil.Error):
                # elsewhere, the full information on a process is for root only
                full = psutil.LINUX
                memory = process.memory_full_info() if full else process.memory_info()
                size = memory.pss if full else memory.rss
                name = "\u2003" * depth + (_title(process) if depth else self.shown)
                rows.append((name, process.pid, process.num_threads(), size / 2**20))
                for child in process.children():
                    add(child, depth + 1)

        if pid := self.pid:
            with contextlib.suppress(psutil.Error):
                add(psutil.Process(pid), 0)
        table = pd.DataFrame(rows, columns=["process", "PID", "threads", "memory (MB)"])
        return table.round({"memory (MB)": 0})

    def __enter__(self) -> "Server":
        return self if self.state == "running" else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "ready" if self.state == "running" else self.state
        parts = [self.title, state]
        if self.pid:
            parts += [self.url, f"PID {self.pid}"]
        return " · ".join([*parts, f"log {_shown(self.log)}"])

    def _check_port(self) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, self.ports["http"]))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                raise OSError(
                    error.errno,
                    f"Port {self.ports['http']} is taken: another server listens on it. Stop that "
                    "one, or leave the port out and let this one take a free port",
                ) from None

    def _launch(self) -> None:
        # /tmp, because Ray puts sockets there and their names must be short
        self.scratch = Path(tempfile.mkdtemp(prefix="serve-", dir="/tmp"))
        token = self.scratch / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        fill = {"scratch": str(self.scratch), **{k: str(v) for k, v in self.ports.items()}}

        def filled(text: str) -> str:
            return re.sub(rf"\{{({'|'.join(fill)})\}}", lambda match: fill[match[1]], text)

        own = {
            "TUTORIAL_SERVER": fill["scratch"],  # in all its processes, for `left_over`
            "SPT_NOENV": "1",  # else Ray's workers overwrite their environment with their title
            "PORT": fill["http"],
            "MLSERVER_HOST": HOST,
            "MLSERVER_HTTP_PORT": fill["http"],
            "MLSERVER_GRPC_PORT": fill["grpc"],
            "MLSERVER_METRICS_PORT": fill["metrics"],
            "RAY_TMPDIR": fill["scratch"],
            "RAY_AUTH_MODE": "token",  # Ray listens on more than HOST: strangers are turned away
            "RAY_AUTH_TOKEN_PATH": str(token),
        }
        guard = [sys.executable, str(Path(__file__).with_name("_guard.py"))]
        with open(self.log, "wb") as log:
            self._guard = subprocess.Popen(
                [*guard, str(self.scratch), str(GRACE), *map(filled, self._command)],
                cwd=self.cwd,
                env={**os.environ, **environment(), **own, **self._env},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in a terminal is for us, not for the guard
            )

    def _wait(self) -> None:
        assert self._guard
        begin = time.monotonic()
        while True:
            if self._ready(self):
                return show_progress("")
            status = self._guard.poll()
            waited = time.monotonic() - begin
            if status is not None:
                raise self._error(f"ended while it was starting (exit status {status})")
            if waited > self._timeout:
                raise self._error(f"was not ready after {self._timeout:g} s")
            show_progress(f"{self.title} is starting: {waited:.0f} s · {_tail(self.log, 1)[:90]}")
            time.sleep(_POLL)

    def _error(self, what: str) -> ServerError:
        return ServerError(
            f"{self.title} {what}.\n"
            f"  command: {self.shown}\n"
            f"  in:      {_shown(self.cwd)}\n"
            f"  log:     {_shown(self.log)}, of which these are the last lines:\n\n"
            f"{_tail(self.log, 25)}"
        )

    def _kill(self) -> None:
        if self._guard and self._guard.stdin:
            self._guard.send_signal(signal.SIGTERM)  # the guard then kills without grace
            self._guard.wait(10)
            with contextlib.suppress(BrokenPipeError):
                self._guard.stdin.close()
        shutil.rmtree(self.scratch, ignore_errors=True)  # if the guard had not even begun
        self._forget()

    def _forget(self) -> None:
        show_progress("")
        self._guard = None
        if _running.get(self.log) is self:
            del _running[self.log]


def serve_run(
    target: str,
    *arguments: str,
    cwd: str | Path = ".",
    log: str = "serve.log",
    port: int | None = None,
    dashboard: bool = False,
    timeout: float = 180,
    env: Mapping[str, str] | None = None,
) -> Server:
    """Run ``serve run TARGET`` in the background, on a Ray cluster of its own.

    Parameters
    ----------
    target : str
        ``"module:app"``, an application in a Python file of ``cwd``, or a config file
        (``"config.yaml"``).
    *arguments : str
        More arguments for ``serve run``. Those that say how to start or find a Ray
        (``--address``, ``--runtime-env``, ``--working-dir``) have no effect: one runs already.
    cwd : str or Path
        The folder to run it in.
    log : str
        Name of the log file in that folder.
    port : int, optional
        The HTTP port; a free one if not given.
    dashboard : bool
        Start Ray's dashboard as well, at ``server.ports["dashboard"]``. It costs several
        processes and seconds.
    timeout : float
        Seconds to wait until all applications run.
    env : dict of str to str, optional
        Environment variables for it, besides those of this process.

    Returns
    -------
    Server
        Started; every replica is ready.

    Raises
    ------
    FileNotFoundError, SyntaxError, ValueError
        If the folder, the file or the application in it does not exist.
    OSError
        If the port is taken.
    RuntimeError
        If no interpreter has the servers' packages.
    ServerError
        If the application cannot be deployed.

    Examples
    --------
    >>> server = serve_run("serve_deployment:translator_app")               # doctest: +SKIP
    >>> requests.post(server.url, json="Good morning!").text                # doctest: +SKIP
    'Bonjour !'
    >>> server.stop()                                                       # doctest: +SKIP
    """
    folder = _folder(cwd)
    if target.endswith((".yaml", ".yml")):
        if not (folder / target).is_file():
            raise FileNotFoundError(f"There is no {target} in {_shown(folder)}.")
    else:
        _check_import_path(folder, target)

    def ready(server: Server) -> bool:
        file = server.scratch / "ready"
        if file.exists() and (reason := file.read_text()):
            raise server._error(f"cannot deploy it: {reason.strip().splitlines()[-1]}")
        return file.exists()

    dashboard_port = "{dashboard}" if dashboard else "0"
    launcher = str(Path(__file__).with_name("_ray.py"))
    command = [server_python(), launcher, "{http}", "{scratch}/ready", dashboard_port]
    return Server(
        "Ray Serve",
        " ".join(["serve run", target, *arguments]),
        [*command, target, *arguments],
        ready,
        cwd=folder,
        log=log,
        port=port,
        timeout=timeout,
        env=env,
    ).start()


def mlserver_start(
    folder: str | Path = ".",
    *,
    cwd: str | Path = ".",
    log: str = "mlserver.log",
    port: int | None = None,
    timeout: float = 180,
    env: Mapping[str, str] | None = None,
) -> Server:
    """Run ``mlserver start FOLDER`` in the background.

    Parameters
    ----------
    folder : str or Path
        The model repository: a folder with a ``settings.json`` (optional) and a
        ``model-settings.json``, there or in folders below. Relative to ``cwd``.
    cwd : str or Path
        The folder to run it in.
    log : str
        Name of the log file in ``cwd``.
    port : int, optional
        The HTTP port. If not given, the one in ``settings.json``, else a free one.
    timeout : float
        Seconds to wait until all models of the repository are ready.
    env : dict of str to str, optional
        Environment variables for it, besides those of this process. What ``settings.json`` says
        wins over its ``MLSERVER_`` variables.

    Returns
    -------
    Server
        Started; every model is ready.

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder does not exist or one of its JSON files is not JSON.
    OSError
        If the port is taken.
    ServerError
        If the server ends before its models are ready.

    Examples
    --------
    >>> server = mlserver_start(".")                                        # doctest: +SKIP
    >>> requests.get(server.url + "/v2/models/translator/ready").status_code  # doctest: +SKIP
    200
    >>> server.stop()                                                       # doctest: +SKIP
    """
    repository = _folder(Path(cwd) / folder)
    settings = repository / "settings.json"
    configured = _read_json(settings) if settings.is_file() else {}
    names = [
        _read_json(file).get("name", file.parent.name)
        for file in sorted(repository.rglob("model-settings.json"))
    ]
    if not configured.get("load_models_at_startup", True):
        names = []
    probes = [f"/v2/models/{name}/ready" for name in names] or ["/v2/health/ready"]

    server = Server(
        "MLServer",
        f"mlserver start {folder}",
        [str(Path(server_python()).with_name("mlserver")), "start", str(folder)],
        lambda server: all(_answers(server.url + probe) for probe in probes),
        cwd=_folder(cwd),
        log=log,
        port=port or configured.get("http_port"),
        timeout=timeout,
        env=env,
    )
    for kind in ("grpc", "metrics"):  # settings.json wins over the environment
        server.ports[kind] = configured.get(f"{kind}_port", server.ports[kind])
    return server.start()


def python_run(
    script: str,
    *arguments: str,
    ready: str,
    cwd: str | Path = ".",
    timeout: float = 180,
    env: Mapping[str, str] | None = None,
) -> Server:
    """Run a Python script that starts a server, in the background.

    The script finds its port in the environment variable ``PORT``; MLServer's ``Settings`` finds
    its ports there by itself.

    Parameters
    ----------
    script : str
        A Python file in ``cwd``.
    *arguments : str
        Arguments for it; ``{grpc}`` and the like stand for ports, as in `command_run`.
    ready : str
        How to tell that the models are ready: a path that then answers with status 200, such as
        ``"/v2/models/translator/ready"``, or else a text that is then in the log.
    cwd : str or Path
        The folder to run it in. The log file is there too, named after the script.
    timeout : float
        Seconds to wait until it is ready.
    env : dict of str to str, optional
        Environment variables for it, besides those of this process.

    Returns
    -------
    Server
        Started and ready.

    Raises
    ------
    FileNotFoundError
        If there is no such script.
    ServerError
        If the script ends before it is ready.

    Examples
    --------
    >>> server = python_run("app.py", ready="/v2/models/translator/ready")  # doctest: +SKIP
    """
    if not (_folder(cwd) / script).is_file():
        raise FileNotFoundError(f"There is no {script} in {_shown(_folder(cwd))}.")
    return command_run(
        shlex.join(["python", script, *arguments]),
        ready=ready,
        cwd=cwd,
        log=Path(script).stem + ".log",
        timeout=timeout,
        env=env,
    )


def command_run(
    command: str,
    *,
    ready: str,
    cwd: str | Path = ".",
    log: str,
    timeout: float = 180,
    env: Mapping[str, str] | None = None,
) -> Server:
    """Run any command that starts a server, in the background.

    Parameters
    ----------
    command : str
        As you would type it; no shell reads it. ``python`` is the one that runs the servers.
        ``{http}``, ``{grpc}``, ``{metrics}`` and ``{dashboard}`` stand for free ports
        (`Server.ports`), ``{scratch}`` for a temporary folder.
    ready : str
        How to tell that it is ready: a path that then answers with status 200, or else a text that
        is then in the log.
    cwd : str or Path
        The folder to run it in.
    log : str
        Name of the log file in that folder.
    timeout : float
        Seconds to wait until it is ready.
    env : dict of str to str, optional
        Environment variables for it, besides those of this process.

    Returns
    -------
    Server
        Started and ready.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    ServerError
        If the command does not exist, or ends before it is ready.

    Examples
    --------
    >>> head = command_run(                                                 # doctest: +SKIP
    ...     "ray start --head --block --port={http}", ready="--block", log="head.log"
    ... )
    """
    first, *arguments = shlex.split(command)
    return Server(
        arguments[0] if first == "python" else first,
        command,
        [server_python() if first == "python" else first, *arguments],
        lambda server: (
            _answers(server.url + ready) if ready.startswith("/") else ready in _read(server.log)
        ),
        cwd=_folder(cwd),
        log=log,
        timeout=timeout,
        env=env,
    ).start()


def workspace(name: str) -> None:
    """Make ``work/NAME`` beside the notebook the current folder, empty, and set up its environment.

    Files that a notebook writes go there. Afterwards ``!serve``, ``!mlserver`` and ``!python`` in
    a cell are those of the interpreter that runs the servers. Servers that an earlier run of the
    notebook in the same kernel left are stopped, and what it recorded is forgotten.

    Parameters
    ----------
    name : str
        The notebook's name.

    Examples
    --------
    >>> workspace("02_ray_serve")                                           # doctest: +SKIP
    """
    for server in list(_running.values()):
        server.stop()
    folder = START / "work" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.chdir(folder)
    os.environ.update(environment())


def show(table: pd.DataFrame) -> Styler:
    """Show a table without its index, with text to the left and whole numbers.

    Parameters
    ----------
    table : pandas.DataFrame
        Such as `Server.processes` returns.

    Returns
    -------
    pandas.io.formats.style.Styler
        What a notebook renders as HTML.
    """
    text = table.select_dtypes("object").columns
    return (
        table.style.hide(axis="index")
        .format(precision=0)
        .set_properties(subset=text, **{"text-align": "left"})
    )


def left_over() -> list[psutil.Process]:
    """Find every running process of every server that this module started, in any kernel.

    Returns
    -------
    list of psutil.Process
        Empty when all were stopped.
    """
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                if "TUTORIAL_SERVER" in process.environ():
                    found.append(process)
    return found


def _free_ports(*names: str) -> dict[str, int]:
    with contextlib.ExitStack() as stack:  # all open at the same time, so that they differ
        sockets = [stack.enter_context(socket.socket()) for _ in names]
        for each in sockets:
            each.bind((HOST, 0))
        return {name: each.getsockname()[1] for name, each in zip(names, sockets, strict=True)}


def _answers(url: str) -> bool:
    """Tell whether a GET of an address comes back with status 200."""
    try:
        return requests.get(url, timeout=1).status_code == 200
    except requests.RequestException:
        return False


def _folder(path: str | Path) -> Path:
    folder = Path(path).absolute()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"There is no folder {_shown(folder)}. Make it first, or pass another one."
        )
    return folder


def _check_import_path(folder: Path, target: str) -> None:
    """Say what is wrong with ``module:app`` before Ray needs ten seconds to say it."""
    if not re.fullmatch(r"[\w.]+:\w+", target):
        raise ValueError(
            f"{target!r} is neither an import path nor a config file. Write module:application, "
            "such as serve_deployment:translator_app, or the name of a .yaml file."
        )
    module, _, name = target.partition(":")
    place = folder / module.replace(".", "/")
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    if not file.is_file():
        raise FileNotFoundError(
            f"{target!r} is looked for in {file.name}, which is not in {_shown(folder)}. The part "
            "before the colon must be the name of the file, without .py."
        )
    names: set[str] = set()
    for node in ast.parse(file.read_text(), file.name).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        else:
            names |= {
                part.id
                for part in ast.walk(node)
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
            }
    if "*" in names:  # from module import *
        return
    if name not in names:
        raise ValueError(
            f"{file.name} has no {name!r}. The part after the colon must be one of: "
            f"{', '.join(sorted(names))}."
        )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{_shown(file)} is not JSON: {error}. Keys need double quotes, and there are no "
            "comments and no comma after the last entry."
        ) from None
    if not isinstance(content, dict):
        raise ValueError(f"{_shown(file)} must hold one JSON object, {{...}}.")
    return content


def _shown(path: Path) -> str:
    """Show a path relative to the notebook, never with the folders of this machine."""
    try:
        return str(path.relative_to(START))
    except ValueError:
        return path.name


def _tail(file: Path, lines: int) -> str:
    """Return the last lines of a log, however long it is, without those of our own probes."""
    shown = [line for line in _read(file).rstrip().splitlines() if not _PROBE.search(line)]
    return "\n".join(shown[-lines:])


def _read(file: Path) -> str:
    """Return the last megabyte of a log, without colours."""
    with open(file, "rb") as log:
        log.seek(max(0, os.path.getsize(file) - 2**20))
        return _COLOUR.sub("", log.read().decode(errors="replace"))


def _title(process: psutil.Process) -> str:
    """Name a process by its command, without folders and interpreter options."""
    words = [os.path.basename(w) or w for w in process.cmdline() if not w.startswith("-")]
    return " ".join(words)[:60] or process.name()


_shown_progress = ""


def show_progress(text: str) -> None:
    """Show one line that replaces the one before; an empty one leaves nothing."""
    global _shown_progress
    if text == _shown_progress:  # nothing to clear, and a cell keeps what it has printed
        return
    _shown_progress = text
    if (shell := get_ipython()) and shell.__class__.__name__ == "ZMQInteractiveShell":
        clear_output(wait=bool(text))
        if text:
            print(text)
    elif sys.stderr.isatty():
        print("\r\033[K" + text, end="", file=sys.stderr, flush=True)
