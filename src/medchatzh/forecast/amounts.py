"""How much there is to learn from: counted where a run has got so far, else estimated from the records at hand, else assumed, and said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
import numpy as np

from medchatzh import ingest, models
from medchatzh.models import packing
from medchatzh.records import Dialogue, Document, Preference, read
from medchatzh.run import MANIFEST, PARTIAL, SCRATCH, read_manifest
from medchatzh.train import defects, reward
from medchatzh.train.optimization import Optimization
from medchatzh.train.reward import Defects

if TYPE_CHECKING:
    from medchatzh.pipeline import Plan, Recipe

Stage = Literal["pretrain", "reward", "sft", "dpo"]
STAGES: tuple[Stage, ...] = ("pretrain", "reward", "sft", "dpo")
_SOURCES = {
    "pretrain": ("books", "documents.jsonl"),
    "reward": ("ingest", "preferences.jsonl"),
    "sft": ("mix", "train.jsonl"),
    "dpo": ("ingest", "preferences.jsonl"),
}
"""Where a stage's records lie: the stage that made them, and its file."""
_STAGE_OF = {
    "book": "pretrain",
    "drug_text": "pretrain",
    "rankings": "",
    "pairs": "",
    "disc_scores": "",
    "webmedqa": "",
    "cmedqa2_test": "",
}
"""What a source's format is read for; the rest are dialogues."""
_ARCHIVES, _PACKED, _BYTES_A_CHAR = (".zip", ".gz", ".xz", ".bz2", ".tar"), 3, 3
"""Chinese in UTF-8 has three bytes a character, and shrinks to a third."""
_SAMPLE = 500
"""Records that the characters a token are measured on."""
_CHARS_A_TOKEN = 1.24
"""Of our own tokenizer of 8,000 pieces on books; one with 64,000 makes some 10 % fewer tokens."""
_MARKS = 8
"""Tokens that the template adds to an exchange."""
_BOOK_TOKENS = 83_000
"""120 public TCM books are 10 million tokens."""
_BOOKS, _RANKINGS = 1000, 3000
"""The paper's (abstract and section 3.2: over 1,000 books; 3,000 rankings)."""
_MEDICAL, _GENERAL = 763_629, 1_305_194
_MEDICAL_TOKENS, _GENERAL_TOKENS, _ANSWER_TOKENS, _ANSWERS = 200, 350, 300, 4
"""A record, or a ranked answer with its question. 1,499 real medical dialogues have 197 on average; general answers of fewer than 200 are
discarded (section 3.2), so their mean lies well above."""
_SUPERVISED = 0.6
"""Of an instruction's tokens, those of answers."""
_FORMS = {"repeated": 1.3, "cut": 0.5, "shortened": 0.5, "empty": 0.5}
"""Length of a damaged answer, of the answer's own; 1 for kinds not named (`train/defects.py`)."""
_FILL = 0.985
"""Of a packed row's positions (best fit over real dialogues)."""


class Amount(NamedTuple):
    """What an epoch of a stage reads."""

    num_examples: int
    num_tokens: int
    num_units: int
    """Rows, packed; rankings where those are learnt from."""
    context_tokens: float
    """Length of the example that a token stands in, on average over tokens: what attention pays for."""
    supervised: float
    """Share of the tokens that the head is asked about."""
    answers: float
    """Examples a ranking; 0 elsewhere."""
    basis: str
    """Where the numbers come from; 中文 / English."""


