"""Train the three small models that ship with the project.

``python models/train.py DATA`` goes from the corpora in the folder DATA to the folders translator,
summarizer and generator beside this file, evaluates each and writes the scores into its card.
Stop it at any time: the same command goes on from the last checkpoint. It needs, beside torch and
transformers, sacrebleu and rouge-score.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import math
import random
import re
import shutil
from collections import defaultdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from loop import DROPOUT, SEED, TOKENS, WORKERS, Pair, fit, restore
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import corpus_bleu, corpus_chrf, sentence_chrf
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, processors, trainers
from tokenizers import models as token_models
from tokenizers import pre_tokenizers as splitters
from torch.nn import functional
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPT2TokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    T5TokenizerFast,
    pipeline,
)

HERE = Path(__file__).parent
SHA256 = {
    "tatoeba-en-fr.tsv.gz": "e6aeafebcefca8974017dea688e524979adb87e57601d2a7bd9576fb19b1334f",
    "wiki-conciseness.tsv.gz": "72c9b9d1455831284601a8e399afad704536b9e36c51298a44e894c150c54790",
}
TRANSLATE, SUMMARIZE = "translate English to French: ", "summarize: "
DEMO = [  # shown in the notebooks and the card: neither they nor their variants are trained on
    "Hello, how are you?",
    "The weather is nice today.",
    "Where is the train station?",
    "I would like a cup of coffee, please.",
    "Hello world!",
    "My house is small but it is very beautiful.",
]
PARAGRAPHS = [  # shown in the summarizer's card
    "The weather is nice today. We went to the park. The children played with the dog.",
    "A model server loads a model. It waits for requests. Every request gets an answer.",
    "My brother works in a bakery. He gets up at four in the morning. His bread is very good.",
    "The train was late because it was snowing. Many people waited. Some of them went home.",
]
PROMPTS = ["The weather today", "My friend and I", "I would like to", "She opened the door and"]
CRUDE = re.compile(r"\b((fuck|shit|bitch|whore|encul|nique)\w*|putain|merde|salope)\b", re.I)
VOUS = re.compile(r"\b(vous|votre|vos|\w+ez)\b", re.I)
TU = re.compile(r"\b(tu|te|toi|ton|ta|tes)\b|\bt'", re.I)
# Where a main clause ends, and where a phrase starts that a sentence can do without; not if the
# sentence starts with a subordinate clause, and not after some words.
CLAUSE = re.compile(
    r",? (because|while) |,? (and|but|so) (I|you|he|she|it|we|they|the|my|his|her|our)\b|, but "
)
PHRASE = re.compile(r",? (in|at|on|with|for|during|from|near|by|after|before|until|since|when) ")
SUBORDINATE = re.compile(r"(If|When|Even|Although|Though|As|After|Because|Since|While|Once)\b")
DANGLING = set(
    "be been is are was were live lived lives go went look looked looking wait ask asked think "
    "that not only falls".split()
)
WORD = re.compile(r"\b[a-z]{4,}\b")
NAMES = {  # the corpus calls nearly everybody by one of these two
    "▁Tom": ["Paul", "John", "David", "Daniel", "Peter", "Michael", "Thomas", "Martin", "Max"],
    "▁Mary": ["Anna", "Sarah", "Emma", "Julia", "Laura", "Alice", "Nina", "Sophie", "Marie"],
}


def clean(text: str, french: bool = False) -> str:
    """Return the text with plain spaces and apostrophes, and French spacing before ? ! ; :."""
    text = re.sub(r"[\u200b\u00ad\ufeff]", "", text).replace("’", "'").replace("‘", "'")
    if french:
        text = re.sub(r"\s*([!?;:»]+)(?=\s|$)", r" \1", text)
    return re.sub(r"\s+", " ", text).strip()


def key(text: str) -> str:
    """Return the words alone: sentences that differ in case and punctuation only are the same."""
    return " ".join(re.findall(r"\w+", text.lower()))


def lead(paragraph: str) -> str:
    """Return a paragraph's first sentence."""
    return re.split(r"(?<=[.!?]) ", paragraph)[0]


