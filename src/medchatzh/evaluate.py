"""Score systems' answers to a benchmark: text metrics under named protocols, rewards, intervals, paired comparisons.

Reads Questions, Predictions, judges' Scores and what the training mix knows of the benchmark; writes `scores.jsonl`, `rejects.jsonl`
and `summary.json` (`metrics.summary.Summary`). Questions that a system did not answer are named, not scored as 0, and comparisons use
what both answered.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any

import msgspec

from medchatzh import records
from medchatzh.benchmarks import shown_name
from medchatzh.contamination import Overlap, by_category, read_overlaps
from medchatzh.metrics.bleu import SMOOTHINGS
from medchatzh.metrics.comparison import Column, Comparison, System, categories, describe, merge_small
from medchatzh.metrics.counts import Floats
from medchatzh.metrics.protocols import PROTOCOLS
from medchatzh.metrics.published import TABLE_1
from medchatzh.metrics.signature import signature
from medchatzh.metrics.summary import JUDGE, Reconciliation, RewardModel, Summary
from medchatzh.recipe import Settings
from medchatzh.records import Prediction, Question, Reject, Score
from medchatzh.run import MANIFEST, Context, Manifest, Progress, Result, read_manifest

VERSION = 4
LIBRARIES = ("numpy", "numba", "jieba")

REWARD = "reward"
SEED_MARK = "#"
"""`medchatzh#44` is the system `medchatzh`, trained with another seed. It counts in ablations only."""


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
    min_category_size: int = 100
    """Categories with fewer questions are merged into one. With 100 a mean of BLEU-1 is known to ± 1.3 points under `strict` and ± 2.0
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
            raise ValueError(f"min_category_size: {self.min_category_size}: give 1 (merges none) or more")
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
        self.num_other_answers = 0
        """Of these, the same question with another answer, which is lost as a reference."""
        known: dict[str, Question] = {}
        for question in questions:
            if question.id in known:
                first = known[question.id]
                self.num_other_answers += question.turns == first.turns and not set(question.references) <= set(first.references)
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


_NO_FLOOR = ("single_reference", "no_other_answer")
"""Why a floor may have no answer at all: there is nothing that it could take one from."""


def read_system(folder: Path) -> tuple[str, list[Prediction]]:
    """A system's name and predictions; ValueError where `predictions.jsonl` holds none, or those of several systems."""
    path = folder / "predictions.jsonl"
    predictions = list(records.read(path, Prediction))
    names = sorted({prediction.system for prediction in predictions})
    set_aside = folder / "rejects.jsonl"
    if not names and set_aside.exists() and any(reject.reason in _NO_FLOOR for reject in records.read(set_aside, Reject)):
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
    config: Config,
    benchmark: Benchmark,
    aligned: Mapping[str, list[Prediction]],
    judged: Sequence[Mapping[tuple[str, str], float]],
) -> Iterator[System]:
    """Every system with its values: the text metrics, and a column of rewards for each judge."""
    import numpy as np

    with Progress("evaluate", sum(map(len, aligned.values())) * len(config.protocols), "answers") as progress:
        for name, predictions in aligned.items():
            pairs = [(prediction, benchmark.questions[prediction.id]) for prediction in predictions]
            values = score(pairs, config.protocols, config.smoothing, progress.add)
            given = [[rewards.get((name, prediction.id), float("nan")) for prediction in predictions] for rewards in judged]
            values = np.column_stack([values, *given])
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


def on_same_terms(config: Config, main: System, other: System, questions: Mapping[str, Question]) -> System:
    """The main system's answers scored as the other's were: a human's without the reference that the human's answer is."""
    left_out = {answer.id: answer.reference for answer in other.answers if answer.reference is not None}
    chosen = [at for at, answer in enumerate(main.answers) if answer.id in left_out]
    if not chosen:
        return main
    answers = [msgspec.structs.replace(main.answers[at], reference=left_out[main.answers[at].id]) for at in chosen]
    values = main.values[chosen]
    again = score([(answer, questions[answer.id]) for answer in answers], config.protocols, config.smoothing)
    values[:, : again.shape[1]] = again
    return System(main.name, answers, values)


def summarize(
    config: Config,
    benchmark: Benchmark,
    systems: Sequence[System],
    meaning: Sequence[Column],
    judges: Sequence[RewardModel],
    overlaps: Mapping[str, Overlap],
    seed: int,
) -> Summary:
    """The tables. The first system is the main one; `overlaps` are empty where nobody looked for any."""
    shown = [system for system in systems if SEED_MARK not in system.name]
    main, *others = shown
    tables = Comparison(
        meaning,
        num_resamples=config.num_resamples,
        confidence=config.confidence,
        min_category_size=config.min_category_size,
        seed=seed,
    )
    questions = benchmark.questions
    whole = categories(questions.values())
    groups = merge_small(whole, config.min_category_size)
    signed = signatures(config, questions.values())
    metrics = tuple(signed[config.protocols[0]])
    if judges:
        signed[JUDGE] = {judge.metric: signature(REWARD, lvl="answer", agg="mean", v=judge.fingerprint) for judge in judges}
    pairs = [(on_same_terms(config, main, other, questions), other) for other in others]
    # A reward model that chose the training records is no judge of who was trained on them, unless another one stands beside it.
    refused = {judge.metric for judge in judges} if all(judge.filtered for judge in judges) else set()
    known = [overlaps[key] for key in questions if key in overlaps]
    clean = {overlap.id for overlap in known if overlap.is_clean}
    return Summary(
        benchmark=_shown_names(questions, shown),
        main=main.name,
        systems=tuple(system.name for system in shown),
        protocols=config.protocols,
        metrics=metrics,
        signatures=signed,
        questions=benchmark.reconciliation,
        categories={name: len(members) for name, members in groups.items()},
        merged={name: len(members) for name, members in whole.items() if name not in groups},
        means=tuple(row for system in shown for row in tables.means(system)),
        by_category=tuple(row for name, members in groups.items() for row in tables.by_category(name, members, shown)),
        differences=tuple(row for row in tables.differences(pairs) if row.metric not in refused),
        category_differences=tuple(
            row for first, other in pairs for row in tables.category_differences(groups, first, other) if row.metric not in refused
        ),
        clean=tuple(row for system in shown for row in tables.means(_part(system, clean))) if 0 < len(clean) < len(known) else (),
        overlap=tuple(by_category(known)),
        ablations=tuple(row for arm, pairs in replicas(systems).items() for row in tables.ablation(arm, pairs)),
        judges=tuple(judges),
        answers=tuple(describe(system.name, system.answers) for system in shown),
        published=TABLE_1,
        num_resamples=config.num_resamples,
        confidence=config.confidence,
        min_category_size=config.min_category_size,
    )


