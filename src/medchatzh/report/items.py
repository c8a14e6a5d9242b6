"""What was asked, answered and scored, question by question: a bounded sample in full, and of every answer its length beside its scores.

One pass over the questions and the scores, two over the predictions: 63,255 questions and six systems leave millions of scores.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

import msgspec

from medchatzh.records import Question, Score, read
from medchatzh.report.data import Inputs, System, passage
from medchatzh.report.html import embedded
from medchatzh.report.quotes import transcript
from medchatzh.report.view import Item

_CHARS = 1200
"""Of a text in the browser. Answers of 512 tokens, the paper's limit, have some 800."""
_MAX_BYTES = 3_500_000
"""Of all items as they stand in the page, which is then under 5 MB (63,255 questions, six systems: 3.8 MB)."""


R = TypeVar("R", bound=msgspec.Struct)


class Scored(NamedTuple):
    """The answers of one system that have a score of one column: characters (without white space) and value, side by side."""

    lengths: array[float]
    values: array[float]


class Gathered(NamedTuple):
    """What the report shows of single answers."""

    systems: tuple[System, ...]
    """Those whose predictions were given, main first."""
    columns: tuple[str, ...]
    """Metrics of the scores, as in `scores.jsonl`: the text metrics by protocol, then others."""
    num_questions: int
    """Questions that any system answered."""
    items: dict[str, Item]
    """Id → item, in the order of the draw (`draw`): the first of them are a smaller draw."""
    order: tuple[str, ...]
    """The ids of the items in the order of the benchmark."""
    lengths: dict[str, array[float]]
    """System → characters of each of its answers."""
    reference_lengths: array[float]
    """Characters of each of the questions' own answers."""
    scored: dict[tuple[str, str], Scored]
    """(system, column) → its answers' lengths and values, for the columns asked for."""


def draw(questions: Iterable[tuple[str, str]], how_many: int, seed: int) -> list[str]:
    """Ids of `how_many` questions from (id, category) pairs: category after category, one at a time, in an order set by `seed`."""
    groups: dict[str, list[str]] = {}
    for key, category in sorted(set(questions)):
        groups.setdefault(category, []).append(key)
    rng = random.Random(seed)
    order = sorted(groups)
    rng.shuffle(order)
    for category in order:
        rng.shuffle(groups[category])
    deepest = max(map(len, groups.values()), default=0)
    spread = [groups[category][depth] for depth in range(deepest) for category in order if depth < len(groups[category])]
    return spread[:how_many]


def gather(inputs: Inputs, how_many: int, seed: int, by_length: Iterable[str]) -> Gathered:
    """Everything at once. `by_length`: the columns whose values are wanted beside the lengths of all answers."""
    lengths: dict[str, dict[str, int]] = {}
    asked: dict[str, str] = {}
    for system, predictions in inputs.predictions():
        own = lengths[system] = {}
        for prediction in predictions:
            own.setdefault(prediction.id, characters(prediction.answer))
            asked.setdefault(prediction.id, prediction.category)
    systems = tuple(map(inputs.system, lengths))
    chosen = draw(asked.items(), how_many, seed)
    wanted = set(chosen)
    answers: dict[tuple[str, str], str] = {}
    texts: dict[str, str] = {}
    for system, predictions in inputs.predictions():
        for prediction in predictions:
            if prediction.id in wanted:
                answers.setdefault((system, prediction.id), passage(prediction.answer, _CHARS))
                texts.setdefault(prediction.id, prediction.question)
    questions, reference_lengths = _questions(inputs, wanted)
    scores, scored = _scores(inputs, wanted, lengths, set(by_length))
    columns = _columns(inputs, scores)
    items: dict[str, Item] = {}
    size = 0
    for key in chosen:
        question = questions.get(key)
        item = Item(
            key,
            asked[key],
            passage(_conversation(question) if question else texts[key], _CHARS),
            tuple(passage(text, _CHARS) for text in (question.references if question else ())),
            tuple(passage(text, _CHARS) for text in (question.distractors if question else ())),
            tuple(answers.get((system.name, key)) for system in systems),
            tuple(lengths[system.name].get(key) for system in systems),
            tuple(tuple(scores.get((system.name, key), {}).get(column) for column in columns) for system in systems),
        )
        size += len(embedded(item).encode())
        if size > _MAX_BYTES:
            break
        items[key] = item
    return Gathered(
        systems,
        columns,
        len(asked),
        items,
        tuple(key for key in asked if key in items),
        {system: array("d", own.values()) for system, own in lengths.items()},
        reference_lengths,
        scored,
    )


def characters(text: str) -> int:
    """Length without white space, as the metrics count it."""
    return len("".join(text.split()))


def _conversation(question: Question) -> str:
    """What was asked; with the turns before it, where there are any."""
    if not question.history:
        return question.question
    words, _ = transcript({"turns": [msgspec.to_builtins(turn) for turn in question.turns]})
    return words


def _questions(inputs: Inputs, wanted: set[str]) -> tuple[dict[str, Question], array[float]]:
    """(the wanted questions, characters of the own answers of all). Of a repeated id the first counts."""
    found: dict[str, Question] = {}
    lengths = array("d")
    seen: set[str] = set()
    for question in _records(inputs, "ingest", "questions.jsonl", Question):
        if question.id in seen:
            continue
        seen.add(question.id)
        lengths.extend(map(characters, filter(str.strip, question.references)))
        if question.id in wanted:
            found[question.id] = question
    return found, lengths


def _scores(
    inputs: Inputs, wanted: set[str], lengths: dict[str, dict[str, int]], by_length: set[str]
) -> tuple[dict[tuple[str, str], dict[str, float]], dict[tuple[str, str], Scored]]:
    """((system, id) → column → value of the wanted questions, what `Gathered.scored` says)."""
    shown: dict[tuple[str, str], dict[str, float]] = {}
    scored: dict[tuple[str, str], Scored] = {}
    for score in _records(inputs, "evaluate", "scores.jsonl", Score):
        if score.id in wanted:
            shown.setdefault((score.system, score.id), {}).setdefault(score.metric, round(score.value, 3))
        if score.metric in by_length and score.id in (own := lengths.get(score.system, {})):
            pairs = scored.setdefault((score.system, score.metric), Scored(array("d"), array("d")))
            pairs.lengths.append(own[score.id])
            pairs.values.append(score.value)
    return shown, scored


def _records(inputs: Inputs, label: str, name: str, kind: type[R]) -> Iterator[R]:
    path = inputs.folders[label] / name if label in inputs else None
    return read(path, kind) if path is not None and path.exists() else iter(())


def _columns(inputs: Inputs, scores: dict[tuple[str, str], dict[str, float]]) -> tuple[str, ...]:
    """The columns that the scores have: those of the summary in its order, then the rest."""
    found = dict.fromkeys(column for row in scores.values() for column in row)
    summary = inputs.summary
    known = [f"{protocol}/{metric}" for protocol in summary.protocols for metric in summary.metrics] if summary else []
    return tuple(column for column in dict.fromkeys((*known, *found)) if column in found)
