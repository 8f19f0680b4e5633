"""The names of helpers.models: which model, does the hub path work, and what if there is no hub.

The hub is a local stand-in (fake_hub.py). huggingface_hub reads its settings when it is imported,
so that "the kernel" is a process of its own here, as is "the server" that loads the model.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_hub import FakeHub

from helpers import models, reference

ROOT = Path(__file__).resolve().parents[1]
Env = Callable[..., dict[str, str]]
SERVER = os.environ.get("SERVER_PYTHON", sys.executable)
NAMES = {"translator": "t5-small", "summarizer": "t5-small", "generator": "distilgpt2"}
NEW_NAMES = {"t5-small": "google-t5/t5-small", "distilgpt2": "distilbert/distilgpt2"}

# Models with random weights and a dozen words: what they say is nonsense, but always the same
MAKE = """
import sys, torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, T5Config,
                          T5ForConditionalGeneration)
words = "<pad> </s> <unk> hello world the cat is here bonjour monde chat ici".split()
tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64,
                                    pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
torch.manual_seed(1)
t5 = T5ForConditionalGeneration(T5Config(
    vocab_size=len(words), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2,
    decoder_start_token_id=0))
gpt2 = GPT2LMHeadModel(GPT2Config(
    vocab_size=len(words), n_positions=64, n_embd=16, n_layer=1, n_head=2,
    bos_token_id=1, eos_token_id=1, pad_token_id=0))
for name, model, safe in (("t5", t5, True), ("gpt2", gpt2, True), ("t5-bin", t5, False)):
    model.generation_config.update(min_new_tokens=6, max_new_tokens=6, suppress_tokens=[0, 1, 2])
    model.save_pretrained(f"{sys.argv[1]}/{name}", safe_serialization=safe)
    tokenizer.save_pretrained(f"{sys.argv[1]}/{name}")
"""

# What a server does, in short
ANSWER = """
import os
from transformers import pipeline
translate = pipeline("translation_en_to_fr", model=os.environ["TRANSLATOR_MODEL"])
print(translate("hello world")[0]["translation_text"])
generate = pipeline("text-generation", model=os.environ["GENERATOR_MODEL"])
print(generate("hello world")[0]["generated_text"])
"""


def run(python: str, code: str, *arguments: str, env: dict[str, str]) -> str:
    """What a script prints; it must succeed."""
    done = subprocess.run([python, "-c", code, *arguments], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def fail(code: str, env: dict[str, str]) -> str:
    """The last line of the traceback of a script in the kernel; it must fail."""
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode != 0, done.stdout
    return done.stderr.strip().splitlines()[-1]


def name(role: str = "translator") -> str:
    """A script that prints the name of a role's model."""
    return f"from helpers import models; print(models.{role}())"