def amount(stage: Stage, recipe: Recipe, plan: Plan | None, config: Optimization, given_tokens: int = 0) -> Amount:
    """The best that can be known of a stage's data."""
    if given_tokens:
        lengths = np.full(max(1, given_tokens // 300), 300)
        return _of_lengths(lengths, config, _supervised(stage), "由 --tokens 给定 / given by --tokens", scale=given_tokens / lengths.sum())
    found = plan and (_counted(stage, plan, config) or _estimated(stage, plan, config) or _by_size(stage, plan, config))
    return found or _assumed(stage, recipe, config)


def of_lesson(lesson: Defects, plan: Plan | None, config: Optimization) -> Amount:
    """What a lesson of the reward model reads in all its epochs."""
    answers = 1 + len(lesson.kinds)
    known = _ranked_or_curated(lesson, plan)
    lengths = np.array([length for length, _ in known], float)
    asked = np.array([asked for _, asked in known], float)
    if len(known):  # drawn in proportion to length
        count, mean, question = min(lesson.count, len(known)), (lengths**2).sum() / lengths.sum(), (asked * lengths).sum() / lengths.sum()
        basis = (
            f"按字数估计，{_CHARS_A_TOKEN} chars/token，{len(known):,} 条 / by characters of {len(known):,} answers that could be damaged"
        )
    else:
        count, mean, question = lesson.count, float(np.clip(_ANSWER_TOKENS, *lesson.chars)), 0.0
        basis = f"假设每个回答 {mean:.0f} 字 / assumed: answers of {mean:.0f} characters"
    chars = answers * question + mean * (1 + sum(_FORMS.get(kind, 1) for kind in lesson.kinds))
    each = round(chars / answers / _CHARS_A_TOKEN) + _MARKS
    found = _of_lengths(np.full(100, each), config, 0.0, basis, scale=count * lesson.epochs * answers / 100)
    return found._replace(num_units=count * lesson.epochs, answers=float(answers))


def _ranked_or_curated(lesson: Defects, plan: Plan | None) -> list[tuple[int, int]]:
    """(characters of the answer, of the question) of what a lesson could damage, as far as it is there."""
    stage, files, kind = (
        ("curate", ("medical", "general"), Dialogue) if lesson.of == "dialogues" else ("ingest", ("preferences",), Preference)
    )
    if plan is None or not (plan.folder(stage) / MANIFEST).exists():
        return []
    records: Iterator[Any] = (each for name in files for each in read(plan.folder(stage) / f"{name}.jsonl", kind))
    pairs = defects.Answered(list(records) if lesson.of == "dialogues" else reward.answered(records), lesson.chars).pairs
    return [(len(answer), len(dialogue.question)) for dialogue, answer in pairs]


def _supervised(stage: Stage) -> float:
    return {"pretrain": 1.0, "sft": _SUPERVISED, "reward": 0.0, "dpo": _SUPERVISED}[stage]


def _of_lengths(lengths: np.ndarray, config: Optimization, supervised: float, basis: str, scale: float = 1.0) -> Amount:
    lengths = np.minimum(lengths, config.row_tokens)
    tokens = float(lengths.sum())
    if config.packing:
        rows = (
            len(packing.pack(lengths, np.arange(len(lengths)), config.row_tokens))
            if len(lengths) < 300_000
            else tokens / _FILL / config.row_tokens
        )
    else:
        rows = len(lengths)
    context = float((lengths.astype(float) ** 2).sum() / max(1.0, tokens))
    return Amount(round(len(lengths) * scale), round(tokens * scale), max(1, round(rows * scale)), context, supervised, 0.0, basis)


def _counted(stage: Stage, plan: Plan, config: Optimization) -> Amount | None:
    """From the stage's own folder: encoded tokens while it runs, its manifest when it is done."""
    folder = plan.folder(stage)
    if stage in ("reward", "dpo"):
        return None
    tokens = folder.with_name(folder.name + PARTIAL) / SCRATCH / {"pretrain": "tokens", "sft": "train"}[stage]
    if (tokens / "offsets.npy").is_file():
        examples, _ = packing.load(tokens)
        share = float(examples.supervised.mean()) if len(examples) else 0.0
        return _of_lengths(examples.lengths, config, share, f"编码后的数据 / encoded data: {tokens.parent.parent.name}")
    if not (folder / MANIFEST).exists():
        return None
    facts = read_manifest(folder).facts
    if not facts.get("num_corpus_tokens"):
        return None
    mean = facts["num_corpus_tokens"] / max(1, facts["num_examples"])
    lengths = np.full(facts["num_examples"], round(mean))
    scale = facts["num_corpus_tokens"] / max(1, lengths.sum())
    return _of_lengths(lengths, config, _supervised(stage), f"已完成的阶段 / the finished stage: {folder.name}", scale)


def _estimated(stage: Stage, plan: Plan, config: Optimization) -> Amount | None:
    """From the records of the stage before, by characters; how many are a token is measured where the tokenizer is done."""
    source, file = _SOURCES[stage]
    folder = plan.folder(source)
    if not (folder / MANIFEST).exists():
        return None
    path = folder / file
    rate, how = _chars_a_token(plan, stage, path)
    if stage == "pretrain":
        chars = np.array([len(document.text) for document in read(path, Document)], float)
        whole = (chars / rate + 1).astype(int)
        lengths = np.concatenate([np.full(n // config.row_tokens, config.row_tokens) for n in whole] + [whole % config.row_tokens])
        lengths = lengths[lengths > 0]
    elif stage == "sft":
        lengths = np.array([_length(dialogue, rate) for dialogue in read(path, Dialogue)])
        lengths = lengths[lengths <= config.row_tokens]
    else:
        return _of_rankings(stage, path, rate, config, f"{folder.name} 的排序，{how} / its rankings, {how}")
    if not len(lengths):
        return None
    return _of_lengths(lengths, config, _supervised(stage), f"{folder.name} 的记录按字数估计，{how} / by characters, {how}")


def _by_size(stage: Stage, plan: Plan, config: Optimization) -> Amount | None:
    """From the size of the raw files, where nothing has been read yet. An upper bound: nothing is dropped, and marks count as text."""
    recipe = plan.recipe
    wanted = [source for source in recipe.ingest.sources if not source.benchmark and _STAGE_OF.get(source.format, "sft") == stage]
    if not wanted:
        return None
    files = ingest.raw_files(msgspec.structs.replace(recipe.ingest, sources=tuple(wanted)), plan.root).values()
    size = sum(path.stat().st_size * (_PACKED if path.suffix in _ARCHIVES else 1) for path in files)
    tokens = max(1, round(size / _BYTES_A_CHAR / _CHARS_A_TOKEN))
    mean = config.row_tokens if stage == "pretrain" else (_MEDICAL_TOKENS + _GENERAL_TOKENS) // 2
    basis = f"按原始文件大小（{size / 1e6:,.1f} MB）的上限 / upper bound by the size of the raw files"
    return _of_lengths(np.full(100, mean), config, _supervised(stage), basis, tokens / (100 * min(mean, config.row_tokens)))


def _length(dialogue: Dialogue, rate: float) -> int:
    return round(sum(len(turn.content) for turn in dialogue.turns) / rate) + _MARKS * len(dialogue.answers)


def _of_rankings(stage: Stage, path: Path, rate: float, config: Optimization, basis: str) -> Amount | None:
    per_ranking, lengths = [], []
    for preference in read(path, Preference):
        asked = sum(len(turn.content) for turn in preference.prompt)
        per_ranking.append(len(preference.answers))
        lengths += [round((asked + len(answer)) / rate) + _MARKS for answer in preference.answers]
    if not per_ranking:
        return None
    found = _of_lengths(np.array(lengths), config, _supervised(stage), basis)
    return found._replace(num_units=len(per_ranking), answers=len(lengths) / len(per_ranking))


def _chars_a_token(plan: Plan, stage: Stage, path: Path) -> tuple[float, str]:
    done = [plan.folder(name) / inner for name, inner in (("pretrain", "checkpoint"), ("tokenizer", ""))]
    folder = next((place for place in done if (place / "tokenizer_config.json").is_file()), None)
    texts = list(_texts(stage, path))
    if not folder or not texts:
        return _CHARS_A_TOKEN, f"{_CHARS_A_TOKEN} chars/token"
    tokenizer, _ = models.load_tokenizer(folder)
    ids = tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    rate = sum(map(len, texts)) / max(1, sum(map(len, ids)))
    return rate, f"{rate:.2f} chars/token (measured on {len(texts)} records)"


def _texts(stage: Stage, path: Path) -> Iterator[str]:
    from itertools import islice

    if stage == "pretrain":
        yield from (document.text[:5000] for document in islice(read(path, Document), _SAMPLE))
    elif stage == "sft":
        yield from (_said(dialogue) for dialogue in islice(read(path, Dialogue), _SAMPLE))
    else:
        yield from (preference.answers[0] for preference in islice(read(path, Preference), _SAMPLE))


def _said(dialogue: Dialogue) -> str:
    """What a dialogue says, without marks."""
    return "\n".join(turn.content for turn in dialogue.turns)


def _assumed(stage: Stage, recipe: Recipe, config: Optimization) -> Amount:
    """From what the recipe and the paper say."""
    if stage == "pretrain":
        books = sum(source.limit or _BOOKS for source in recipe.ingest.sources if source.format == "book") or _BOOKS
        lengths = np.tile(np.array([config.row_tokens] * 9 + [config.row_tokens // 2]), 100)
        scale = books * _BOOK_TOKENS / lengths.sum()
        basis = f"假设 {books:,} 部书 × {_BOOK_TOKENS:,} 词元 / assumed: {books:,} books of {_BOOK_TOKENS:,} tokens"
        return _of_lengths(lengths, config, 1.0, basis, scale)
    if stage in ("reward", "dpo"):
        found = _of_lengths(np.full(_RANKINGS * _ANSWERS, _ANSWER_TOKENS), config, _supervised(stage), "")
        basis = (
            f"假设 {_RANKINGS:,} 组排序 × {_ANSWERS} 个回答 × {_ANSWER_TOKENS} 词元"
            f" / assumed: {_RANKINGS:,} rankings of {_ANSWERS} answers of {_ANSWER_TOKENS} tokens"
        )
        return found._replace(num_units=_RANKINGS, answers=float(_ANSWERS), basis=basis)
    medical = (recipe.mix.max_medical or _MEDICAL) if "medical" in recipe.sft.pools else 0
    general = (recipe.mix.max_general or _GENERAL) if "general" in recipe.sft.pools else 0
    kept = 1 - recipe.mix.validation_share
    one_in = max(1, (medical + general) // 20_000)
    lengths = np.concatenate([np.full(medical // one_in, _MEDICAL_TOKENS), np.full(general // one_in, _GENERAL_TOKENS)])
    lengths = np.random.default_rng(0).permutation(lengths)
    scale = kept * (medical + general) / len(lengths)
    basis = (
        f"假设医学 {medical:,} × {_MEDICAL_TOKENS}、通用 {general:,} × {_GENERAL_TOKENS} 词元"
        f" / assumed: {medical:,} medical of {_MEDICAL_TOKENS} tokens, {general:,} general of {_GENERAL_TOKENS}"
    )
    return _of_lengths(lengths, config, _SUPERVISED, basis, scale)


def steps_per_epoch(found: Amount, config: Optimization) -> int:
    """Steps of an epoch, as `train/loop.py` and `train/reward.py` count them."""
    held_out = getattr(config, "held_out", 0.0)
    return max(1, -(-round(found.num_units * (1 - held_out)) // config.units_a_step))
