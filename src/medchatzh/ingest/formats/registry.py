"""The two registries of raw formats: readers of whole files, and forms of JSON records. A format's module registers itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from medchatzh.ingest.files import Part
from medchatzh.ingest.questions import question_of
from medchatzh.ingest.rows import Broken, Row, first_value, is_json, json_rows
from medchatzh.ingest.source import Source
from medchatzh.ingest.turns import Unusable, called
from medchatzh.personal import hide, labelled
from medchatzh.records import Record, Reject

Found = tuple[int, Any]
"""(line on which the row begins, its Record or Reject, with id, source and origin still empty; or what the format merges later)."""
Reader = Callable[[Part, Source], Iterator[Found]]
Convert = Callable[[dict[str, Any]], Any]


class Sample:
    """What a format is told by: the decoded start of a file, and its first JSON value."""

    def __init__(self, head: str) -> None:
        self.head = head

    @cached_property
    def is_json(self) -> bool:
        return is_json(self.head)

    @cached_property
    def first(self) -> Any:
        return first_value(self.head) if self.is_json else None

    @cached_property
    def lines(self) -> list[str]:
        """The first whole lines that are not blank, at most 50."""
        lines = self.head.split("\n")
        return [line for line in (lines[:-1] or lines) if line.strip()][:50]


class Piece(NamedTuple):
    """A part of a record that is spread over several files."""

    name: str
    line: int
    value: Any


Merge = Callable[[Sequence[Piece]], Iterator[tuple[str, int, Record]]]


class Format(NamedTuple):
    """How to read one kind of file. `sniff` is None where the format must be named."""

    name: str
    read: Reader
    sniff: Callable[[Sample], bool] | None = None
    merge: Merge | None = None
    """Makes records, (file, line, record), of what `read` found in all files of the source and is no record by itself."""
    by_line: bool = False
    """A line of a JSON-lines file is read without regard to the others, so that the file can be cut."""


class Form(NamedTuple):
    """One kind of JSON record: `keys` are alternative sets of keys that tell it, `convert` makes the record (or raises Unusable)."""

    name: str
    keys: tuple[frozenset[str], ...]
    convert: Convert
    split: Callable[[dict[str, Any]], Iterable[dict[str, Any]]] | None = None
    """Cuts a JSON record into several rows."""


_MAX_KEY_SETS = 10_000
"""So many sets of keys are remembered; a file whose every record has keys of its own fills no memory."""
FORMATS: dict[str, Format] = {}
FORMS: dict[str, Form] = {}


def reader(
    name: str, sniff: Callable[[Sample], bool] | None = None, merge: Merge | None = None, *, by_line: bool = False
) -> Callable[[Reader], Reader]:
    """Register a function that reads a whole file."""

    def register(read: Reader) -> Reader:
        def named(part: Part, source: Source) -> Iterator[Found]:
            part.formats.add(name)
            return read(part, source)

        FORMATS[name] = Format(name, read if by_line else named, sniff, merge, by_line)
        return read

    return register


def form(
    name: str, *keys: Iterable[str], split: Callable[[dict[str, Any]], Iterable[dict[str, Any]]] | None = None
) -> Callable[[Convert], Convert]:
    """Register a function that converts one JSON record. Of several forms that fit, the one with the most keys is taken."""

    def register(convert: Convert) -> Convert:
        FORMS[name] = made = Form(name, tuple(map(frozenset, keys)), convert, split)
        FORMATS[name] = Format(name, lambda part, source: read_records(part, {name: made}, source.benchmark), by_line=True)
        return convert

    return register


def read_records(part: Part, forms: Mapping[str, Form], benchmark: bool = False) -> Iterator[Found]:
    """The records of a JSON file, each read by the form that its keys tell; of a benchmark its questions."""
    if not is_json(part.head):
        yield 1, reject("unknown_format", "the file is not JSON")
        return

    def is_record(value: Any) -> bool:
        return isinstance(value, dict) and best_form(value, forms.values()) is not None

    with part.text() as stream:
        yield from read_rows(part, json_rows(stream, part.head, is_record), forms, benchmark)


def read_rows(part: Part, rows: Iterable[Row], forms: Mapping[str, Form], benchmark: bool = False) -> Iterator[Found]:
    """Each row read by the form that its keys tell; of a benchmark as a question."""
    chosen: dict[tuple[str, ...], Form | None] = {}
    for line, value in rows:
        if isinstance(value, Broken):
            yield line, broken(value)
            continue
        fitting = None
        if isinstance(value, dict):
            keys = tuple(value)
            if keys not in chosen:
                if len(chosen) == _MAX_KEY_SETS:
                    chosen.clear()
                chosen[keys] = best_form(keys, forms.values())
            fitting = chosen[keys]
        if fitting is None:
            seen = f"keys {', '.join(value)}"[:500] if isinstance(value, dict) else called(value)
            wanted = next(iter(forms)) if len(forms) == 1 else "any known form"
            yield line, reject("unknown_format", f"{seen}; this is not {wanted}", value)
            continue
        part.formats.add(fitting.name)
        convert = _asked(fitting.convert) if benchmark else fitting.convert
        if fitting.split:
            for row in fitting.split(value):
                yield line, converted(convert, row)
        else:
            yield line, converted(convert, value)


def _asked(convert: Convert) -> Convert:
    return lambda row: question_of(convert(row), row)


def best_form(keys: Iterable[str], forms: Iterable[Form]) -> Form | None:
    """Of several forms that fit, the one with the most keys."""
    present = set(keys)
    scored = [(max((len(needed) for needed in form.keys if needed <= present), default=0), form) for form in forms]
    size, best = max(scored, key=lambda pair: pair[0])
    return best if size else None


def converted(convert: Callable[[Any], Any], row: Any) -> Any:
    """The record of a row, or the Reject that says why there is none."""
    try:
        return convert(row)
    except Unusable as error:
        return reject(error.reason, error.detail, row)
    except (TypeError, LookupError, ValueError, AttributeError, RecursionError) as error:  # a shape that the converter does not foresee
        return reject("unknown_format", f"cannot be converted: {type(error).__name__}: {error}", row)


def broken(row: Broken) -> Reject:
    return reject(row.reason, row.detail, row.raw[:500])


def reject(reason: str, detail: str = "", record: Any = None) -> Reject:
    """A Reject of this stage. In detail and record, e-mail addresses, numbers as long as telephones, and labelled names are masked."""
    known: set[str] = set()
    try:
        known = labelled([detail, *_texts(record)])
        shown = _masked(record, known)
    except RecursionError:
        shown = None
    return Reject(id="", stage="ingest", reason=reason, detail=_masked(detail, known), record=shown)


_SURROGATE = re.compile("[\ud800-\udfff]")


def _texts(value: Any) -> Iterator[str]:
    """The texts of a row; those of a field after its name, which may be their label."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from (f"{name}: {text}" for text in _texts(item))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)


def _masked(value: Any, known: Collection[str]) -> Any:
    if isinstance(value, str):
        return hide(_SURROGATE.sub("\ufffd", value), lambda found: "***", known)
    if isinstance(value, dict):
        return {_masked(key, known): _masked(item, known) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(item, known) for item in value]
    if isinstance(value, (int, float)) and (hidden := _masked(str(value), known)) == "***":
        return hidden
    return value
