"""Score systems' answers to a benchmark: text metrics under named protocols, rewards, intervals, paired comparisons.

Reads Questions, Predictions and a judge's Scores; writes `scores.jsonl`, `summary.json` (`metrics.summary.Summary`) and
`rejects.jsonl`. Questions that a system did not answer are named, not scored as 0, and comparisons use what both answered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any

import msgspec

from medchatzh import records
from medchatzh.metrics.bleu import SMOOTHINGS
from medchatzh.metrics.comparison import Column, Comparison, System, categories, describe
from medchatzh.metrics.counts import Floats
from medchatzh.metrics.protocols import PROTOCOLS
from medchatzh.metrics.published import TABLE_1
from medchatzh.metrics.signature import signature
from medchatzh.metrics.summary import JUDGE, Reconciliation, Summary
from medchatzh.recipe import Settings
from medchatzh.records import Prediction, Question, Reject, Score
from medchatzh.run import Context, Progress, Result

VERSION = 2
LIBRARIES = ("numpy", "numba", "jieba")

REWARD = "reward"


class Config(Settings, frozen=True, kw_only=True):
    """How to score, and how sure to be."""

    protocols: tuple[str, ...] = ("strict", "medchatzh")
    """`strict`, `medchatzh`, `huatuogpt-char`, `huatuogpt-jieba`, `llamafactory`: `metrics.protocols` says what each is, and why the first
    is `strict`."""
    smoothing: str = "none"
    """BLEU's smoothing under `strict` and `medchatzh`: `none` (the paper states none), or NLTK's `method1` to `method7`. The others have
    their own."""
    num_resamples: int = 2000
    """Bootstrap resamples. From seed to seed the ends of an interval then move by 3 % of its half-width (700 questions)."""
    min_category_size: int = 30
    """Categories with fewer questions are marked small. With 30 a mean of BLEU-1 is known to ± 2.4 points under `strict` and ± 3.6
    under `medchatzh` (standard deviations 6.8 and 10.1, measured on random answers to 700 questions)."""
    confidence: float = 0.95
    """Coverage of the intervals: a share from 0.5 to below 1."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.protocols if name not in PROTOCOLS]
        if unknown or not self.protocols or len(set(self.protocols)) < len(self.protocols):
            raise ValueError(f"protocols: {list(self.protocols)}: give one or more of {', '.join(PROTOCOLS)}, each once")
        if self.smoothing not in SMOOTHINGS:
            raise ValueError(f"smoothing: {self.smoothing!r}: give one of {', '.join(SMOOTHINGS)}")
        if self.num_resamples < 100:
            raise ValueError(f"num_resamples: {self.num_resamples}: give at least 100, the ends of an interval need them")
        if self.min_category_size < 1:
            raise ValueError(f"min_category_size: {self.min_category_size}: give 1 (marks none) or more")
        if not 0.5 <= self.confidence < 1:
            raise ValueError(f"confidence: {self.confidence}: give a share from 0.5 to below 1, 0.95 for instance")


def columns(config: Config) -> list[Column]:
    """The text metrics under each protocol, in the order of print."""
    return [Column(protocol, name) for protocol in config.protocols for name in PROTOCOLS[protocol].names]


def score(
    pairs: Sequence[tuple[Prediction, Question]],
    protocols: Sequence[str],
    smoothing: str,
    advance: Callable[[int], object] = lambda done: None,
) -> Floats:
    """The text metrics of answers: (n, 8 for each protocol), in the order of `columns`. `advance` hears of answers done, by protocol."""
    import numpy as np

    answers = [prediction.answer for prediction, _ in pairs]
    parts = []
    for name in protocols:
        protocol = PROTOCOLS[name].smoothed(smoothing)
        references = [protocol.references(question.without(prediction.reference)) for prediction, question in pairs]
        parts.append(protocol.scores(answers, references, advance=advance))
    return np.hstack(parts)


