"""Which model a notebook uses: the real one from the Hugging Face hub or the small one in models/.

A notebook, and every file it writes, says ``pipeline(..., model=<name>)``; this gives the name.
``TUTORIAL_MODELS`` in the environment chooses:

- ``hub``: t5-small and distilgpt2, downloaded once into the hub's cache;
- ``offline``: the stand-ins in models/, no network;
- ``auto``, the default: ``hub`` if cached or reachable within a second or two, else ``offline``.

``TRANSLATOR_MODEL``, ``SUMMARIZER_MODEL`` and ``GENERATOR_MODEL`` name a model of your own for that
role: a hub id, or a folder in the hub's format.
"""

from __future__ import annotations

import json
import math
import os
import re
import threading
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path

import huggingface_hub
import requests

STAND_INS = Path(__file__).resolve().parents[1] / "models"

# The hub now says google-t5/t5-small and distilbert/distilgpt2, and redirects. The old names are
# those in everybody's code, and so in their caches: a cache is filed under the name asked for.
HUB_MODELS = {"translator": "t5-small", "summarizer": "t5-small", "generator": "distilgpt2"}

# Its progress bars are text where ipywidgets is missing; there is no need to say so in a notebook.
warnings.filterwarnings("ignore", message="IProgress not found")

PATIENCE = 1.5  # seconds that `auto` waits for the hub


def translator() -> str:
    """Name of the English-to-French model, for ``pipeline("translation_en_to_fr", model=...)``.

    A hub model is downloaded here, if need be, so that no server has to do it while it starts.

    Returns
    -------
    str
        A hub id, with its files in the hub's cache, or the absolute path of a folder.

    Raises
    ------
    ValueError
        If ``TUTORIAL_MODELS`` is none of hub, offline and auto.
    FileNotFoundError
        If the folder holds no model.
    ConnectionError
        If a hub model is not in the cache and cannot be downloaded.
    """
    return locate("translator")[0]


def summarizer() -> str:
    """Name of the model for ``pipeline("summarization", model=...)``; see `translator`."""
    return locate("summarizer")[0]


def generator() -> str:
    """Name of the model for ``pipeline("text-generation", model=...)``; see `translator`."""
    return locate("generator")[0]


def describe(*roles: str) -> None:
    """Make models ready as `translator` does, and print in one line each which they are.

    Parameters
    ----------
    *roles : {"translator", "summarizer", "generator"}
        The roles that the notebook uses; all three by default.

    Examples
    --------
    >>> describe("translator")  # doctest: +SKIP
    translator: models/translator (offline stand-in, 5.7 M parameters)
    """
    for role in roles or HUB_MODELS:
        name, folder = locate(role)
        if not os.path.isabs(name):
            shown, origin = name, "Hugging Face hub"
        elif folder.parent == STAND_INS:
            shown, origin = f"models/{folder.name}", "offline stand-in"
        else:  # where on the machine it lies has no place in a notebook's output
            shown, origin = folder.name, "your own"
        parameters = _parameters(folder)
        size = f", {parameters / 1e6:.1f} M parameters" if parameters else ""
        print(f"{role}: {shown} ({origin}{size})")


