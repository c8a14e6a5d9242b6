"""The work of ingest cut into units: some files of a source, or a piece of a large file of JSON lines, read one without the others.

A unit counts its rows (and the lines of a piece) from 1. When all are read, `number` adds what the units before it hold, so that ids and
origins are those of a single pass.
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from medchatzh.ingest.encoding import Unreadable
from medchatzh.ingest.files import CORRUPT, Part, is_of_machine, parts
from medchatzh.ingest.formats import format_of
from medchatzh.ingest.formats.registry import Piece, reject
from medchatzh.ingest.questions import question_of
from medchatzh.ingest.rows import is_lines
from medchatzh.ingest.source import Source
from medchatzh.ingest.turns import Unusable
from medchatzh.records import Dialogue, Document, Preference, Question, Record, Reject
from medchatzh.shards import Facts, byte_ranges

FILES: dict[type[Record], str] = {
    Dialogue: "dialogues.jsonl",
    Document: "books.jsonl",
    Preference: "preferences.jsonl",
    Question: "questions.jsonl",
    Reject: "rejects.jsonl",
}
UNIT_BYTES = 1 << 25
"""32 MiB: about a second of work, so that a few workers share evenly and a kill costs little, while a job's own cost (10 ms) does not
show. Never a function of the number of workers."""


class Span(NamedTuple):
    """Bytes of a file, and its encoding, which may show itself far from its start."""

    start: int
    end: int
    encoding: str


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """Files of a source (name → path), or a piece of one of them."""

    source: Source
    files: dict[str, Path]
    span: Span | None = None

    @property
    def num_bytes(self) -> int:
        """As they lie on disk."""
        return self.span.end - self.span.start if self.span else sum(path.stat().st_size for path in self.files.values())


class Tally(Facts, kw_only=True):
    """What is counted while a unit is read; `num_in` are its rows."""

    num_in: int = 0
    num_kept: int = 0
    num_files: int = 0
    """Files and members of archives; a piece of a file counts as one only where it is the first."""
    num_lines: int = 0
    """Of a piece of a file."""
    formats: set[str] = msgspec.field(default_factory=set)
    encodings: dict[str, int] = msgspec.field(default_factory=dict)
    counts: dict[str, int] = msgspec.field(default_factory=dict)
    """Output file → records."""
    reasons: dict[str, int] = msgspec.field(default_factory=dict)
    files: dict[str, list[int]] = msgspec.field(default_factory=dict)
    """File → its rows, and how many of them are kept."""

    def add(self, other: Tally) -> None:
        self.num_in += other.num_in
        self.num_kept += other.num_kept
        self.num_files += other.num_files
        self.formats |= other.formats
        for mine, more in ((self.encodings, other.encodings), (self.counts, other.counts), (self.reasons, other.reasons)):
            for name, count in more.items():
                mine[name] = mine.get(name, 0) + count
        for name, (num_rows, num_kept) in other.files.items():
            rows, kept = self.files.get(name, (0, 0))
            self.files[name] = [rows + num_rows, kept + num_kept]


def cut(source: Source, files: Mapping[str, Path]) -> list[Unit]:
    """The units of a source, in file order; they depend on nothing but its files.

    A source with a limit, a benchmark, or one in a format that merges over files, is one unit.
    """
    probes = {name: _probe(name, path, source) for name, path in files.items()}
    if source.limit or source.benchmark or any(merges for merges, _ in probes.values()):
        return [Unit(source=source, files=dict(files))]
    found: list[Unit] = []
    waiting: dict[str, Path] = {}
    size = 0
    for name, path in files.items():
        more = path.stat().st_size
        if waiting and size + more > UNIT_BYTES:
            found.append(Unit(source=source, files=waiting))
            waiting, size = {}, 0
        if encoding := probes[name][1]:
            spans = (Span(start, end, encoding) for start, end in byte_ranges(path, UNIT_BYTES))
            found += [Unit(source=source, files={name: path}, span=span) for span in spans]
        else:
            waiting[name] = path
            size += more
    return [*found, Unit(source=source, files=waiting)] if waiting else found


def _probe(name: str, path: Path, source: Source) -> tuple[bool, str]:
    """Whether a file's format merges over files, and its encoding where it can be cut (else ''), told by its first part."""
    try:
        with closing(parts(name, path, source.encoding)) as found:  # an archive is open until its parts are closed
            part = next(found, None)
            chosen = format_of(part, source) if part else None
            if not part or not chosen:
                return False, ""
            can_be_cut = part.is_plain and path.stat().st_size > UNIT_BYTES and chosen.by_line and is_lines(part.head)
            encoding = part.encoding if can_be_cut and not part.encoding.startswith(("utf-16", "utf-32")) else ""
            return bool(chosen.merge), encoding
    except (Unreadable, *CORRUPT) as error:
        if is_of_machine(error):
            raise
        return False, ""


