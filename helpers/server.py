"""A model server in the background of a notebook.

It is started under a guard (`helpers/programs/guard.py`) in a process group of its own, on free
ports of 127.0.0.1. Starting returns when its models are ready, and says why when they never will
be. Nothing is left behind: not by `Server.stop`, not by an interrupt, not by a kernel that is
killed. `helpers.launch` has the commands.
"""

import contextlib
import errno
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import psutil

from helpers import pace
from helpers.display import progress
from helpers.environment import environment
from helpers.ports import HOST, OF_A_SERVER, reserve
from helpers.workspace import running, shown

GRACE = 30.0  # seconds that a server has to stop by itself before it is killed
POLL = 0.1  # seconds between two looks at a server that starts
_GUARD = Path(__file__).parent / "programs" / "guard.py"
_PROBE = re.compile(r'"GET \S*/(ready|healthz) HTTP')  # our own looks, of no interest in a log
_ACTOR = re.compile(r"^:actor_name:(.+)", re.MULTILINE)  # how the log of a worker of Ray begins
_COLOUR = re.compile(r"\033\[\d*m")
# Ray gives each of its nodes half a minute to start, a constant in its node.py. On a slow or busy
# machine that may be too little at first, and enough when all files have been read once.
_TOO_SLOW = "The current node timed out during startup"
_RAISED = re.compile(r"^\w\S*(?:Error|Exception): .+", re.MULTILINE)  # how a traceback ends


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
        ``{dashboard}``, ``{stats}`` are replaced by a temporary folder and by ports.
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
        Environment variables for it, besides those of this process. The same is replaced in them.

    Attributes
    ----------
    url : str
        ``http://127.0.0.1:<port>``.
    ports : dict of str to int
        ``http``, ``grpc``, ``metrics``, ``dashboard`` and ``stats``; which of them are used is the
        server's own business.
    log : Path
        The log file.
    env : dict of str to str
        The environment variables that it was given, ``{http}`` and the like not yet replaced.
    abrupt : bool
        In quick pace `stop` kills at once. Not for a server that would leave something behind, as
        MLServer does its semaphores.
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
        self._timeout, self.env = timeout, dict(env or {})
        self.abrupt = False
        self._guard: subprocess.Popen[bytes] | None = None
        self.scratch = Path("/tmp/serve-not-started")
        first, names = reserve(OF_A_SERVER), ["http", "grpc", "metrics", "dashboard", "stats"]
        self.ports = {name: first + place for place, name in enumerate(names)}
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
        cell again replaces the server. An interrupt while waiting stops everything. A Ray whose
        node took longer to start than Ray allows is started once more; its log tells of both.

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
        if old := running.pop(self.log, None):
            old.stop()
        self._check_port()
        try:
            self._try()
        except ServerError as error:
            if _TOO_SLOW not in str(error):
                raise
            self._try("ab")  # the log tells of both
        return self

    def _try(self, mode: str = "wb") -> None:
        running[self.log] = self
        try:
            self._launch(mode)
            self._wait()
        except BaseException:
            self._kill()
            raise

    def stop(self) -> None:
        """Stop the server as Ctrl-C would, and wait until all its processes are gone.

        What has not ended after the grace is killed; an interrupt kills at once. Stopping a
        server that does not run does nothing.
        """
        if self._guard is None:
            return
        if self.abrupt and pace.quick():
            return self._kill()
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
            with contextlib.suppress(psutil.Error):  # one that cannot be read hides nobody below it
                # elsewhere, the full information on a process is for root only
                full = psutil.LINUX
                memory = process.memory_full_info() if full else process.memory_info()
                size = memory.pss if full else memory.rss
                name = "\u2003" * depth + (_title(process) if depth else self.shown)
                rows.append((name, process.pid, process.num_threads(), size / 2**20))
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in process.children():
                    add(child, depth + 1)

        if pid := self.pid:
            with contextlib.suppress(psutil.NoSuchProcess):
                add(psutil.Process(pid), 0)
        table = pd.DataFrame(rows, columns=["process", "PID", "threads", "memory (MB)"])
        return table.round({"memory (MB)": 0})

    def command_lines(self) -> dict[int, list[str]]:
        """Read the command lines of the processes that the server has started.

        Returns
        -------
        dict
            The words of each, by process ID; without those that end meanwhile or cannot be read.
        """
        words: dict[int, list[str]] = {}
        if pid := self.pid:
            with contextlib.suppress(psutil.NoSuchProcess):
                for process in psutil.Process(pid).children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        words[process.pid] = process.cmdline()
        return words

    def __enter__(self) -> "Server":
        return self if self.state == "running" else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "ready" if self.state == "running" else self.state
        parts = [self.title, state]
        if self.pid:
            parts += [self.url, f"PID {self.pid}"]
        return " · ".join([*parts, f"log {shown(self.log)}"])

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

    def _launch(self, mode: str) -> None:
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
            "RAY_AUTH_MODE": "token",  # whoever reaches Ray all the same is turned away
            "RAY_AUTH_TOKEN_PATH": str(token),
        }
        env = {name: filled(value) for name, value in self.env.items()}
        guard = [sys.executable, str(_GUARD)]
        with open(self.log, mode) as log:
            self._guard = subprocess.Popen(
                [*guard, str(self.scratch), str(GRACE), *map(filled, self._command)],
                cwd=self.cwd,
                env={**os.environ, **environment(), **own, **env},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in a terminal is for us, not for the guard
            )

    def _wait(self) -> None:
        assert self._guard
        begin = time.monotonic()
        with progress() as line:
            while not self._ready(self):
                status = self._guard.poll()
                waited = time.monotonic() - begin
                if status is not None:
                    raise self.failure(f"ended while it was starting (exit status {status})")
                if waited > self._timeout:
                    raise self.failure(f"was not ready after {self._timeout:g} s")
                line.show(f"{self.title} is starting: {waited:.0f} s · {_tail(self.log, 1)[:90]}")
                time.sleep(POLL)

    def failure(self, what: str) -> ServerError:
        """Return the error that says what went wrong, with the command and the end of its log."""
        tail = _tail(self.log, 25)
        # A server that stops in good order may write more than that after the error that ended it.
        raised = dict.fromkeys(_RAISED.findall(read_log(self.log)))
        earlier = "".join(f"  raised:  {line}\n" for line in raised if line not in tail)
        return ServerError(
            f"{self.title} {what}.\n"
            f"  command: {self.shown}\n"
            f"  in:      {shown(self.cwd)}\n"
            f"{earlier}"
            f"  log:     {shown(self.log)}, of which these are the last lines:\n\n"
            f"{tail}"
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
        self._guard = None
        if running.get(self.log) is self:
            del running[self.log]


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


def _tail(file: Path, lines: int) -> str:
    """Return the last lines of a log, however long it is, without those of our own probes."""
    seen = [line for line in read_log(file).rstrip().splitlines() if not _PROBE.search(line)]
    return "\n".join(seen[-lines:])


def read_log(file: Path) -> str:
    """Return the last megabyte of a log, without colours."""
    with open(file, "rb") as log:
        log.seek(max(0, os.path.getsize(file) - 2**20))
        return _COLOUR.sub("", log.read().decode(errors="replace"))


def _title(process: psutil.Process) -> str:
    """Name a process by its command, without folders and interpreter options."""
    words = [os.path.basename(w) or w for w in process.cmdline() if not w.startswith("-")]
    name = _actor(process) if "default_worker.py" in words else ""
    return (name or " ".join(words))[:60] or process.name()


def _actor(process: psutil.Process) -> str:
    """Give a Ray worker the title that it lacks, from its log.

    Each worker sets RAY_CLIENT_MODE as it imports Ray. If that is the first of the variables that
    it has inherited, in an order that each cluster chooses anew, it does not find its own command
    line, which is where a title goes. Of some seventy variables, so of one cluster in seventy.
    """
    for file in process.open_files():
        if os.path.basename(file.path).startswith("worker-"):
            with open(file.path, errors="replace") as log:
                if found := _ACTOR.search(log.read(1000)):
                    return f"ray::{found[1]}"
    return ""
