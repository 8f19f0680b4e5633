"""The servers that the notebooks write, started from their own cells, and how to ask each of them.

A name says what stands behind it: `MLServer`, `FastAPI` (in Ray Serve) or `plain` (a class of Ray
Serve that reads its request by itself).
"""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from test_notebooks import written

from helpers import Server, mlserver_start, models, python_run, serve_run
from helpers.interpreter import server_python
from tools.notebooks import find

SENTENCE, FRENCH = "The weather is nice today.", "Il fait beau aujourd'hui."
STORY = f"{SENTENCE} We went to the park. The children played with the dog."
PROMPT = "My sister and I"  # the small generator has 128 positions, and fills 120 of them itself
TOKEN = {"Authorization": "Bearer secret"}
FLOATS = b"\x00\x00\x80\x3f\x00\x00\x40\x40"  # 1.0 and 3.0 of 32 bits
MEAN = b"\x00\x00\x00\x40"  # how 2.0 ends, be it of 32 bits or of 64


@dataclass(frozen=True)
class Target:
    """An address: a good request, the text in it (or the number), and what the answer says."""

    name: str
    path: str
    good: object
    text: object
    says: str = ""  # if empty: the same before all bad requests and after them
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """A method over gRPC: how the model's input is wrapped in a message, and a good input."""

    name: str
    method: str
    wrap: Callable[[bytes], bytes]
    good: bytes
    says: bytes = b""
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Setup:
    """A server: the notebook that writes it, how it is started, and what to ask of it."""

    notebook: str
    run: Callable[[Path], Server]
    addresses: Sequence[Target | Call]

    def start(self, folder: Path) -> Server:
        """Write the files of the notebook's cells into a folder and start the server there."""
        [path] = find([self.notebook])
        for name, text in written(nbformat.read(path, as_version=4))[-1].items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        return self.run(folder)


def repository(folder: Path, settings: Mapping[str, Mapping[str, object]]) -> None:
    """Write what the notebooks write from Python: a `model-settings.json` for each model."""
    for name, each in settings.items():
        (folder / name).mkdir(parents=True)
        file = folder / name / "model-settings.json"
        file.write_text(json.dumps({"name": name, **each}))


def run_02_ray(folder: Path) -> Server:
    apps = {"plain": "serve_deployment:translator_app"}
    apps["validated"] = "serve_validated:validated_app"
    rows = [{"name": n, "route_prefix": f"/{n}", "import_path": app} for n, app in apps.items()]
    (folder / "both.yaml").write_text(json.dumps({"applications": rows}))  # JSON is YAML
    return serve_run("both.yaml", cwd=folder)


def run_03(folder: Path) -> Server:
    task = {"task": "translation", "task_suffix": "_en_to_fr"}
    parameters = {"extra": {**task, "pretrained_model": models.translator()}}
    runtime = {"implementation": "mlserver_huggingface.HuggingFaceRuntime"}
    repository(folder, {"translator": {**runtime, "parameters": parameters}})
    return mlserver_start(cwd=folder)


def run_04(folder: Path) -> Server:
    repository(folder, {"short": {"implementation": "my_short_summarizer.Summarizer"}})
    return mlserver_start(cwd=folder)


def run_05(folder: Path) -> Server:
    return python_run("run_mlserver.py", ready="/v2/models/summarizer/ready", cwd=folder)


def run_05_ray(folder: Path) -> Server:
    return python_run("run_ray_serve.py", ready="Application 'default' is ready", cwd=folder)


def run_09(folder: Path) -> Server:
    classes = {"translator": "Translator", "guarded": "GuardedTranslator"}
    classes |= {"generator": "Generator", "main_generator": "Generator"}
    settings: dict[str, dict[str, object]] = {
        name: {"implementation": f"mlserver_models.{each}"} for name, each in classes.items()
    }
    settings["mean"] = {"implementation": "mlserver_mean.Mean"}
    settings["main_generator"]["parallel_workers"] = 0
    repository(folder / "repository", settings)
    return mlserver_start("repository", cwd=folder, env={"WRITTEN": str(folder / "written.txt")})


def run_09_ray(folder: Path) -> Server:
    compiler = [server_python(), "-m", "grpc_tools.protoc", "-I.", "--python_out=."]
    subprocess.run([*compiler, "--grpc_python_out=.", "models.proto"], cwd=folder, check=True)
    arguments, env = ["{http}", "{grpc}", "on"], {"WRITTEN": str(folder / "written.txt")}
    ready = "All applications run"
    return python_run("run_ray_serve.py", *arguments, ready=ready, cwd=folder, env=env)


def run_11(folder: Path) -> Server:
    classes = ["Summarizer", "Translator", "Chain", "OneRuntime"]
    chain = {each.lower(): {"implementation": f"mlserver_chain.{each}"} for each in classes}
    repository(folder / "tuned", chain)
    return mlserver_start("tuned", cwd=folder)


def run_12(folder: Path) -> Server:
    repository(folder / "default", {"capitals": {"implementation": "capitals.Capitals"}})
    return mlserver_start("default", cwd=folder)


def runs(app: str) -> Callable[[Path], Server]:
    """Make what starts an application of Ray Serve by its import path."""
    return lambda folder: serve_run(app, cwd=folder)


def texts(text: str, name: str = "text") -> dict[str, object]:
    """Make a request of the Open Inference Protocol with one text."""
    return {"inputs": [{"name": name, "shape": [1], "datatype": "BYTES", "data": [text]}]}


ROW = {"name": "row", "shape": [3], "datatype": "FP32", "data": [1.0, 2.0, 3.0]}


def v2(model: str, method: str = "infer") -> str:
    return f"/v2/models/{model}/{method}"


