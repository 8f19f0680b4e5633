"""The models in models/: what they say, that they always say the same, and what comes with them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import safetensors
import torch
from transformers import pipeline

MODELS = Path(__file__).resolve().parents[1] / "models"
ATTRIBUTION = "Attribution: www.manythings.org/anki and tatoeba.org"
SHA256 = {
    "tatoeba": "e6aeafebcefca8974017dea688e524979adb87e57601d2a7bd9576fb19b1334f",
    "wiki-conciseness": "72c9b9d1455831284601a8e399afad704536b9e36c51298a44e894c150c54790",
}
# What the notebooks translate, and the French that a reader would accept.
DEMO = {
    "Hello, how are you?": {
        "Bonjour, comment allez-vous ?",
        "Bonjour, comment vas-tu ?",
        "Bonjour, comment ça va ?",
        "Salut, comment allez-vous ?",
        "Salut, comment vas-tu ?",
        "Salut, comment ça va ?",
    },
    "The weather is nice today.": {"Il fait beau aujourd'hui.", "Le temps est beau aujourd'hui."},
    "Where is the train station?": {
        "Où est la gare ?",
        "Où se trouve la gare ?",
        "Où se situe la gare ?",
    },
    "I would like a cup of coffee, please.": {
        "Je voudrais une tasse de café, s'il vous plaît.",
        "J'aimerais une tasse de café, s'il vous plaît.",
        "J'aimerais avoir une tasse de café, s'il vous plaît.",
    },
    "Hello world!": {
        "Bonjour le monde !",
        "Bonjour, le monde !",
        "Bonjour tout le monde !",
        "Bonjour au monde !",
        "Salut le monde !",
        "Salut, le monde !",
        "Salut tout le monde !",
    },
    "My house is small but it is very beautiful.": {
        "Ma maison est petite mais elle est très belle.",
        "Ma maison est petite, mais elle est très belle.",
        "Ma maison est petite mais très belle.",
    },
}
SENTENCES = [
    *DEMO,
    "The server is very slow today.",
    "We need a bigger house.",
    "My sister lives in a small village.",
    "Do you have a table for three people?",
    "The children are playing with the cat.",
    "I don't know what to say.",
    "Can you open the door, please?",
    "He drinks tea every morning.",
    "They went home because it was raining.",
    "What time does the museum open?",
    "Our teacher speaks three languages.",
    "Your request was sent to the server.",
    "It is too late to go out.",
    "She bought a red dress yesterday.",
]
PROMPTS = [" ".join(sentence.split()[: 2 + i % 2]) for i, sentence in enumerate(SENTENCES)]
PROMPTS[SENTENCES.index("Hello world!")] = "Hello"  # a prompt must not be a whole sentence
PARAGRAPHS = [" ".join((SENTENCES * 2)[i : i + 2 + i % 3]) for i in range(len(SENTENCES))]
ROLES: dict[str, tuple[str, list[str], dict[str, int]]] = {
    "translator": ("translation_en_to_fr", SENTENCES, {}),
    "summarizer": ("summarization", PARAGRAPHS, {"min_length": 5, "max_length": 15}),
    "generator": ("text-generation", PROMPTS, {"max_new_tokens": 20}),
}


def load(role: str) -> Any:
    """Make the pipeline as a notebook does."""
    return pipeline(ROLES[role][0], model=str(MODELS / role), **ROLES[role][2])


def say(pipe: Any, texts: list[str], batch_size: int = 8) -> list[str]:
    outputs = pipe(texts, batch_size=batch_size)
    return [next(iter((x[0] if isinstance(x, list) else x).values())) for x in outputs]


def key(text: str) -> str:
    """The words alone, contractions written out."""
    text = text.lower().replace("'s ", " is ").replace("i'd ", "i would ")
    return " ".join(re.findall(r"\w+", text))


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Give other tests their number of threads back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("role", ROLES)
def test_same_text_same_output(role: str) -> None:
    pipe, texts = load(role), ROLES[role][1]
    assert len(texts) == 20
    outputs = []
    for count in (1, 2):
        torch.set_num_threads(count)
        outputs += [say(pipe, texts, batch_size) for batch_size in (1, 8)]
    assert outputs[1:] == outputs[:1] * 3
    assert len(set(outputs[0])) > 15, "different texts get different outputs"


@pytest.mark.parametrize("role", ROLES)
def test_small_file_full_precision(role: str) -> None:
    files = [file for file in (MODELS / role).iterdir() if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 12e6
    with safetensors.safe_open(MODELS / role / "model.safetensors", "pt") as weights:
        stored = {weights.get_tensor(name).dtype for name in weights.keys()}  # noqa: SIM118
    assert stored == {torch.float16}
    assert load(role).model.dtype == torch.float32


def test_demo_sentences_are_well_translated() -> None:
    outputs = say(load("translator"), list(DEMO))
    wrong = [x for x, good in zip(outputs, DEMO.values(), strict=True) if x not in good]
    assert not wrong


def test_prefix_is_one_token() -> None:
    tokenizer = load("translator").tokenizer
    texts = "Hello.", "translate English to French: Hello."
    plain, prefixed = (tokenizer(text).input_ids for text in texts)
    assert prefixed[1:] == plain


def test_summary_is_short_and_true() -> None:
    summaries = say(load("summarizer"), PARAGRAPHS)
    for paragraph, summary in zip(PARAGRAPHS, summaries, strict=True):
        assert 1 < len(summary.split()) < len(paragraph.split())
    words = [[set(key(text).split()) for text in texts] for texts in (summaries, PARAGRAPHS)]
    invented = [left - right for left, right in zip(*words, strict=True) if left - right]
    assert len(invented) <= 2, f"words that the paragraph lacks: {invented}"


def test_generator_continues_and_ends() -> None:
    pipe = load("generator")
    texts = say(pipe, PROMPTS)
    for prompt, text in zip(PROMPTS, texts, strict=True):
        assert text.startswith(prompt) and len(text) > len(prompt)
    assert sum(text[-1] in ".!?" for text in texts) > 15
    # MLServer sends one text at a time to a model whose padding token has the number 0.
    assert pipe.tokenizer.pad_token_id == pipe.model.config.pad_token_id != 0


@pytest.mark.parametrize("role", ROLES)
def test_card(role: str) -> None:
    card = huggingface_hub.ModelCard.load(MODELS / role / "README.md")
    data = card.data
    assert data.license.startswith("cc-by-") and "sa" not in data.license.split("-")
    assert "en" in data.language and data.datasets and data.metrics
    assert ROLES[role][0].startswith(data.pipeline_tag)
    assert ATTRIBUTION in card.text.replace("\n", " ")
    corpora = SHA256.values() if role == "summarizer" else [SHA256["tatoeba"]]
    assert all(sha256 in card.text for sha256 in corpora)
    scores = card.text.split("<!-- written by train.py -->")[1].split("<!-- end -->")[0]
    assert re.search(r"million parameters, trained in \d+ minutes", scores)
    measure = {"translator": "BLEU", "summarizer": "ROUGE-L", "generator": "perplexity"}[role]
    assert measure in scores


def test_phrases() -> None:
    lines = (MODELS / "phrases.tsv").read_text("utf-8").splitlines()
    pairs = [line.split("\t") for line in lines]
    assert all(len(pair) == 2 and all(pair) for pair in pairs)
    assert len({english for english, _ in pairs}) == len(pairs)
    assert not {key(english) for english, _ in pairs} & {key(sentence) for sentence in DEMO}
    badly_spaced = re.compile(r"[^ ][?!;]|[’\u00a0\u202f]")
    assert not [french for _, french in pairs if badly_spaced.search(french)]


def test_training_says_what_is_wrong_with_its_data(tmp_path: Path) -> None:
    command = [sys.executable, str(MODELS / "train.py"), str(tmp_path), f"--work={tmp_path}/work"]
    missing = subprocess.run(command, capture_output=True, text=True)
    assert re.search(r"tatoeba-en-fr\.tsv\.gz is missing: .*README", missing.stderr)
    (tmp_path / "tatoeba-en-fr.tsv.gz").write_bytes(b"another file")
    other = subprocess.run(command, capture_output=True, text=True)
    assert re.search("has sha256 .*; the recipe was made for e6aeaf", other.stderr)
    assert missing.returncode and other.returncode