def polite(translations: list[str]) -> list[str]:
    """Drop familiar translations where there are polite ones: one register to learn."""
    if any(VOUS.search(french) for french in translations):
        return [french for french in translations if not TU.search(french)] or translations
    return translations


class Corpus:
    """The sentences, cleaned and split by English sentence.

    Parameters
    ----------
    folder : Path
        Where the files named in `SHA256` are.

    Attributes
    ----------
    train, test : dict of str to list of str
        English sentence to French translations. `test` has 1,000 sentences; nothing in `train`,
        English or French, has the same words as something in `test`.
    phrases : list of (str, str)
        The hand-written pairs of phrases.tsv.
    concise, concise_test : dict of str to list of str
        Long English sentence to concise rewrites; `concise_test` has 100.

    Raises
    ------
    FileNotFoundError
        If a corpus is missing.
    ValueError
        If a corpus is not the file that the recipe was made for.
    """

    def __init__(self, folder: Path) -> None:
        pairs, concise = (self._read(folder / name, sha256) for name, sha256 in SHA256.items())
        demo = {key(sentence) for sentence in DEMO}
        sentences = [english for english in pairs if key(english) not in demo]
        random.Random(SEED).shuffle(sentences)
        self.test = {english: pairs[english] for english in sentences[:1000]}
        held_out = {key(text) for item in self.test.items() for text in [item[0], *item[1]]}
        self.train: dict[str, list[str]] = {}
        for english in sentences[1000:]:
            kept = [french for french in pairs[english] if key(french) not in held_out]
            if kept and key(english) not in held_out:
                self.train[english] = kept
        lines = (HERE / "phrases.tsv").read_text("utf-8").splitlines()
        phrases = [(clean(e), clean(f, french=True)) for e, f in (x.split("\t") for x in lines)]
        held_out |= demo
        self.phrases = [p for p in phrases if not {key(p[0]), key(p[1])} & held_out]
        sources = sorted(concise)
        random.Random(SEED).shuffle(sources)
        self.concise_test = {source: concise[source] for source in sources[:100]}
        self.concise = {source: concise[source] for source in sources[100:]}

    @staticmethod
    def _read(path: Path, sha256: str) -> dict[str, list[str]]:
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: see 'Data' in models/translator/README.md")
        if (found := hashlib.sha256(path.read_bytes()).hexdigest()) != sha256:
            raise ValueError(f"{path} has sha256 {found}; the recipe was made for {sha256}")
        french = "fr" in path.name
        groups: dict[str, list[str]] = {}
        for line in gzip.decompress(path.read_bytes()).decode("utf-8").splitlines():
            left, right = line.rstrip("\n").split("\t")[:2]
            left, right = clean(left), clean(right, french)
            short = len(left.split()) <= 14 and len(right.split()) <= 18
            if (short or not french) and not CRUDE.search(f"{left} {right}"):
                group = groups.setdefault(left, [])
                if right not in group:
                    group.append(right)
        return groups


