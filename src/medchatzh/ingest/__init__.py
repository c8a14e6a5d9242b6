"""Ingest: raw files in whatever form they come → Dialogue, Document, Preference and Question records.

Every row of the input is accounted for: it becomes a record, or a Reject that names file, line and reason. Ids count rows, the rejected
ones too, so that they stay when a reader learns to save more rows; benchmark questions keep the id that the benchmark gives them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from medchatzh import shards
from medchatzh.ingest.files import decoded_name
from medchatzh.ingest.source import Source
from medchatzh.ingest.units import FILES, Tally, Unit, cut, number, numberings, read_source, read_unit
from medchatzh.recipe import Settings
from medchatzh.records import Reject
from medchatzh.run import Context, Result

__all__ = ["LIBRARIES", "VERSION", "Config", "Source", "Tally", "raw_files", "read_source", "run"]

VERSION = 7
LIBRARIES = ("openpyxl", "pyarrow")
SEEDED = False


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
        here = {_name(path.relative_to(root), root): path for path in root.glob(source.path) if path.is_file()}
        here = {name: path for name, path in here.items() if matches(name, source.path)}
        if not here:
            raise ValueError(f"source {source.name!r}: no file matches {source.path} in {root}; correct its path, or data.root")
        found |= here
    return dict(sorted(found.items()))


def _name(path: Path, root: Path) -> str:
    """A path below `root` as text that can be written, whatever its bytes: a zip with GBK names, unpacked on Linux, leaves such."""
    decoded = "/".join(decoded_name(os.fsencode(part)) for part in path.parts)
    if decoded != path.as_posix() and (root / decoded).exists():  # the same name in UTF-8 stands beside it
        return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")
    return decoded


def matches(name: str, pattern: str) -> bool:
    """Whether a glob finds a name. Hidden files (.DS_Store) are found only by a pattern that begins with a dot."""
    hidden = PurePosixPath(name).name.startswith(".") and not PurePosixPath(pattern).name.startswith(".")
    return not hidden and _matches_parts(PurePosixPath(name).parts, PurePosixPath(pattern).parts)


def _matches_parts(name: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "**":
        return any(_matches_parts(name[start:], pattern[1:]) for start in range(len(name) + 1))
    return bool(name) and fnmatchcase(name[0], pattern[0]) and _matches_parts(name[1:], pattern[1:])


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: Context, *, files: Mapping[str, Path]) -> Result:
    """Read all sources into `out`: dialogues, books, preferences, questions and rejects as JSON lines (all five, maybe empty)."""
    work: list[Unit] = []
    for source in config.sources:
        own = {name: path for name, path in files.items() if matches(name, source.path)}
        if not own:
            raise ValueError(f"source {source.name!r}: none of the {len(files)} raw files matches {source.path}")
        work += cut(source, own)
    sizes = [unit.num_bytes for unit in work]
    tallies = shards.work(read_unit, work, out, context, label="ingest", unit="rows", kind=Tally, sizes=sizes)
    folders = [shards.shard(out.resolve(), "ingest", place) for place in range(len(work))]
    done = list(zip(work, folders, tallies, strict=True))
    total = Tally()
    by_source = {source.name: Tally() for source in config.sources}
    for unit, _, tally in done:
        total.add(tally)
        by_source[unit.source.name].add(tally)
    names = list(FILES.values())
    shards.work(number, numberings(done), out, context, label="number", unit="rows", kind=shards.Facts, merge=names, total=total.num_in)
    return Result(
        num_in=total.num_in,
        num_out=total.num_kept,
        dropped=dict(total.reasons),
        facts={
            "sources": {name: _facts(tally) for name, tally in by_source.items()},
            "files": {
                name: {"num_rows": rows, "num_kept": kept, "num_rejected": rows - kept}
                for name, (rows, kept) in sorted(total.files.items())
            },
        }
        | {f"num_{Path(name).stem}": total.counts.get(name, 0) for kind, name in FILES.items() if kind is not Reject},
    )


def _facts(tally: Tally) -> dict[str, Any]:
    return {
        "format": ", ".join(sorted(tally.formats)) or "none",
        "encodings": dict(sorted(tally.encodings.items())),
        "num_files": tally.num_files,
        "num_rows": tally.num_in,
        "num_kept": tally.num_kept,
    }