def variables() -> dict[str, str]:
    """Environment variables for the processes that load the models: servers and scripts.

    Nothing is downloaded here: a notebook calls `describe` or `translator` first.

    Returns
    -------
    dict of str to str
        The names, so that a served file can say ``os.environ["TRANSLATOR_MODEL"]``, and what keeps
        transformers quick, quiet and, when all three models are on this machine, off the network.
    """
    names = {role: _choose(role) for role in HUB_MODELS}
    variables = {f"{role.upper()}_MODEL": name for role, name in names.items()} | {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",  # else it warns about forks
        "USE_TF": "0",  # the models run in PyTorch; importing TensorFlow too doubles the start
        "USE_FLAX": "0",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    if all(os.path.isabs(name) or _snapshot(name) for name in names.values()):
        variables |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return variables


def _choose(role: str) -> str:
    """Name of a role's model, a hub id or an absolute folder, whether it is there or not."""
    if role not in HUB_MODELS:
        raise ValueError(f"{role!r} is no role; there are {', '.join(HUB_MODELS)}")
    mode = os.environ.get("TUTORIAL_MODELS") or "auto"
    if mode not in ("hub", "offline", "auto"):
        raise ValueError(f"TUTORIAL_MODELS={mode!r} must be hub, offline or auto")
    if own := os.environ.get(f"{role.upper()}_MODEL"):
        folder = Path(own).expanduser()
        is_hub_id = re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", own) and not folder.is_dir()
        return own if is_hub_id else str(folder.resolve())
    model = HUB_MODELS[role]
    if mode == "hub" or (mode == "auto" and _cached_or_reachable(model)):
        return model
    return str(STAND_INS / role)


@cache  # decided once, so that all cells of a notebook agree
def _cached_or_reachable(model: str) -> bool:
    return _snapshot(model) is not None or _reachable()


@cache
def _reachable() -> bool:
    url = huggingface_hub.hf_hub_url(HUB_MODELS["translator"], "config.json")
    answers: list[requests.Response] = []

    def ask() -> None:
        with suppress(requests.RequestException):
            # by ourselves, because huggingface_hub would go on trying, and warn each time
            answers.append(requests.head(url, timeout=PATIENCE, allow_redirects=True))

    # In a thread because the timeout does not cover the look-up of the hub's address
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    # only the hub names a commit, a Wi-Fi's log-in page does not
    return any("X-Repo-Commit" in each.headers for a in answers for each in [*a.history, a])


def locate(role: str) -> tuple[str, Path]:
    """Name of a role's model and the folder it lies in, after making sure that it is there.

    Parameters
    ----------
    role : {"translator", "summarizer", "generator"}
        See `translator`, which also says what it raises.
    """
    name, variable = _choose(role), f"{role.upper()}_MODEL"
    if os.path.isabs(name):
        folder = Path(name)
        if (folder / "config.json").is_file():
            return name, folder
        if folder.parent == STAND_INS:
            raise FileNotFoundError(
                f"models/{role} holds no model. `git checkout -- models/{role}` brings it back; "
                "TUTORIAL_MODELS=hub does without it."
            )
        raise FileNotFoundError(
            f"{variable} names {name}, which is no folder with a config.json. Name one that is, "
            "or a model on the Hugging Face hub, or unset it."
        )
    try:
        if found := _snapshot(name) or _snapshot(name, download=True):
            return name, found
        raise FileNotFoundError("config.json, a tokenizer or PyTorch weights are missing")
    except Exception as error:  # of requests or of httpx, as huggingface_hub's version has it
        raise ConnectionError(
            f"{name} is not in the Hugging Face cache, and {huggingface_hub.constants.ENDPOINT} "
            f"did not deliver it ({type(error).__name__}). Set TUTORIAL_MODELS=offline to use the "
            f"small models in models/, or {variable}=<folder> to use a model of your own."
        ) from error


def _snapshot(model: str, download: bool = False) -> Path | None:
    """Where a hub model lies in the hub's cache; None if it is not there or not complete."""
    for weights in ("*.safetensors", "*.bin"):  # the same in two formats; the second if need be
        try:
            path = huggingface_hub.snapshot_download(
                model,
                allow_patterns=["*.json", "*.txt", "*.model", "*.spm", weights],
                ignore_patterns="*/*",  # subfolders are for other libraries than PyTorch
                local_files_only=not download,
                # Ours are public. Without a token, an expired one cannot be refused.
                token=False if model in HUB_MODELS.values() else None,
            )
        except FileNotFoundError:  # a LocalEntryNotFoundError
            if download:
                raise
            continue
        needed = ("config.json", "tokenizer*", weights)  # a download may have been interrupted
        if all(any(Path(path).glob(pattern)) for pattern in needed):
            return Path(path)
    return None


def _parameters(folder: Path) -> int:
    """Number of parameters according to the safetensors files in a folder; 0 if there are none."""
    count = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:  # the length of the header in 8 bytes, then the header
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        for tensor, about in header.items():
            # attn.bias is GPT-2's causal mask, nothing learned
            if tensor != "__metadata__" and not tensor.endswith(".attn.bias"):
                count += math.prod(about["shape"])
    return count
