"""Questions and their candidate answers: from files of records (ours, or any that ingest reads), and from systems' predictions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from medchatzh.ingest.benchmark import benchmark_files, exchange_of, own_kind, question_of
from medchatzh.ingest.predictions import Joiner, rows
from medchatzh.ingest.source import Source
from medchatzh.ingest.units import Tally, read_source
from medchatzh.label.tasks import Candidate, same_question
from medchatzh.records import Prediction, Question, Record, Reject, normalize, read

OWN = "record"
"""Source of a question's own answers."""

_READY = ("medical.jsonl", "dialogues.jsonl", "questions.jsonl", "preferences.jsonl")
"""What is taken of a stage's folder, the cleanest first."""


class Asked(msgspec.Struct):
    """A question with all that answers it. Records that ask the same (but for width, case, punctuation) are one."""

    question: Question
    answers: dict[str, tuple[str, list[str]]] = msgspec.field(default_factory=dict)
    """Folded text → (text, sources): equal answers are one."""

    def add(self, text: str, source: str) -> bool:
        """Whether there was text to add. The first of several equal answers gives the wording."""
        text = text.strip()
        if text:
            _, sources = self.answers.setdefault(normalize(text) or text, (text, []))
            if source not in sources:
                sources.append(source)
        return bool(text)

    def candidates(self) -> list[Candidate]:
        return [Candidate(text, tuple(sorted(sources))) for text, sources in self.answers.values()]


class Gathered(msgspec.Struct):
    """All questions by `same_question`, and how it went."""

    asked: dict[str, Asked] = msgspec.field(default_factory=dict)
    num_records: int = 0
    unusable: Counter[str] = msgspec.field(default_factory=Counter)
    """Records that give no question: what ingest rejects by its reason, others as `no_question`."""
    is_benchmark: bool = False
    """Some are questions of a benchmark."""
    systems: dict[str, Counter[str]] = msgspec.field(default_factory=dict)
    """System → rows that became candidates (`joined`), and others by reason."""


def gather(path: Path, answers: Mapping[str, Path]) -> Gathered:
    """The questions of `path` (see `records_of`), answered by its records and by the systems' files. All in memory: 3 kB a record.

    ValueError where a file is missing, or gives no question.
    """
    found = Gathered()
    for record in records_of(path):
        found.num_records += 1
        found.is_benchmark |= isinstance(record, Question)
        prompt, own = exchange_of(record)
        if not prompt or not normalize(prompt[-1].content):
            found.unusable[record.reason if isinstance(record, Reject) else "no_question"] += 1
            continue
        asked = found.asked.setdefault(same_question(prompt), Asked(question_of(record, prompt)))
        for text in own:
            asked.add(text, OWN)
    if not found.asked:
        raise ValueError(f"{path}: no question there ({listed(found.unusable)}); give dialogues, questions or rankings")
    for system, file in answers.items():
        found.systems[system] = _join(found.asked.values(), system, file / "predictions.jsonl" if file.is_dir() else file)
    return found


def records_of(path: Path) -> Iterator[Record]:
    """Dialogues, questions, rankings and rejects of a file, or of the folder of a stage, a run (its curated records) or a data set."""
    files = _files(path)
    kind = own_kind(next(iter(files.values()))) if len(files) == 1 else None
    if kind:
        yield from read(next(iter(files.values())), kind)
        return
    name = re.sub(r"[\s:!/]+", "_", path.stem) or "questions"
    yield from read_source(Source(name=name, path="*"), files, Tally())


def _files(path: Path) -> Mapping[str, Path]:
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder; give the questions: a file of records, or the folder of a run or a stage")
    ready = [path / name for name in _READY if (path / name).is_file()] or sorted(path.glob(f"curate-*/{_READY[0]}"))
    if len(ready) > 1 and ready[0].parent != path:
        raise ValueError(f"{path}: {len(ready)} curated sets there; give one of them: {', '.join(map(str, ready))}")
    found = {ready[0].name: ready[0]} if ready else benchmark_files(path)
    if not found:
        raise ValueError(f"{path}: no files in it (folders inside are not looked into); give a file, or the folder that holds the files")
    return found


def _join(asked: Iterable[Asked], system: str, file: Path) -> Counter[str]:
    """Adds a system's answers to the questions they answer; returns rows by what became of them."""
    if not file.is_file():
        raise ValueError(f"{system}: {file}: no such file; give the predictions of a system: NAME=FILE")
    by_id = {one.question.id: one for one in asked}
    joiner = Joiner((one.question for one in by_id.values()), system)
    told: Counter[str] = Counter()
    for origin, row in rows(file.name, file, {}):
        outcome = joiner.join(origin, row)
        if isinstance(outcome, Prediction):
            # Ids such as `dialogues:7` are given in many files: where the row has a question too, it must be this one (a prompt's
            # words around it do not matter).
            given = "" if isinstance(row, Reject) else normalize(row.question)
            is_other = given and normalize(outcome.question) not in given
            told["contradiction" if is_other else "joined" if by_id[outcome.id].add(outcome.answer, system) else "empty_answer"] += 1
        else:
            told[outcome.reason] += 1
    if not told["joined"]:
        raise ValueError(f"{system}: {file}: no answer fits the questions ({listed(told)}); generate answers to these very questions")
    return told


def listed(counts: Counter[str]) -> str:
    """Names and counts in one line, the most first."""
    return ", ".join(f"{name or '—'} {count:,}" for name, count in counts.most_common()) or "empty"