class Benchmark:
    """The questions that can be scored, and what became of the others."""

    def __init__(self, questions: Iterable[Question], protocols: Sequence[str]) -> None:
        self.rejects: list[Reject] = []
        """Questions whose id came before: `repeated_question`. The first one stays."""
        known: dict[str, Question] = {}
        for question in questions:
            if question.id in known:
                self.rejects.append(_reject(question, "repeated_question", "the first with this id is scored", question))
            else:
                known[question.id] = question
        self.unscorable = {key for key, question in known.items() if not all(PROTOCOLS[name].references(question) for name in protocols)}
        """Ids of the questions without an answer to score against."""
        self.questions = {key: question for key, question in known.items() if key not in self.unscorable}
        self._protocols = protocols

    @property
    def reconciliation(self) -> Reconciliation:
        repeated, no_reference, scorable = len(self.rejects), len(self.unscorable), len(self.questions)
        loaded = repeated + no_reference + scorable
        return Reconciliation(loaded=loaded, repeated=repeated, no_reference=no_reference, scorable=scorable)

    def align(self, predictions: Iterable[Prediction]) -> Iterator[Prediction | Reject]:
        """One system's predictions: first what is set aside, then the rest in the order of the questions.

        Reasons: `unknown_question`, `no_reference` (none, or only the one that is the prediction), `repeated_prediction` (the first is
        kept), `no_prediction`.
        """
        found: dict[str, Prediction | Reject] = {}
        system = ""
        for prediction in predictions:
            system = prediction.system
            if prediction.id in self.unscorable:
                yield _reject(prediction, "no_reference", system, prediction)
            elif prediction.id not in self.questions:
                yield _reject(prediction, "unknown_question", system, prediction)
            elif prediction.id in found:
                yield _reject(prediction, "repeated_prediction", system, prediction)
            else:
                left = self.questions[prediction.id].without(prediction.reference)
                scorable = all(PROTOCOLS[name].references(left) for name in self._protocols)
                found[prediction.id] = prediction if scorable else _reject(prediction, "no_reference", system, prediction)
        for key, question in self.questions.items():
            yield found[key] if key in found else _reject(question, "no_prediction", system, None)


def _reject(about: records.Record, reason: str, detail: str, record: Any) -> Reject:
    return Reject.of(about, "evaluate", reason, detail, record=record)


def read_benchmark(folder: Path, protocols: Sequence[str]) -> Benchmark:
    """ValueError where the folder's `questions.jsonl` holds nothing to score."""
    path = folder / "questions.jsonl"
    benchmark = Benchmark(records.read(path, Question), protocols)
    if not benchmark.questions:
        loaded = benchmark.reconciliation.loaded
        raise ValueError(f"{path}: no question with a reference ({loaded} loaded); give ingest a benchmark with label-1 answers")
    return benchmark


def read_system(folder: Path) -> tuple[str, list[Prediction]]:
    """A system's name and predictions; ValueError where `predictions.jsonl` holds none, or those of several systems."""
    path = folder / "predictions.jsonl"
    predictions = list(records.read(path, Prediction))
    names = sorted({prediction.system for prediction in predictions})
    if not names and any(reject.reason == "single_reference" for reject in records.read(folder / "rejects.jsonl", Reject)):
        return "", []
    if len(names) != 1:
        found = f"predictions of {', '.join(names)}; give each system its own folder" if names else "no prediction; generate answers first"
        raise ValueError(f"{path}: {found}")
    return names[0], predictions


def read_rewards(folder: Path) -> dict[tuple[str, str], float]:
    """(system, question id) → reward. Of an answer judged twice the first counts; other metrics in the file are not read."""
    found: dict[tuple[str, str], float] = {}
    for judged in records.read(folder / "scores.jsonl", Score):
        if judged.metric == REWARD:
            found.setdefault((judged.system, judged.id), judged.value)
    return found


def score_all(
    config: Config, benchmark: Benchmark, aligned: Mapping[str, list[Prediction]], rewards: Mapping[tuple[str, str], float]
) -> Iterator[System]:
    """Every system with its values: the text metrics and, where there are any rewards, those."""
    import numpy as np

    with Progress("evaluate", sum(map(len, aligned.values())) * len(config.protocols), "answers") as progress:
        for name, predictions in aligned.items():
            pairs = [(prediction, benchmark.questions[prediction.id]) for prediction in predictions]
            values = score(pairs, config.protocols, config.smoothing, progress.add)
            if rewards:
                given = [rewards.get((name, prediction.id), float("nan")) for prediction in predictions]
                values = np.column_stack([values, given])
            yield System(name, predictions, values)


def scores(system: System, meaning: Sequence[Column], questions: Mapping[str, Question]) -> Iterator[Score]:
    """A `Score` for each number of a system, by question."""
    for prediction, row in zip(system.answers, system.values.tolist(), strict=True):
        category = questions[prediction.id].category
        for column, value in zip(meaning, row, strict=True):
            if not isnan(value):
                yield Score(id=prediction.id, system=system.name, metric=column.name, value=value, category=category)


def signatures(config: Config, questions: Iterable[Question]) -> dict[str, dict[str, str]]:
    """Protocol → metric → signature of the text metrics."""
    questions = list(questions)
    return {name: PROTOCOLS[name].smoothed(config.smoothing).signatures(questions) for name in config.protocols}


