"""The report's section of sample answers: questions drawn over the categories, with every system's answer and its scores."""

from __future__ import annotations

import random
from collections.abc import Iterable

from medchatzh.records import Question, Score, read
from medchatzh.report.data import Inputs, quote
from medchatzh.report.view import Block, Both, Reply, Sample, Text, missing

METRICS = ("reward", "BLEU-1", "ROUGE-L")
_CHARS = 400


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


def samples(inputs: Inputs, how_many: int, seed: int) -> tuple[Block, ...]:
    systems = [label for label in inputs.folders if label.startswith("generate@")]
    if not systems:
        return (missing("generate@…", "答案样例", "sample answers"),)
    main = next(iter(inputs.systems), "")
    answered = [(prediction.id, prediction.category) for name, found in inputs.predictions() if name == main for prediction in found]
    chosen = draw(answered, how_many, seed)
    if not chosen:
        return (Text(Both(f"主模型 {main} 没有答案。", f"The main system {main} gave no answer."), "warn"),)
    asked = _questions(inputs, set(chosen))
    figures = _figures(inputs, set(chosen))
    replies: dict[str, list[Reply]] = {key: [] for key in chosen}
    texts: dict[str, tuple[str, str]] = {}
    empty = []
    for name, found in inputs.predictions():
        known = inputs.system(name)
        seen: set[str] = set()
        for prediction in found:
            if prediction.id in seen or prediction.id not in replies:
                seen.add(prediction.id)
                continue
            seen.add(prediction.id)
            texts.setdefault(prediction.id, (prediction.question, prediction.category))
            shown = quote(prediction.answer, _CHARS)
            replies[prediction.id].append(Reply(known.label, known.kind, shown, figures.get((name, prediction.id), {})))
        if not seen:
            empty.append(known.label)
    blocks: list[Block] = []
    if "ingest" not in inputs:
        blocks.append(missing("ingest", "参考答案", "reference answers"))
    if empty:
        names = "、".join(empty)
        blocks.append(Text(Both(f"没有任何答案的系统：{names}。", f"Systems without any answer: {names}."), "warn"))
    for key in chosen:
        question, category = texts[key]
        references = tuple(quote(reference, _CHARS) for reference in asked[key].references) if key in asked else ()
        blocks.append(Sample(key, category, quote(question, _CHARS), references, tuple(replies[key])))
    return tuple(blocks)


def _questions(inputs: Inputs, chosen: set[str]) -> dict[str, Question]:
    path = inputs.folders["ingest"] / "questions.jsonl" if "ingest" in inputs else None
    if path is None or not path.exists():
        return {}
    found: dict[str, Question] = {}
    for question in read(path, Question):
        if question.id in chosen:
            found.setdefault(question.id, question)
    return found


def _figures(inputs: Inputs, chosen: set[str]) -> dict[tuple[str, str], dict[str, float]]:
    """(system, question id) → the shown numbers, text metrics under the first protocol."""
    path = inputs.folders["evaluate"] / "scores.jsonl" if "evaluate" in inputs else None
    if not inputs.summary or path is None or not path.exists():
        return {}
    first = inputs.summary.protocols[0] if inputs.summary.protocols else ""
    shown = {name if name == "reward" else f"{first}/{name}": name for name in METRICS}
    figures: dict[tuple[str, str], dict[str, float]] = {}
    for score in read(path, Score):
        if score.id in chosen and score.metric in shown:
            figures.setdefault((score.system, score.id), {})[shown[score.metric]] = score.value
    return figures