def safetensors(path: Path, **shapes: list[int]) -> None:
    """Write a safetensors file of zeros."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor, shape in shapes.items():
        start, end = end, end + 4 * (shape[0] * shape[1])
        header[tensor] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))


@pytest.fixture(autouse=True)
def nobodys_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in os.environ:
        if variable.startswith(("HF_", "TRANSFORMERS_")) or variable.endswith("_MODEL"):
            monkeypatch.delenv(variable)
    monkeypatch.delenv("TUTORIAL_MODELS", raising=False)
    models._cached_or_reachable.cache_clear()
    models._reachable.cache_clear()


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A models/ folder of the test's own, for the process of the test."""
    for role in NAMES:
        folder = tmp_path / "models" / role
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        safetensors(folder / "model.safetensors", shared=[6000, 200], mask=[10, 10])
    monkeypatch.setattr(models, "STAND_INS", tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository on the hub: a model that nobody loads, in several formats."""
    folder = tmp_path / "repository"
    (folder / "onnx").mkdir(parents=True)
    for file in ("config.json", "tokenizer.json", "spiece.model", "pytorch_model.bin"):
        (folder / file).write_text(f'"{file}"')
    for file in ("README.md", "tf_model.h5", "onnx/m.onnx", "onnx/onnx_config.json"):
        (folder / file).write_text(f'"{file}"')
    safetensors(folder / "model.safetensors", shared=[6000, 200])
    return folder


@pytest.fixture
def hub(repository: Path) -> Iterator[FakeHub]:
    with FakeHub(dict.fromkeys(NEW_NAMES.values(), repository), NEW_NAMES) as hub:
        yield hub


@pytest.fixture
def env(tmp_path: Path, hub: FakeHub) -> Env:
    """Environments of kernels: a cache of the test's own, the stand-in as the hub."""

    def make(**variables: str) -> dict[str, str]:
        return os.environ | {
            "PYTHONPATH": str(ROOT),
            "HF_HOME": str(tmp_path / "hub-home"),
            "HF_ENDPOINT": hub.url,
            "NO_PROXY": "127.0.0.1",
            **variables,
        }

    return make


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small models that do load: t5, gpt2, and t5-bin with its weights in a .bin."""
    installed = "from importlib.util import find_spec; print(bool(find_spec('transformers')))"
    if run(SERVER, installed, env=dict(os.environ)) != "True":
        pytest.skip("the server's Python has no transformers")
    folder = tmp_path_factory.mktemp("tiny")
    run(SERVER, MAKE, str(folder), env=os.environ | {"USE_TF": "0"})
    return folder


@pytest.fixture(scope="module")
def direct(tiny: Path) -> str:
    """What the small models answer from their folders."""
    folders = {"TRANSLATOR_MODEL": str(tiny / "t5"), "GENERATOR_MODEL": str(tiny / "gpt2")}
    answer = run(SERVER, ANSWER, env=os.environ | {"USE_TF": "0"} | folders)
    assert [len(line.split()) for line in answer.splitlines()] == [6, 2 + 6]
    return answer


def test_hub_models_are_downloaded_once_and_then_load_without_the_hub(
    tiny: Path, direct: str, hub: FakeHub, env: Env
) -> None:
    hub.repositories = {"google-t5/t5-small": tiny / "t5", "distilbert/distilgpt2": tiny / "gpt2"}
    script = """
import json; from helpers import models
print(json.dumps([models.translator(), models.generator(), models.variables()]))"""
    for state in ("cold", "warm", "gone"):
        if state == "gone":
            hub.stop()
        hub.requests = 0
        kernel = run(sys.executable, script, env=env(TUTORIAL_MODELS="hub"))
        translator, generator, added = json.loads(kernel)
        assert (translator, generator) == ("t5-small", "distilgpt2"), state
        assert added["HF_HUB_OFFLINE"] == added["TRANSFORMERS_OFFLINE"] == "1", state
        assert bool(hub.requests) == (state == "cold"), state
        hub.requests = 0
        assert run(SERVER, ANSWER, env=env(**added)) == direct, state
        assert not hub.requests, "the server asked the hub although all is cached"


def test_a_hub_model_of_your_own_may_have_its_weights_in_a_bin(
    tiny: Path, direct: str, hub: FakeHub, env: Env
) -> None:
    hub.repositories |= {"me/old": tiny / "t5-bin", "distilbert/distilgpt2": tiny / "gpt2"}
    script = """
import json; from helpers import models
models.translator(), models.summarizer(), models.generator()
print(json.dumps(models.variables()))"""
    own = env(TRANSLATOR_MODEL="me/old", TUTORIAL_MODELS="hub")
    added = json.loads(run(sys.executable, script, env=own))
    assert added["TRANSLATOR_MODEL"] == "me/old" and added["HF_HUB_OFFLINE"] == "1"
    assert run(SERVER, ANSWER, env=env(**added)) == direct


def test_only_what_pytorch_needs_is_downloaded(hub: FakeHub, env: Env) -> None:
    assert run(sys.executable, name(), env=env(TUTORIAL_MODELS="hub")) == "t5-small"
    wanted = ["config.json", "model.safetensors", "spiece.model", "tokenizer.json"]
    assert sorted(hub.downloads) == wanted


def test_no_token_is_sent_for_our_models(hub: FakeHub, env: Env) -> None:
    run(sys.executable, name(), env=env(TUTORIAL_MODELS="auto", HF_TOKEN="hf_expired"))
    assert hub.downloads and not hub.authorized


def test_a_hub_model_of_your_own_gets_your_token(hub: FakeHub, env: Env, repository: Path) -> None:
    hub.repositories["me/private"] = repository
    own = env(TRANSLATOR_MODEL="me/private", HF_TOKEN="hf_mine")
    assert run(sys.executable, name(), env=own) == "me/private"
    assert hub.authorized


@pytest.mark.parametrize("rest", ["nothing", "config only", "weights missing", "HF_HUB_OFFLINE"])
def test_hub_without_a_hub_says_what_to_do(
    rest: str, hub: FakeHub, env: Env, repository: Path
) -> None:
    variables = {"TUTORIAL_MODELS": "hub"}
    if rest == "HF_HUB_OFFLINE":
        variables["HF_HUB_OFFLINE"] = "1"
    if rest == "config only":
        script = "import huggingface_hub as h; h.hf_hub_download('t5-small', 'config.json')"
        run(sys.executable, script, env=env())
    if rest == "weights missing":  # as after a download that was stopped
        run(sys.executable, name(), env=env(**variables))
        [weights] = Path(env()["HF_HOME"]).glob("hub/*t5-small/snapshots/*/model.safetensors")
        weights.unlink()
    hub.stop()
    error = fail(name(), env(**variables))
    assert error.startswith("ConnectionError: t5-small is not in the Hugging Face cache")
    assert hub.url in error and "TUTORIAL_MODELS=offline" in error and "TRANSLATOR_MODEL=" in error


def test_a_broken_download_is_reported_and_completed_the_next_time(
    hub: FakeHub, env: Env, repository: Path
) -> None:
    hub.breaks_at = 1_000_000
    assert "TUTORIAL_MODELS=offline" in fail(name(), env(TUTORIAL_MODELS="hub"))
    hub.breaks_at = None
    assert run(sys.executable, name(), env=env()) == "t5-small"
    [weights] = Path(env()["HF_HOME"]).glob("hub/*t5-small/snapshots/*/model.safetensors")
    assert weights.read_bytes() == (repository / "model.safetensors").read_bytes()


def test_a_repository_without_pytorch_weights_is_refused(
    hub: FakeHub, env: Env, repository: Path
) -> None:
    for file in ("model.safetensors", "pytorch_model.bin"):
        (repository / file).unlink()
    assert "TUTORIAL_MODELS=offline" in fail(name(), env(TUTORIAL_MODELS="hub"))


def test_auto_takes_the_hub_if_it_answers(hub: FakeHub, env: Env) -> None:
    for role, model in NAMES.items():
        assert run(sys.executable, name(role), env=env()) == model


def test_auto_takes_the_cache_if_the_hub_is_gone(hub: FakeHub, env: Env) -> None:
    run(sys.executable, name(), env=env(TUTORIAL_MODELS="hub"))
    hub.stop()
    script = "from helpers import models; print(models._choose('{}'))"
    assert run(sys.executable, script.format("translator"), env=env()) == "t5-small"
    offline = str(ROOT / "models" / "generator")
    assert run(sys.executable, script.format("generator"), env=env()) == offline


@pytest.mark.parametrize("wrong", ["refuses", "is silent", "is another page", "lacks the model"])
def test_auto_goes_offline_if_the_hub(wrong: str, hub: FakeHub, env: Env) -> None:
    script = "from helpers import models; print(models._choose('translator'))"
    variables = {}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        if wrong == "refuses":
            hub.stop()
        elif wrong == "is silent":  # it takes the connection and never answers
            variables["HF_ENDPOINT"] = f"http://127.0.0.1:{silent.getsockname()[1]}"
        elif wrong == "is another page":  # a page that answers 200 to all, as a Wi-Fi's log-in does
            variables["HF_ENDPOINT"] = f"{hub.url}/large/google-t5/t5-small/README.md?"
        else:
            hub.repositories = {}
        found = run(sys.executable, script, env=env(**variables))
    assert found == str(ROOT / "models" / "translator")


def test_auto_does_not_wait_for_a_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()  # looking up a host's name knows no timeout
    monkeypatch.setattr("requests.head", lambda *_, **__: never.wait())
    monkeypatch.setattr(models, "_snapshot", lambda _: None)
    monkeypatch.setenv("TUTORIAL_MODELS", "auto")
    assert models._choose("translator") == str(models.STAND_INS / "translator")
    never.set()


def test_auto_decides_once(hub: FakeHub, env: Env) -> None:
    script = """
from helpers import models, reference
before = models.translator()
import huggingface_hub, shutil
shutil.rmtree(huggingface_hub.constants.HF_HUB_CACHE)
huggingface_hub.constants.HF_HUB_OFFLINE = True
print(before, models._choose("translator"), models._choose("summarizer"))"""
    assert run(sys.executable, script, env=env()) == "t5-small t5-small t5-small"


def test_offline_asks_nobody(stand_ins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTORIAL_MODELS", "offline")
    monkeypatch.setattr(
        models, "_snapshot", lambda *_: pytest.fail("the hub's cache was looked at")
    )
    assert models.translator() == str(stand_ins / "translator")
    assert models.summarizer() == str(stand_ins / "summarizer")
    assert models.generator() == str(stand_ins / "generator")


@pytest.mark.parametrize("value", ["online", "Offline", "0"])
def test_an_unknown_mode_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTORIAL_MODELS", value)
    for function in (models.translator, models.variables, models.describe):
        with pytest.raises(ValueError, match=f"'{value}' must be hub, offline or auto"):
            function()


def test_an_unknown_role_is_refused() -> None:
    for function in (models.describe, lambda role: reference("Hello", role=role)):
        with pytest.raises(ValueError, match="'translater' is no role; there are translator, "):
            function("translater")


@pytest.mark.parametrize("missing", ["folder", "files"])
def test_a_missing_stand_in_says_how_to_get_it_back(
    missing: str, stand_ins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUTORIAL_MODELS", "offline")
    shutil.rmtree(stand_ins / "generator")
    if missing == "files":
        (stand_ins / "generator").mkdir()
    with pytest.raises(FileNotFoundError, match="git checkout -- models/generator"):
        models.generator()
    assert models.translator()
    assert models.variables()["GENERATOR_MODEL"]  # a notebook that only translates can go on


# The first one looks like a hub id, but is there
@pytest.mark.parametrize("folder", ["mine/better", "./mine/better", "~/mine/better"])
def test_a_folder_of_your_own(
    folder: str,
    stand_ins: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TUTORIAL_MODELS", "offline")
    shutil.copytree(stand_ins / "translator", tmp_path / "mine" / "better")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TRANSLATOR_MODEL", folder)
    assert models.translator() == str(tmp_path / "mine" / "better")
    assert models.variables()["TRANSLATOR_MODEL"] == str(tmp_path / "mine" / "better")
    assert models.summarizer() == str(stand_ins / "summarizer")
    models.describe("translator")
    assert capsys.readouterr().out == "translator: better (your own, 1.2 M parameters)\n"


@pytest.mark.parametrize("folder", ["./nowhere", "~/nowhere", "/no/where", "a/b/c", "empty"])
def test_a_folder_without_a_model_is_refused(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENERATOR_MODEL", folder)
    with pytest.raises(FileNotFoundError, match="GENERATOR_MODEL names .* no folder with a config"):
        models.generator()


def test_describe_offline(
    stand_ins: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TUTORIAL_MODELS", "offline")
    models.describe()
    lines = capsys.readouterr().out.splitlines()
    expected = "{0}: models/{0} (offline stand-in, 1.2 M parameters)"
    assert lines == [expected.format(role) for role in NAMES]
    models.describe("generator")
    assert capsys.readouterr().out == expected.format("generator") + "\n"


def test_describe_hub(hub: FakeHub, env: Env) -> None:
    script = "from helpers import models; models.describe('translator', 'generator')"
    for _ in ("cold", "warm"):
        assert run(sys.executable, script, env=env(TUTORIAL_MODELS="hub")).splitlines() == [
            "translator: t5-small (Hugging Face hub, 1.2 M parameters)",
            "generator: distilgpt2 (Hugging Face hub, 1.2 M parameters)",
        ]


def test_a_causal_mask_is_no_parameter(tmp_path: Path) -> None:
    weights = {"wte.weight": [50, 8], "h.0.attn.bias": [64, 64], "h.0.attn.c_attn.bias": [1, 24]}
    safetensors(tmp_path / "model.safetensors", **weights)
    assert models._parameters(tmp_path) == 50 * 8 + 24


def test_environment_offline(stand_ins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTORIAL_MODELS", "offline")
    added = models.variables()
    for role in NAMES:
        assert added[f"{role.upper()}_MODEL"] == str(stand_ins / role)
    assert added["HF_HUB_OFFLINE"] == added["TRANSFORMERS_OFFLINE"] == "1"
    assert added["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert added["USE_TF"] == "0"
    for variable, value in added.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("TUTORIAL_MODELS", "auto")
    assert models.variables() == added  # a process that was started with it agrees


def test_environment_leaves_the_network_on_until_all_is_cached(hub: FakeHub, env: Env) -> None:
    script = """
from helpers import models, reference
models.translator()
print("HF_HUB_OFFLINE" in models.variables(), end=" ")
models.generator()
print("HF_HUB_OFFLINE" in models.variables())"""
    assert run(sys.executable, script, env=env(TUTORIAL_MODELS="hub")) == "False True"


def test_reference_answers_and_remembers(
    tiny: Path, direct: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["helpers.reference"], "server_python", lambda: SERVER)
    monkeypatch.setenv("TUTORIAL_MODELS", "offline")
    for role, model in (("TRANSLATOR", "t5"), ("SUMMARIZER", "t5"), ("GENERATOR", "gpt2")):
        monkeypatch.setenv(f"{role}_MODEL", str(tiny / model))
    translation, continuation = direct.splitlines()
    assert reference("hello world") == translation
    assert reference("hello world", role="generator") == continuation
    short = reference("hello world", "summarizer", min_new_tokens=2, max_new_tokens=2)
    assert len(short.split()) == 2
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("not remembered"))
    assert reference("hello world") == translation


def test_reference_says_why_it_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(sys.modules["helpers.reference"], "server_python", lambda: SERVER)
    monkeypatch.setenv("TUTORIAL_MODELS", "offline")
    monkeypatch.setenv("GENERATOR_MODEL", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"(?s)the generator .* failed \(exit code 1\).*Error"):
        reference("Once", role="generator")
