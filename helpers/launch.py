"""The commands that start a model server: what each needs is checked first, then it runs.

All of them return a `Server` (`helpers.server`) that is ready.
"""

import ast
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

from helpers.environment import tuned as tuned_variables
from helpers.interpreter import server_python
from helpers.server import Server, read_log
from helpers.workspace import shown

_SERVE = Path(__file__).parent / "programs" / "serve.py"


def serve_run(
    target: str,
    *arguments: str,
    cwd: str | Path = ".",
    log: str = "serve.log",
    dashboard: bool = False,
    tuned: bool = False,
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
    dashboard : bool
        Start Ray's dashboard as well, at ``server.ports["dashboard"]``. It costs several
        processes and seconds.
    tuned : bool
        With all that its makers recommend for speed (`helpers.tuned`): HAProxy instead of the
        Python proxy, and what ``RAY_SERVE_THROUGHPUT_OPTIMIZED=1`` stands for. Where there is no
        HAProxy for the system, it says so and does without.
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
            raise FileNotFoundError(f"There is no {target} in {shown(folder)}.")
    else:
        check_import_path(folder, target)

    def ready(server: Server) -> bool:
        file = server.scratch / "ready"
        if file.exists() and (reason := file.read_text()):
            raise server.failure(f"cannot deploy it: {reason.strip().splitlines()[-1]}")
        return file.exists()

    dashboard_port = "{dashboard}" if dashboard else "0"
    command = [server_python(), str(_SERVE), "{http}", "{scratch}/ready", dashboard_port]
    server = Server(
        "Ray Serve",
        " ".join(["serve run", target, *arguments]),
        [*command, target, *arguments],
        ready,
        cwd=folder,
        log=log,
        timeout=timeout,
        env={**(tuned_variables() if tuned else {}), **(env or {})},
    )
    server.abrupt = True
    return server.start()


def mlserver_start(
    folder: str | Path = ".",
    *,
    cwd: str | Path = ".",
    log: str = "mlserver.log",
    timeout: float = 180,
    env: Mapping[str, str] | None = None,
) -> Server:
    """Run ``mlserver start FOLDER`` in the background.

    Parameters
    ----------
    folder : str or Path
        The model repository: a folder with a ``settings.json`` (optional) and a
        ``model-settings.json``, there or in folders below. Relative to ``cwd``. Ports that
        ``settings.json`` does not name are free ones.
    cwd : str or Path
        The folder to run it in.
    log : str
        Name of the log file in ``cwd``.
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
        port=configured.get("http_port"),
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
        raise FileNotFoundError(f"There is no {script} in {shown(_folder(cwd))}.")
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
    title = first
    if first == "python":  # people name the script or the module instead
        title = next(word for word in [*arguments, first] if not word.startswith("-"))
    return Server(
        Path(title).name,
        command,
        [server_python() if first == "python" else first, *arguments],
        lambda server: (
            _answers(server.url + ready) if ready.startswith("/") else ready in read_log(server.log)
        ),
        cwd=_folder(cwd),
        log=log,
        timeout=timeout,
        env=env,
    ).start()


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
            f"There is no folder {shown(folder)}. Make it first, or pass another one."
        )
    return folder


def check_import_path(folder: Path, target: str) -> None:
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
            f"{target!r} is looked for in {file.name}, which is not in {shown(folder)}. The part "
            "before the colon must be the name of the file, without .py."
        )
    definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    names: set[str] = set()
    for node in ast.parse(file.read_text(), file.name).body:
        # a definition's own names are not the module's; those below an `if` or a `try` are
        for part in [node] if isinstance(node, definition) else ast.walk(node):
            if isinstance(part, definition):
                names.add(part.name)
            elif isinstance(part, ast.Import | ast.ImportFrom):
                names |= {alias.asname or alias.name for alias in part.names}
            elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                names.add(part.id)
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
            f"{shown(file)} is not JSON: {error}. Keys need double quotes, and there are no "
            "comments and no comma after the last entry."
        ) from None
    if not isinstance(content, dict):
        raise ValueError(f"{shown(file)} must hold one JSON object, {{...}}.")
    return content
