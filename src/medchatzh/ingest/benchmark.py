"""A benchmark's questions from a path alone, for commands that need no recipe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from medchatzh.ingest.source import Source
from medchatzh.ingest.units import Tally, read_source
from medchatzh.records import Question, read


def read_questions(path: Path, name: str = "benchmark") -> Iterator[Question]:
    """The questions of a benchmark's file, of a folder of its files, or of a run's `questions.jsonl` (or its folder), in any form that
    ingest reads. Rows that it cannot read are left out. ValueError where there is no such path.
    """
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder; give a benchmark's file, or the folder of its files")
    ready = path / "questions.jsonl" if path.is_dir() else path
    if ready.name == "questions.jsonl" and ready.is_file():
        yield from read(ready, Question)
        return
    found = sorted(one for one in path.iterdir() if one.is_file() and not one.name.startswith(".")) if path.is_dir() else [path]
    source = Source(name=name, path="*", benchmark=True)
    for record in read_source(source, {one.name: one for one in found}, Tally()):
        if isinstance(record, Question):
            yield record