class Translator:
    """A T5 for English to French, and what the training needs to know of it."""

    name, task, steps, learning_rate = "translator", "translation_en_to_fr", 14500, 2e-2
    tokenizer_class: Any = T5TokenizerFast

    def __init__(self, data: Path, work: Path) -> None:
        self.corpus, self.work = Corpus(data), work
        folder = work / f"{self.tokenizer_class.__name__}"
        if not folder.is_dir():
            self.make_tokenizer().save_pretrained(folder)
        self.tokenizer = self.tokenizer_class.from_pretrained(folder)
        self.model = self.make_model()

    def make_tokenizer(self) -> Any:
        """Learn 5,000 word pieces of both languages; each prefix becomes a single token."""
        tokenizer = Tokenizer(token_models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        punctuation = splitters.Split(Regex(r'[.,!?;:"]'), "isolated")
        hyphen = splitters.Split("-", "merged_with_next")
        tokenizer.pre_tokenizer = splitters.Sequence([splitters.Metaspace(), punctuation, hyphen])
        tokenizer.decoder = decoders.Metaspace()
        train = self.corpus.train
        texts = [text for english in train for text in [english, *train[english][:2]]]
        texts += [text for pair in self.corpus.phrases for text in pair] * 30  # to get whole words
        special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
        trainer = trainers.UnigramTrainer(
            vocab_size=4990, special_tokens=list(special.values()), unk_token="<unk>"
        )
        tokenizer.train_from_iterator(texts, trainer)
        prefixes = [TRANSLATE.strip(), SUMMARIZE.strip()]
        # In the vocabulary proper, too: transformers warns of tokens that are only added to it.
        state = json.loads(tokenizer.to_str())
        state["model"]["vocab"] += [[prefix, -99.0] for prefix in prefixes]
        tokenizer = Tokenizer.from_str(json.dumps(state))
        tokens = [AddedToken(prefix, rstrip=True, normalized=False) for prefix in prefixes]
        tokenizer.add_special_tokens(tokens)
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
        )
        return T5TokenizerFast(
            tokenizer_object=tokenizer, **special, additional_special_tokens=prefixes, extra_ids=0,
            model_max_length=128, clean_up_tokenization_spaces=False,
        )

    def make_model(self) -> Any:
        """Return the model with its first weights."""
        search = {"max_length": 64, "num_beams": 4, "early_stopping": True}
        tasks = {
            "translation_en_to_fr": {"prefix": TRANSLATE, **search},
            "summarization": {"prefix": SUMMARIZE, "no_repeat_ngram_size": 3, **search},
        }
        return T5ForConditionalGeneration(T5Config(
            vocab_size=len(self.tokenizer), d_model=256, d_kv=64, d_ff=768, num_heads=4,
            num_layers=4, num_decoder_layers=2, dropout_rate=DROPOUT, decoder_start_token_id=0,
            pad_token_id=0, eos_token_id=1, n_positions=128, task_specific_params=tasks,
        ))

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Return the token numbers of each text."""
        return self.tokenizer(texts)["input_ids"]

    @cached_property
    def _encoded(self) -> list[tuple[list[int], list[list[int]]]]:
        groups = [polite(translations) for translations in self.corpus.train.values()]
        targets = iter(self.encode([french for group in groups for french in group]))
        sources = self.encode([TRANSLATE + english for english in self.corpus.train])
        return [(s, [next(targets) for _ in g]) for s, g in zip(sources, groups, strict=True)]

    def examples(self, rng: random.Random, cooling: bool) -> list[Pair]:
        """Return an epoch: at most two translations a sentence, some joined, some without stop.

        The hand-written phrases and a choice of names come in with the cooling, at the end.
        """
        pairs = [(s, t) for s, ts in self._encoded for t in rng.sample(ts, min(2, len(ts)))]
        stop = self.tokenizer.convert_tokens_to_ids(".")
        for i in rng.sample(range(len(pairs)), len(pairs) // 12):
            (source, target), (source2, target2) = pairs[i], rng.choice(pairs)
            if i % 2 and len(source) + len(source2) < 30:
                pairs[i] = source[:-1] + source2[1:], target[:-1] + target2
            elif source[-2] == target[-2] == stop:
                pairs[i] = source[:-2] + source[-1:], target[:-2] + target[-1:]
        if not cooling:
            return pairs
        for token, names in NAMES.items():
            old = self.tokenizer.convert_tokens_to_ids(token)
            new = [ids[:-1] for ids in self.encode(names)]
            for i, (source, target) in enumerate(pairs):
                if source.count(old) == target.count(old) == 1 and rng.random() < 0.4:
                    name = rng.choice(new)
                    pairs[i] = swap(source, old, name), swap(target, old, name)
        sources = self.encode([TRANSLATE + english for english, _ in self.corpus.phrases])
        targets = self.encode([french for _, french in self.corpus.phrases])
        return pairs + list(zip(sources, targets, strict=True)) * 5

    def loss(self, batch: list[Pair], smoothing: float) -> torch.Tensor:
        """Return the cross-entropy per target token; padding never reaches the output layer."""
        source, target = pad([s for s, _ in batch]), pad([t for _, t in batch])
        seen, wanted = (source != 0).long(), target != 0
        shifted = torch.cat([torch.zeros_like(target[:, :1]), target[:, :-1]], dim=1)
        hidden = self.model.encoder(source, attention_mask=seen)[0]
        hidden = self.model.decoder(
            shifted, encoder_hidden_states=hidden, encoder_attention_mask=seen
        )[0]
        logits = self.model.lm_head(hidden[wanted] * self.model.config.d_model**-0.5)
        return functional.cross_entropy(logits.float(), target[wanted], label_smoothing=smoothing)

    def evaluate(self, folder: Path) -> list[str]:
        """Translate the held-out and the demo sentences; return lines of Markdown."""
        sentences, references = list(self.corpus.test), list(self.corpus.test.values())
        outputs = generate(self.task, folder, sentences)
        most = max(map(len, references))
        columns = [[(r + [None] * most)[i] for r in references] for i in range(most)]  # type: ignore
        rows = list(zip(sentences, outputs, references, strict=True))
        worst = sorted(rows, key=lambda row: sentence_chrf(row[1], row[2]).score)[:8]
        demo = zip(DEMO, generate(self.task, folder, DEMO), strict=True)
        return [
            "| 1,000 held-out sentences | score |",
            "|---|---|",
            f"| BLEU, against all translations | {corpus_bleu(outputs, columns).score:.1f} |",
            f"| BLEU, against the first one | {corpus_bleu(outputs, columns[:1]).score:.1f} |",
            f"| chrF, against all translations | {corpus_chrf(outputs, columns).score:.1f} |",
            "\nThe notebooks' own sentences:\n",
            *(f"- {english} → {french}" for english, french in demo),
            "\nThe first held-out sentences:\n",
            *(f"- {english} → {french}" for english, french, _ in rows[:10]),
            "\nThe held-out sentences with the lowest chrF:\n",
            *(f"- {english} → {french} (Tatoeba: {known[0]})" for english, french, known in worst),
        ]


class Summarizer(Translator):
    """The translator's weights, trained on to give the main clause of the first sentence."""

    name, task, steps, learning_rate = "summarizer", "summarization", 1500, 1e-2
    longest = 14  # tokens of a summary: the notebooks ask for at most 15, with the one before it

    def make_model(self) -> Any:
        """Return the model with the translator's weights."""
        model = super().make_model()
        restore(model, self.work / "translator.pt")
        return model

    @cached_property
    def _sentences(self) -> list[str]:
        phrases = [english for english, _ in self.corpus.phrases] * 5
        return [s for s in [*self.corpus.train, *phrases] if len(s.split()) > 3 and s[-1] in ".!?"]

    @cached_property
    def _with_word(self) -> dict[str, list[str]]:
        return index(self._sentences)

    @cached_property
    def _rare_words(self) -> list[str]:
        return sorted({word for text in self.corpus.concise for word in WORD.findall(text)})

    def shorten(self, sentence: str) -> str | None:
        """Return the main clause in at most `longest` tokens, None if there is no way to cut it."""
        whole = SUBORDINATE.match(sentence)
        if not whole and (cut := CLAUSE.search(sentence)) and cut.start() > 8:
            sentence = sentence[: cut.start()] + "."
        while len(self.tokenizer(sentence)["input_ids"]) > self.longest:
            heads = [sentence[: cut.start()] for cut in PHRASE.finditer(sentence)]
            heads = [h for h in heads if len(h.split()) > 4 and h.split()[-1] not in DANGLING]
            if whole or not heads:
                return None
            sentence = heads[-1] + sentence[-1]
        return sentence

    def summary(self, paragraph: str) -> str | None:
        """Return the first sentence, shortened; the next one if it cannot be, and so on."""
        shorter = map(self.shorten, re.split(r"(?<=[.!?]) ", paragraph))
        return next(filter(None, shorter), None)

    def paragraph(self, rng: random.Random) -> str:
        """Join a sentence and one to four more, half of which have a word in common with it.

        In some paragraphs words are replaced, so that words the corpus lacks are copied as well.
        """
        sentences = [rng.choice(self._sentences)]
        words = [word for word in WORD.findall(sentences[0]) if word in self._with_word]
        for _ in range(rng.choice([1, 2, 2, 2, 3, 3, 4])):
            related = words and rng.random() < 0.5
            pool = self._with_word[rng.choice(words)] if related else self._sentences
            sentences.append(rng.choice(pool))
        text = " ".join(sentences)
        if rng.random() < 0.4:
            words = WORD.findall(text)
            for word in rng.sample(words, min(len(words), 3)):
                text = re.sub(rf"\b{word}\b", rng.choice(self._rare_words), text)
        return text

    def examples(self, rng: random.Random, cooling: bool) -> list[Pair]:
        """Return an epoch of paragraphs, and the conciseness pairs that are not too long."""
        paragraphs = [self.paragraph(rng) for _ in range(20000)]
        texts = [(text, short) for text in paragraphs if (short := self.summary(text))]
        texts += [(text, rng.choice(rewrites)) for text, rewrites in self.corpus.concise.items()]
        sources = self.encode([SUMMARIZE + text for text, _ in texts])
        pairs = zip(sources, self.encode([short for _, short in texts]), strict=True)
        return [(s, t) for s, t in pairs if len(s) < 100 and len(t) < 40]

    def evaluate(self, folder: Path) -> list[str]:
        """Summarize held-out paragraphs and sentences; return lines of Markdown."""
        rng, scorer = random.Random(SEED), RougeScorer(["rougeL"], use_stemmer=True)

        def rouge(texts: list[str], references: list[list[str]]) -> float:
            scores = map(scorer.score_multi, references, texts)
            return 100 * sum(score["rougeL"].fmeasure for score in scores) / len(texts)

        held_out = [s for s in self.corpus.test if len(s.split()) > 3 and s[-1] in ".!?"]
        paragraphs = [" ".join(rng.sample(held_out, rng.choice([3, 4]))) for _ in range(200)]
        lengths = {"min_length": 5, "max_length": 15}
        short = generate(self.task, folder, paragraphs, **lengths)
        own = [set(key(s).split()) for s in short]
        true = [o <= set(key(p).split()) for o, p in zip(own, paragraphs, strict=True)]
        kept = sum(len(s.split()) for s in short) / sum(len(p.split()) for p in paragraphs)
        whole = [s[-1:] in (".", "!", "?") for s in short]
        leads = rouge(short, [[lead(paragraph)] for paragraph in paragraphs])
        longs, rewrites = list(self.corpus.concise_test), list(self.corpus.concise_test.values())
        outputs = generate(self.task, folder, longs)
        first = [" ".join(s.split()[: len(o.split())]) for s, o in zip(longs, outputs, strict=True)]
        shown = generate(self.task, folder, PARAGRAPHS, **lengths) + short[:6]
        return [
            "| held-out text | measure | score |",
            "|---|---|---|",
            f"| 200 paragraphs of 3 or 4 sentences | share of the words kept | {kept:.0%} |",
            f"| | summaries that end with a full stop | {sum(whole) / len(whole):.0%} |",
            f"| | summaries with no word that the paragraph lacks | {sum(true) / len(true):.0%} |",
            f"| | ROUGE-L against the first sentence | {leads:.1f} |",
            "| 100 Wikipedia sentences | ROUGE-L against the rewrites | "
            f"{rouge(outputs, rewrites):.1f} |",
            f"| | the same of as many first words | {rouge(first, rewrites):.1f} |",
            f"| | the same of the whole sentence | {rouge(longs, rewrites):.1f} |",
            "\nParagraphs and their summaries (`min_length=5, max_length=15`):\n",
            *(f"- {p} → **{s}**" for p, s in zip(PARAGRAPHS + paragraphs[:6], shown, strict=True)),
            "\nLong sentences, with the lengths of the model's own configuration:\n",
            *(f"- {s} → **{o}**" for s, o in list(zip(longs, outputs, strict=True))[:3]),
        ]