def read_unit(unit: Unit, folder: Path) -> Tally:
    """Write a unit's records into `folder`, one file a kind, with rows and lines counted from the start of the unit."""
    tally = Tally()
    counts: Counter[type[Record]] = Counter()
    reasons: Counter[str] = Counter()
    encode = msgspec.json.Encoder().encode
    with ExitStack() as stack:
        outputs: dict[type[Record], Any] = {}
        for record in read_source(unit.source, unit.files, tally, unit.span):
            kind = type(record)
            if kind not in outputs:
                outputs[kind] = stack.enter_context((folder / FILES[kind]).open("wb", 1 << 20))
            outputs[kind].write(encode(record) + b"\n")
            counts[kind] += 1
            if isinstance(record, Reject):
                reasons[record.reason] += 1
    tally.counts, tally.reasons = {FILES[kind]: count for kind, count in counts.items()}, dict(reasons)
    if unit.span:
        tally.num_lines = _num_lines(next(iter(unit.files.values())), unit.span.start, unit.span.end)
    return tally


def _num_lines(path: Path, start: int, end: int) -> int:
    num_lines = 0
    with path.open("rb") as file:
        file.seek(start)
        while start < end and (data := file.read(min(1 << 20, end - start))):
            num_lines += data.count(b"\n")
            start += len(data)
    return num_lines


def read_source(source: Source, files: Mapping[str, Path], tally: Tally, span: Span | None = None) -> Iterator[Record]:
    """The records and rejects of files of a source, in file order, with id, source, origin, category and pool filled in."""
    pool: Any = sys.intern(source.pool)  # msgspec leaves a default out by identity, which a pickled or decoded text has not
    for file, part, line, record in _found(source, files, tally, span):
        if source.benchmark and not isinstance(record, (Question, Reject)):  # of a format that is not made of JSON or table rows
            record = _asked(record)
        kept = not isinstance(record, Reject)
        tally.num_in += 1
        tally.num_kept += kept
        counts = tally.files[file]
        counts[0] += 1
        counts[1] += kept
        own_id = record.id if isinstance(record, Question) else ""
        changes = {"id": f"{source.name}:{own_id or tally.num_in}", "source": source.name, "origin": f"{part}:{line}"}
        changes["category"] = record.category or source.category
        if isinstance(record, Dialogue):
            changes["pool"] = pool
        yield msgspec.structs.replace(record, **changes)
        if source.limit and tally.num_kept >= source.limit:
            return


def _asked(record: Record) -> Record:
    try:
        return question_of(record)
    except Unusable as error:
        return reject(error.reason, error.detail)