def message(number: int, content: bytes) -> bytes:
    """Encode a field of a protobuf message that holds bytes, or another message."""
    size, rest = b"", len(content)
    while rest > 127:
        size, rest = size + bytes([rest & 127 | 128]), rest >> 7
    return bytes([number << 3 | 2]) + size + bytes([rest]) + content


def infer(model: str) -> Callable[[bytes], bytes]:
    """Make what wraps bytes in a request of the protocol: one tensor, one element."""

    def wrap(content: bytes) -> bytes:
        shape = b"\x01"
        tensor = message(1, b"text") + message(2, b"BYTES") + message(3, shape)
        return message(1, model.encode()) + message(5, tensor + message(5, message(8, content)))

    return wrap


def only_field(content: bytes) -> bytes:
    return message(1, content)


def to_mlserver(name: str, method: str, model: str, good: bytes, says: bytes = b"") -> Call:
    path = f"/inference.GRPCInferenceService/{method}"
    return Call(f"09 gRPC MLServer, {name}", path, infer(model), good, says)


def to_ray(application: str, method: str, good: bytes, says: bytes = b"") -> Call:
    name, path = f"09 gRPC Ray Serve, {application}", f"/Models/{method}"
    return Call(name, path, only_field, good, says, (("application", application),))


SERVERS = {
    "02 Ray Serve": Setup(
        "02",
        run_02_ray,
        [
            Target("02 Ray Serve, plain", "/plain", SENTENCE, SENTENCE, FRENCH),
            Target(
                "02 Ray Serve, FastAPI",
                "/validated/translate",
                {"text": SENTENCE},
                SENTENCE,
                FRENCH,
            ),
        ],
    ),
    "03 MLServer": Setup(
        "03",
        run_03,
        [
            Target(
                "03 MLServer, Hugging Face",
                v2("translator"),
                texts(SENTENCE, "array_inputs"),
                SENTENCE,
                FRENCH,
            ),
        ],
    ),
    "04 MLServer": Setup(
        "04",
        run_04,
        [
            Target("04 MLServer, summarizer", v2("summarizer"), texts(STORY), STORY, SENTENCE),
            Target("04 MLServer, decode_args", v2("short"), texts(STORY), STORY, SENTENCE),
        ],
    ),
    "04 Ray Serve": Setup(
        "04",
        runs("serve_summarizer:summarizer_app"),
        [
            Target("04 Ray Serve, FastAPI", "/summarize", {"text": [STORY]}, STORY, SENTENCE),
        ],
    ),
    "05 MLServer": Setup(
        "05",
        run_05,
        [
            Target("05 MLServer, decode_args", v2("summarizer"), texts(STORY), STORY, SENTENCE),
        ],
    ),
    "05 Ray Serve": Setup(
        "05",
        run_05_ray,
        [
            Target("05 Ray Serve, plain", "/", STORY, STORY, SENTENCE),
        ],
    ),
    "09 MLServer": Setup(
        "09",
        run_09,
        [
            Target("09 MLServer, translator", v2("translator"), texts(SENTENCE), SENTENCE, FRENCH),
            Target("09 MLServer, guarded", v2("guarded"), texts(SENTENCE), SENTENCE, FRENCH, TOKEN),
            Target("09 MLServer, mean", v2("mean"), {"inputs": [ROW]}, 2.0, "2.0"),
            Target("09 MLServer, generator", v2("generator"), texts(PROMPT), PROMPT),
            Target(
                "09 MLServer, stream",
                v2("main_generator", "generate_stream"),
                texts(PROMPT),
                PROMPT,
            ),
            to_mlserver(
                "translator", "ModelInfer", "translator", SENTENCE.encode(), FRENCH.encode()
            ),
            to_mlserver("mean", "ModelInfer", "mean", FLOATS, MEAN),
            to_mlserver("stream", "ModelStreamInfer", "main_generator", PROMPT.encode()),
        ],
    ),
    "09 Ray Serve": Setup(
        "09",
        run_09_ray,
        [
            Target("09 Ray Serve, FastAPI", "/translator/translate", [SENTENCE], SENTENCE, FRENCH),
            Target(
                "09 Ray Serve, FastAPI guarded",
                "/translator/guarded",
                [SENTENCE],
                SENTENCE,
                FRENCH,
                TOKEN,
            ),
            Target(
                "09 Ray Serve, FastAPI V2",
                "/translator" + v2("translator"),
                texts(SENTENCE),
                SENTENCE,
                FRENCH,
            ),
            Target("09 Ray Serve, FastAPI stream", "/generator/generate_stream", PROMPT, PROMPT),
            Target("09 Ray Serve, plain mean", "/mean", [1.0, 2.0, 3.0], 2.0, "2.0"),
            to_ray("translator", "Translate", SENTENCE.encode(), FRENCH.encode()),
            to_ray("mean", "Mean", FLOATS, MEAN),
            to_ray("generator", "Generate", PROMPT.encode()),
        ],
    ),
    "11 MLServer": Setup(
        "11",
        run_11,
        [
            Target("11 MLServer, decode_args", v2("oneruntime"), texts(STORY), STORY),
            Target("11 MLServer, decode_args chain", v2("chain"), texts(STORY), STORY),
        ],
    ),
    "11 Ray Serve": Setup(
        "11",
        runs("serve_chain:chain_app"),
        [
            Target("11 Ray Serve, plain", "/", STORY, STORY),
        ],
    ),
    "12 MLServer": Setup(
        "12",
        run_12,
        [
            Target("12 MLServer, decode_args", v2("capitals"), texts("paris"), "paris", "PARIS"),
        ],
    ),
    "12 Ray Serve": Setup(
        "12",
        runs("serve_capitals:app"),
        [
            Target("12 Ray Serve, plain", "/", "paris", "paris", "PARIS"),
        ],
    ),
}