class Generator(Translator):
    """A GPT-2 for one to three plain English sentences."""

    name, task, steps, learning_rate = "generator", "text-generation", 2000, 3e-2
    tokenizer_class = GPT2TokenizerFast

    def make_tokenizer(self) -> Any:
        """Learn 4,000 pieces of English; the last one ends a text and pads it."""
        tokenizer = Tokenizer(token_models.BPE())
        tokenizer.pre_tokenizer = splitters.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        texts = [*self.corpus.train, *[english for english, _ in self.corpus.phrases] * 30]
        trainer = trainers.BpeTrainer(
            vocab_size=3999, initial_alphabet=splitters.ByteLevel.alphabet()
        )
        texts += [f" {text}" for text in texts]  # that is how a second sentence starts
        tokenizer.train_from_iterator(texts, trainer)
        end = "<|endoftext|>"
        tokenizer.add_special_tokens([end])
        return GPT2TokenizerFast(
            tokenizer_object=tokenizer, bos_token=end, eos_token=end, unk_token=end, pad_token=end,
            padding_side="left", model_max_length=128, clean_up_tokenization_spaces=False,
        )

    def make_model(self) -> Any:
        """Return the model with its first weights."""
        end = self.tokenizer.eos_token_id
        return GPT2LMHeadModel(GPT2Config(
            vocab_size=len(self.tokenizer), n_positions=128, n_embd=256, n_layer=5, n_head=4,
            resid_pdrop=DROPOUT, embd_pdrop=DROPOUT, attn_pdrop=0.0, bos_token_id=end,
            eos_token_id=end, pad_token_id=end,
        ))

    def examples(self, rng: random.Random, cooling: bool) -> list[Pair]:
        """Return an epoch of texts: a sentence, and at times one or two more with the same word."""
        sentences = [*self.corpus.train, *(english for english, _ in self.corpus.phrases)]
        with_word, texts = index(sentences), []
        for sentence in sentences:
            text, words = [sentence], WORD.findall(sentence)
            while words and len(text) < 3 and rng.random() < 0.4:
                rarest = min(words, key=lambda word: len(with_word[word]))
                text.append(rng.choice(with_word[rarest]))
            texts.append(" ".join(dict.fromkeys(text)))
        end = self.tokenizer.eos_token_id
        return [([], ids + [end]) for ids in self.encode(texts)]

    def loss(self, batch: list[Pair], smoothing: float) -> torch.Tensor:
        """Return the cross-entropy per token after the first."""
        text, lengths = pad([t for _, t in batch]), torch.tensor([len(t) for _, t in batch])
        wanted = torch.arange(1, text.shape[1]) < lengths[:, None]
        logits = self.model.lm_head(self.model.transformer(text[:, :-1])[0][wanted]).float()
        return functional.cross_entropy(logits, text[:, 1:][wanted], label_smoothing=smoothing)

    @torch.inference_mode()
    def evaluate(self, folder: Path) -> list[str]:
        """Measure the perplexity of the held-out sentences; return lines of Markdown."""
        self.model = GPT2LMHeadModel.from_pretrained(folder).eval()
        sentences = list(self.corpus.test)
        rows = [ids + [self.tokenizer.eos_token_id] for ids in self.encode(sentences)]
        tokens, words = sum(len(r) - 1 for r in rows), sum(len(s.split()) for s in sentences)
        nats = sum(self.loss([([], row)], 0.0).item() * (len(row) - 1) for row in rows)
        starts = [" ".join(s.split()[:3]) for s in sentences if len(s.split()) > 4][:8]
        return [
            "| 1,000 held-out sentences | perplexity |",
            "|---|---|",
            f"| per token, the first one given, the end included | {math.exp(nats / tokens):.1f} |",
            f"| the same per word | {math.exp(nats / words):.1f} |",
            "\nFour prompts, and the first three words of held-out sentences, continued:\n",
            *(f"- {t}" for t in generate(self.task, folder, PROMPTS + starts, max_new_tokens=30)),
        ]