def _found(source: Source, files: Mapping[str, Path], tally: Tally, span: Span | None) -> Iterator[tuple[str, str, int, Record]]:
    """(file, file or archive member, line, record or Reject) of each row; what a format merges over files comes last."""
    pending: list[Piece] = []
    owners: dict[str, str] = {}
    merge = None
    is_first = not (span and span.start)
    for name, path in files.items():
        tally.files[name] = [0, 0]
        try:
            for part in _parts(name, path, source, span):
                tally.num_files += is_first
                num_rows = 0
                try:
                    chosen = format_of(part, source)
                    for line, item in chosen.read(part, source):
                        num_rows += 1
                        if isinstance(item, Record):
                            yield name, part.name, line, item
                        else:
                            pending.append(Piece(part.name, line, item))
                            owners[part.name] = name
                            merge = chosen.merge
                    if not num_rows and not span:
                        yield name, part.name, 1, reject("empty_file", "no record in it")
                    tally.encodings[part.encoding] = tally.encodings.get(part.encoding, 0) + is_first
                except Unreadable as error:
                    yield name, part.name, 1, reject(error.reason, error.detail)
                except CORRUPT as error:  # the other members of a zip can be read nevertheless
                    yield name, part.name, 1, _corrupt(error, num_rows)
                tally.formats |= part.formats
        except CORRUPT as error:
            yield name, name, 1, _corrupt(error, tally.files[name][0])
    if merge:
        yield from ((owners[part], part, line, record) for part, line, record in merge(pending))


def _parts(name: str, path: Path, source: Source, span: Span | None) -> Iterator[Part]:
    return iter([Part.of_plain(name, path, *span)]) if span else parts(name, path, source.encoding)


def _corrupt(error: Exception, num_rows: int) -> Reject:
    """`num_rows` were read before the damage."""
    if is_of_machine(error):
        raise error
    before = "what came before the damage is kept" if num_rows else "nothing could be read"
    return reject("corrupt_file", f"{str(error) or 'it is cut off'}; {before}")


class Numbering(msgspec.Struct, frozen=True, kw_only=True):
    """What the units before a unit hold."""

    folder: Path
    """Where `read_unit` wrote."""
    unit: Unit
    num_rows: int
    num_lines: int
    """Of the same file; 0 but for pieces."""
    num_in: int


def numberings(found: list[tuple[Unit, Path, Tally]]) -> list[Numbering]:
    """For each (unit, folder, tally), in order."""
    made = []
    for _, same in groupby(found, key=lambda one: one[0].source.name):
        num_rows = num_lines = 0
        for unit, folder, tally in same:
            num_lines = num_lines if unit.span and unit.span.start else 0
            made.append(Numbering(folder=folder, unit=unit, num_rows=num_rows, num_lines=num_lines, num_in=tally.num_in))
            num_rows += tally.num_in
            num_lines += tally.num_lines
    return made


def number(job: Numbering, folder: Path) -> Facts:
    """A unit's files with rows and lines of the whole source; questions keep their own ids. Costs 2 µs a record."""
    for kind, name in FILES.items():
        if (job.folder / name).exists():
            if (job.num_rows or job.num_lines) and kind is not Question:
                _renumber(job, job.folder / name, folder / name)
            else:
                shutil.copyfile(job.folder / name, folder / name)
    return Facts(num_in=job.num_in)


def _renumber(job: Numbering, path: Path, out: Path) -> None:
    """Records begin with id, source and origin, written by us: `{"id":"NAME:ROW","source":"NAME","origin":"FILE:LINE"`."""
    name = job.unit.source.name
    head = b'{"id":' + msgspec.json.encode(f"{name}:")[:-1]
    middle = b'","source":' + msgspec.json.encode(name) + b',"origin":'
    middle += msgspec.json.encode(f"{next(iter(job.unit.files))}:")[:-1] if job.num_lines else b""
    start, num_rows, num_lines = len(head), job.num_rows, job.num_lines
    with path.open("rb") as file, out.open("wb", 1 << 20) as output:
        for line in file:
            end = line.index(b'"', start)
            row = int(line[start:end]) + num_rows
            if num_lines:
                begin = end + len(middle)
                end = line.index(b'"', begin)
                output.write(b"%s%d%s%d" % (head, row, middle, int(line[begin:end]) + num_lines) + line[end:])
            else:
                output.write(b"%s%d" % (head, row) + line[end:])
