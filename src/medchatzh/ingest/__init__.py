"""Ingest: raw files in whatever form they come → Dialogue, Document, Preference and Question records.

Every row of the input is accounted for: it becomes a record, or a Reject that names file, line and reason. Ids count rows, the rejected
ones too, so that they stay when a reader learns to save more rows; benchmark questions keep the id that the benchmark gives them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from medchatzh.ingest.encoding import Unreadable
from medchatzh.ingest.files import CORRUPT, is_of_machine, parts
from medchatzh.ingest.formats import format_of
from medchatzh.ingest.formats.registry import Piece, reject
from medchatzh.ingest.source import Source
from medchatzh.recipe import Settings
from medchatzh.records import Dialogue, Document, Preference, Question, Record, Reject
from medchatzh.run import Context, Progress, Result

__all__ = ["VERSION", "Config", "Source", "raw_files", "read_source", "run"]

VERSION = 2

FILES: dict[type[Record], str] = {
    Dialogue: "dialogues.jsonl",
    Document: "books.jsonl",
    Preference: "preferences.jsonl",
    Question: "questions.jsonl",
    Reject: "rejects.jsonl",
}
_PROGRESS_ROWS = 1000


class Config(Settings, frozen=True, kw_only=True):
    """The raw data sets of a recipe, in the order in which they are read."""

    sources: tuple[Source, ...] = ()
    """Each with a name of its own."""

    def __post_init__(self) -> None:
        names = Counter(source.name for source in self.sources)
        if twice := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"source name {twice[0]!r} is used twice; record ids begin with it, so give each source its own")


def raw_files(config: Config, root: Path) -> dict[str, Path]:
    """The files of all sources, name relative to `root` (with '/') → path, sorted. ValueError where a source's glob finds none."""
    found: dict[str, Path] = {}
    for source in config.sources:
        here = {path.relative_to(root).as_posix(): path for path in root.glob(source.path) if path.is_file()}
        here = {name: path for name, path in here.items() if _matches(name, source.path)}
        if not here:
            raise ValueError(f"source {source.name!r}: no file matches {source.path} in {root}; correct its path, or data.root")
        found |= here
    return dict(sorted(found.items()))


def _matches(name: str, pattern: str) -> bool:
    """Whether a glob finds a name. Hidden files (.DS_Store) are found only by a pattern that begins with a dot."""
    hidden = PurePosixPath(name).name.startswith(".") and not PurePosixPath(pattern).name.startswith(".")
    return not hidden and _matches_parts(PurePosixPath(name).parts, PurePosixPath(pattern).parts)


def _matches_parts(name: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "**":
        return any(_matches_parts(name[start:], pattern[1:]) for start in range(len(name) + 1))
    return bool(name) and fnmatchcase(name[0], pattern[0]) and _matches_parts(name[1:], pattern[1:])


class Tally:
    """What is counted while a source is read."""

    def __init__(self) -> None:
        self.formats: set[str] = set()
        self.encodings: Counter[str] = Counter()
        self.num_files = 0
        self.num_rows = 0
        self.num_kept = 0

    def facts(self) -> dict[str, Any]:
        return {
            "format": ", ".join(sorted(self.formats)) or "none",
            "encodings": dict(sorted(self.encodings.items())),
            "num_files": self.num_files,
            "num_rows": self.num_rows,
            "num_kept": self.num_kept,
        }


def read_source(source: Source, files: Mapping[str, Path], tally: Tally) -> Iterator[Record]:
    """The records and rejects of a source, in file order, with id, source, origin, category and pool filled in."""
    for part, line, record in _found(source, files, tally):
        tally.num_rows += 1
        tally.num_kept += not isinstance(record, Reject)
        changes = {"id": f"{source.name}:{record.id or tally.num_rows}", "source": source.name, "origin": f"{part}:{line}"}
        changes["category"] = record.category or source.category
        if isinstance(record, Dialogue):
            changes["pool"] = source.pool
        yield msgspec.structs.replace(record, **changes)
        if source.limit and tally.num_kept >= source.limit:
            return


def _found(source: Source, files: Mapping[str, Path], tally: Tally) -> Iterator[tuple[str, int, Record]]:
    """(file or archive member, line, record or Reject) of each row; what a format merges over files comes last."""
    pending: list[Piece] = []
    merge = None
    for name, path in files.items():
        try:
            for part in parts(name, path, source.encoding):
                tally.num_files += 1
                try:
                    chosen = format_of(part, source)
                    for line, item in chosen.read(part, source):
                        if isinstance(item, Record):
                            yield part.name, line, item
                        else:
                            pending.append(Piece(part.name, line, item))
                            merge = chosen.merge
                    tally.encodings[part.encoding] += 1
                except Unreadable as error:
                    yield part.name, 1, reject(error.reason, error.detail)
                except CORRUPT as error:  # the other members of a zip can be read nevertheless
                    yield part.name, 1, _corrupt(error)
                tally.formats |= part.formats
        except CORRUPT as error:
            yield name, 1, _corrupt(error)
    if merge:
        yield from merge(pending)


def _corrupt(error: Exception) -> Reject:
    if is_of_machine(error):
        raise error
    return reject("corrupt_file", f"{type(error).__name__}: {error}; what came before the damage is kept")


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: Context, *, files: Mapping[str, Path]) -> Result:
    """Read all sources into `out`: dialogues, books, preferences, questions and rejects as JSON lines (all five, maybe empty)."""
    result = Result()
    counts: Counter[str] = Counter()
    tallies: dict[str, Tally] = {}
    encode = msgspec.json.Encoder().encode
    with ExitStack() as stack, Progress("ingest", None, "rows") as progress:
        outputs = {kind: stack.enter_context((out / name).open("wb")) for kind, name in FILES.items()}
        for source in config.sources:
            own = {name: path for name, path in files.items() if _matches(name, source.path)}
            if not own:
                raise ValueError(f"source {source.name!r}: none of the {len(files)} raw files matches {source.path}")
            tally = tallies[source.name] = Tally()
            for record in read_source(source, own, tally):
                outputs[type(record)].write(encode(record) + b"\n")
                if isinstance(record, Reject):
                    result.dropped[record.reason] = result.dropped.get(record.reason, 0) + 1
                counts[FILES[type(record)]] += 1
                if tally.num_rows % _PROGRESS_ROWS == 0:
                    progress.add(_PROGRESS_ROWS)
            progress.add(tally.num_rows % _PROGRESS_ROWS)
    result.num_in = sum(tally.num_rows for tally in tallies.values())
    result.num_out = sum(tally.num_kept for tally in tallies.values())
    result.facts = {"sources": {name: tally.facts() for name, tally in tallies.items()}}
    result.facts |= {f"num_{Path(name).stem}": counts[name] for kind, name in FILES.items() if kind is not Reject}
    return result
