"""A benchmark's questions from a path alone, for commands that need no recipe. `run` takes over those that a run has ingested."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from medchatzh.ingest.source import Source
from medchatzh.ingest.units import Tally, read_source
from medchatzh.recipe import Settings
from medchatzh.records import Dialogue, Preference, Question, Record, Reject, Turn, read, write
from medchatzh.run import Context, Result

VERSION = 1
SEEDED = False

READY = "questions.jsonl"

_KINDS: tuple[tuple[frozenset[str], type[Record]], ...] = (
    (frozenset({"id", "turns"}), Dialogue),
    (frozenset({"id", "question", "references"}), Question),
    (frozenset({"id", "prompt", "answers", "ranks"}), Preference),
)


def read_questions(path: Path, name: str = "benchmark") -> Iterator[Question]:
    """The questions of a benchmark's file, of a folder of its files, or of a run's `questions.jsonl` (or its folder), in any form that
    ingest reads; of our own dialogues and rankings, what they ask. Rows that cannot be read are left out. ValueError where there is no
    such path.
    """
    found = benchmark_files(path)
    if list(found) == [READY]:
        yield from read(found[READY], Question)
        return
    if len(found) == 1 and (kind := own_kind(next(iter(found.values())))):
        for record in read(next(iter(found.values())), kind):
            prompt, answers = exchange_of(record)
            if prompt:
                yield record if isinstance(record, Question) else question_of(record, prompt, answers)
        return
    source = Source(name=name, path="*", benchmark=True)
    for record in read_source(source, found, Tally()):
        if isinstance(record, Question):
            yield record


def some_questions(path: Path, name: str) -> list[Question]:
    """The same as a list. ValueError where no question can be read, with the reason why the first row was set aside."""
    found = list(read_questions(path, name))
    if not found:
        files = benchmark_files(path)
        source = Source(name=name, path="*", benchmark=True)
        rows = () if list(files) == [READY] else read_source(source, files, Tally())
        first = next((f"{row.reason}, {row.origin}: {row.detail}" for row in rows if isinstance(row, Reject)), "it holds no rows")
        raise ValueError(f"{path}: no question in it that can be read ({first}); correct it, or give another benchmark")
    return found


def own_kind(path: Path) -> type[Record] | None:
    """The records that our own stages wrote to a file, told by its first line; None for files of others."""
    with path.open("rb") as file:
        line = next((line for line in file if line.strip()), b"")
    try:
        value: Any = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return next((kind for keys, kind in _KINDS if isinstance(value, dict) and keys <= value.keys()), None)


def exchange_of(record: Record) -> tuple[tuple[Turn, ...], tuple[str, ...]]:
    """(the turns that are to be answered, the record's own answers); nothing of a record that asks nothing."""
    prompt: tuple[Turn, ...] = ()
    own: tuple[str, ...] = ()
    if isinstance(record, Preference):
        prompt, own = record.prompt, record.answers
    elif isinstance(record, Question):
        prompt, own = record.turns, record.references
    elif isinstance(record, Dialogue) and len(record.turns) > 1:
        prompt, own = record.turns[:-1], (record.turns[-1].content,)
    return (prompt, own) if prompt and prompt[-1].role == "user" else ((), ())


def question_of(record: Record, prompt: Sequence[Turn], references: Sequence[str] = ()) -> Question:
    """What a record asks, as a question with the record's id and place."""
    place = {name: getattr(record, name) for name in Record.__struct_fields__}
    return Question(**place, question=prompt[-1].content, references=tuple(references), history=tuple(prompt[:-1]))


def benchmark_files(path: Path) -> dict[str, Path]:
    """Name → file: the file itself, the visible files of a folder, or of a run's folder its `questions.jsonl` alone."""
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder; give a benchmark's file, or the folder of its files")
    ready = path / READY
    if ready.is_file():
        return {READY: ready}
    found = sorted(one for one in path.iterdir() if one.is_file() and not one.name.startswith(".")) if path.is_dir() else [path]
    return {one.name: one for one in found}


class Config(Settings, frozen=True, kw_only=True):
    """Nothing to set: the questions are as they are."""


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: Context, files: Mapping[str, Path]) -> Result:
    """A finished `questions.jsonl`, with its ids, in place of an ingest step."""
    num_questions = write(out / READY, read(files[READY], Question))
    return Result(num_in=num_questions, num_out=num_questions, facts={"num_questions": num_questions})