def summarize(config: Config, benchmark: Benchmark, systems: Sequence[System], meaning: Sequence[Column], judge: str, seed: int) -> Summary:
    """The tables. `judge` names the judge (its folder, whose fingerprint covers model and settings), '' for none."""
    main, *others = systems
    tables = Comparison(
        meaning,
        num_resamples=config.num_resamples,
        confidence=config.confidence,
        min_category_size=config.min_category_size,
        seed=seed,
    )
    groups = categories(benchmark.questions.values())
    signed = signatures(config, benchmark.questions.values())
    metrics = tuple(signed[config.protocols[0]])
    if judge:
        signed[JUDGE] = {REWARD: signature(REWARD, lvl="answer", agg="mean", v=judge)}
    return Summary(
        main=main.name,
        systems=tuple(system.name for system in systems),
        protocols=config.protocols,
        metrics=metrics,
        signatures=signed,
        questions=benchmark.reconciliation,
        categories={name: len(members) for name, members in groups.items()},
        means=tuple(row for system in systems for row in tables.means(system)),
        by_category=tuple(row for name, members in groups.items() for row in tables.by_category(name, members, systems)),
        differences=tuple(row for other in others for row in tables.differences(main, other)),
        answers=tuple(describe(system.name, system.answers) for system in systems),
        published=TABLE_1,
        num_resamples=config.num_resamples,
        confidence=config.confidence,
        min_category_size=config.min_category_size,
    )


def _align_all(folders: Iterable[Path], benchmark: Benchmark) -> tuple[dict[str, list[Prediction]], list[Reject]]:
    """System → its scorable predictions, in the order of the folders; and what was set aside."""
    aligned: dict[str, list[Prediction]] = {}
    rejects: list[Reject] = []
    for folder in folders:
        name, predictions = read_system(folder)
        if not predictions:
            continue  # no question has a second answer of its own: there is no human to compare with
        if name in aligned:
            raise ValueError(f"{folder}: predictions of {name!r}, as in an input before it; give each system its own name")
        entries = list(benchmark.align(predictions))
        rejects += [entry for entry in entries if isinstance(entry, Reject)]
        aligned[name] = [entry for entry in entries if isinstance(entry, Prediction)]
        if not aligned[name]:
            raise ValueError(f"{folder}: no prediction for a question of the benchmark; generate answers to its questions")
    return aligned, rejects


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: Context) -> Result:
    """Score the systems of the inputs `generate@…` (the first is the main one) on the questions of `ingest`.

    `judge` is optional. In the result, `num_in` counts the predictions read, those missing, and repeated questions.
    """
    folders = [path for label, path in inputs.items() if label.partition("@")[0] == "generate"]
    if "ingest" not in inputs or not folders:
        raise ValueError("evaluate needs the input ingest (questions.jsonl) and one or more inputs generate@SYSTEM (predictions.jsonl)")
    benchmark = read_benchmark(inputs["ingest"], config.protocols)
    aligned, set_aside = _align_all(folders, benchmark)
    rejects = [*benchmark.rejects, *set_aside]
    meaning = columns(config)
    rewards: dict[tuple[str, str], float] = {}
    if "judge" in inputs:
        meaning.append(Column(JUDGE, REWARD))
        rewards = read_rewards(inputs["judge"])
        if not any((name, answer.id) in rewards for name, answers in aligned.items() for answer in answers):
            raise ValueError(
                f"{inputs['judge']}: no reward for an answer of {', '.join(aligned)}; judge these predictions, or leave the judge out"
            )
    systems = list(score_all(config, benchmark, aligned, rewards))
    rows = (row for system in systems for row in scores(system, meaning, benchmark.questions))
    records.write(out / "scores.jsonl", rows)
    records.write(out / "rejects.jsonl", rejects)
    judge = inputs["judge"].name if rewards else ""
    summary = summarize(config, benchmark, systems, meaning, judge, context.seed)
    (out / "summary.json").write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")
    facts = {"main": summary.main, "systems": list(summary.systems), "questions": msgspec.to_builtins(summary.questions)}
    facts["means"] = {f"{row.system} {Column(row.protocol, row.metric).name}": round(row.mean, 2) for row in summary.means}
    num_scored = sum(map(len, aligned.values()))
    dropped = Counter(reject.reason for reject in rejects)
    return Result(num_in=num_scored + len(rejects), num_out=num_scored, dropped=dropped, facts=facts)