STAGES = {stage.name: stage for stage in (Translator, Summarizer, Generator)}


def index(sentences: list[str]) -> dict[str, list[str]]:
    """Return the sentences that each longer word occurs in."""
    result: dict[str, list[str]] = defaultdict(list)
    for sentence in sentences:
        for word in set(WORD.findall(sentence)):
            result[word].append(sentence)
    return result


def swap(row: list[int], old: int, new: list[int]) -> list[int]:
    """Return the row with other tokens in the place of one."""
    at = row.index(old)
    return row[:at] + new + row[at + 1 :]


def pad(rows: list[list[int]]) -> torch.Tensor:
    """Return the rows as one tensor (rows, longest), filled up with zeros."""
    width = max(map(len, rows))
    return torch.tensor([row + [0] * (width - len(row)) for row in rows])


def generate(task: str, folder: Path, texts: list[str], **settings: Any) -> list[str]:
    """Return what ``pipeline`` says to each text, called as in a notebook."""
    pipe = pipeline(task, model=str(folder), batch_size=16, **settings)
    outputs = [x[0] if isinstance(x, list) else x for x in pipe(texts)]
    return [next(iter(output.values())) for output in outputs]


def publish(stage: Translator, folder: Path) -> None:
    """Write the model in half precision and its scores into its card; put both in place."""
    step, epoch, _, seconds, _ = restore(stage.model, stage.work / f"{stage.name}.pt")["where"]
    new, old = folder.with_suffix(".new"), folder.with_suffix(".old")
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    tasks = stage.model.config.task_specific_params or {}
    settings = {k: v for k, v in tasks.get(stage.task, {}).items() if k != "prefix"}
    stage.model.generation_config.update(**settings)
    stage.model.half().save_pretrained(new)
    stage.tokenizer.save_pretrained(new)
    config = json.loads((new / "config.json").read_text())
    config["torch_dtype"] = "float32"  # half precision is for the file only
    (new / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    size = sum(parameter.numel() for parameter in stage.model.parameters()) / 1e6
    scores = "\n".join([
        f"{size:.2f} million parameters, trained in {seconds / 60:.0f} minutes on two CPU cores: "
        f"{step:,} steps of {WORKERS} × {TOKENS:,} tokens, {epoch} epochs.\n",
        *stage.evaluate(new),
    ])
    print(scores)
    marks = "<!-- written by train.py -->", "<!-- end -->"
    before, rest = (folder / "README.md").read_text("utf-8").split(marks[0])
    card = f"{before}{marks[0]}\n\n{scores}\n\n{marks[1]}{rest.split(marks[1])[1]}"
    (new / "README.md").write_text(card, "utf-8")
    folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old)


def main() -> None:
    """Train the models asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with " + " and ".join(SHA256))
    parser.add_argument("--stage", choices=STAGES, help="train only this one (default: all)")
    parser.add_argument("--steps", type=int, help="how many steps (default: the recipe's)")
    parser.add_argument("--work", type=Path, default=HERE / "work", help="for the checkpoints")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    for name in [arguments.stage] if arguments.stage else STAGES:
        make = partial(STAGES[name], arguments.data, arguments.work)
        fit(make, arguments.work / f"{name}.pt", arguments.steps or STAGES[name].steps)
        publish(make(), HERE / name)


if __name__ == "__main__":
    main()