def replicas(systems: Sequence[System]) -> dict[str, list[tuple[System, System]]]:
    """Arm → (main, arm) for each seed with which both were trained, for the arms that have more than one."""
    by_name = {system.name: system for system in systems}
    main = systems[0].name
    found: dict[str, list[tuple[System, System]]] = {}
    for system in systems[1:]:
        arm, mark, seed = system.name.partition(SEED_MARK)
        if mark and arm in by_name and arm != main and f"{main}{mark}{seed}" in by_name:
            found.setdefault(arm, [(by_name[main], by_name[arm])]).append((by_name[f"{main}{mark}{seed}"], system))
    return found


def _part(system: System, ids: set[str]) -> System:
    chosen = [at for at, answer in enumerate(system.answers) if answer.id in ids]
    return System(system.name, [system.answers[at] for at in chosen], system.values[chosen])


def _shown_names(questions: Mapping[str, Question], systems: Sequence[System]) -> tuple[str, ...]:
    answered = {answer.id for system in systems for answer in system.answers}
    sources = Counter(questions[key].source for key in answered)
    return tuple(shown_name(source, number) for source, number in sorted(sources.items()))


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


def _judges(inputs: Mapping[str, Path]) -> Iterator[tuple[RewardModel, dict[tuple[str, str], float]]]:
    """The inputs `judge` and `judge@NAME`: the reward model, and what it gave."""
    filtering = _manifest(inputs.get("score"))
    filter_model = filtering.facts.get("reward_fingerprint") if filtering else None
    for label, path in inputs.items():
        stage, mark, name = label.partition("@")
        if stage != JUDGE:
            continue
        judging = _manifest(path)
        model = judging.facts.get("reward_fingerprint") if judging else None
        filtered = None
        if filtering and (not filtering.dropped or (filter_model and model)):
            filtered = bool(filtering.dropped) and filter_model == model
        yield RewardModel(metric=f"{REWARD}{mark}{name}", fingerprint=model or path.name, filtered=filtered), read_rewards(path)


def _manifest(folder: Path | None) -> Manifest | None:
    return read_manifest(folder) if folder and (folder / MANIFEST).exists() else None


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: Context) -> Result:
    """Score the systems of the inputs `generate@…` (the first is the main one) on the questions of `ingest`.

    Optional inputs: `judge` and `judge@NAME` (rewards), `score` (whether their model filtered the training records), `overlap`. In the
    result, `num_in` counts the predictions read, those missing, and repeated questions.
    """
    folders = [path for label, path in inputs.items() if label.partition("@")[0] == "generate"]
    if "ingest" not in inputs or not folders:
        raise ValueError("evaluate needs the input ingest (questions.jsonl) and one or more inputs generate@SYSTEM (predictions.jsonl)")
    benchmark = read_benchmark(inputs["ingest"], config.protocols)
    if benchmark.num_other_answers:
        print(
            f"medchatzh: warning: {benchmark.num_other_answers:,} rows of the benchmark give another answer to a question that came before,"
            ' and are not used; to have several references, write one row a question: {"id": …, "question": …, "answers": […, …]}',
            file=sys.stderr,
        )
    aligned, set_aside = _align_all(folders, benchmark)
    rejects = [*benchmark.rejects, *set_aside]
    meaning = columns(config)
    judges = list(_judges(inputs))
    for judge, rewards in judges:
        meaning.append(Column(JUDGE, judge.metric))
        if not any((name, answer.id) in rewards for name, answers in aligned.items() for answer in answers):
            raise ValueError(
                f"{judge.metric} ({judge.fingerprint}): no reward for an answer of {', '.join(aligned)};"
                " judge these predictions, or leave the judge out"
            )
    systems = list(score_all(config, benchmark, aligned, [rewards for _, rewards in judges]))
    rows = (row for system in systems for row in scores(system, meaning, benchmark.questions))
    records.write(out / "scores.jsonl", rows)
    records.write(out / "rejects.jsonl", rejects)
    overlaps = read_overlaps(inputs["overlap"]) if "overlap" in inputs else {}
    summary = summarize(config, benchmark, systems, meaning, [judge for judge, _ in judges], overlaps, context.seed)
    (out / "summary.json").write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")
    facts = {"main": summary.main, "systems": list(summary.systems), "questions": msgspec.to_builtins(summary.questions)}
    facts["means"] = {f"{row.system} {Column(row.protocol, row.metric).name}": round(row.mean, 2) for row in summary.means}
    num_scored = sum(map(len, aligned.values()))
    dropped = Counter(reject.reason for reject in rejects)
    return Result(num_in=num_scored + len(rejects), num_out=num_scored, dropped=dropped, facts=facts)
