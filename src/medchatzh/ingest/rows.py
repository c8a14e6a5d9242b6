"""Text → rows with the line on which each begins: JSON lines, JSON arrays, tables. What does not parse is a `Broken` row."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain, islice
from typing import Any, NamedTuple, TextIO

import msgspec

from medchatzh.ingest.encoding import BAD

MAX_ROW_LINES = 200
"""A quoted CSV field may span so many lines; beyond, its quote is taken for a stray one, so that it swallows no further rows."""

MAX_RECORD_CHARS = 1 << 24
"""An element of an array that has not ended after so many characters is broken, so that a stray bracket does not load the whole file."""

_CHUNK_CHARS = 1 << 16
"""Small, because an error of Python's parser costs a count of the lines of all that is in the buffer."""
_TOO_DEEP = "nested too deep"
_TOO_DEEP_CHARS = 1000
"""After a value nested too deep so many characters are passed over, since what begins in them is about as deep."""
_NUM_LINES = 50
"""By so many lines a file is told."""
_LONG_LINE_CHARS = 1 << 16
_OBJECT = re.compile(r"(?<!:)(?<!: )\{")
"""Where a record may begin; after a colon stands a part of one."""
_SPACE = re.compile(r"[ \t\r\n,]*")
_JSON_START = re.compile(r'\s*(?:\[\s*[\[{"\]]|\{\s*["}])')
_UNDECODED = (msgspec.DecodeError, UnicodeEncodeError, RecursionError)
_decode_line = msgspec.json.Decoder().decode
_decode_element = json.JSONDecoder().raw_decode

Row = tuple[int, Any]
"""(1-based line, value or Broken)."""


class Broken(NamedTuple):
    """A row that could not be parsed."""

    reason: str
    detail: str
    raw: str


def undecodable(raw: str) -> Broken:
    return Broken("wrong_encoding", f"{raw.count(BAD)} undecodable bytes", raw)


def is_json(head: str) -> bool:
    """Whether a file that begins with `head` is JSON or JSON lines (the first of which may be broken)."""
    return bool(_JSON_START.match(head)) or any(isinstance(value, dict) for value in _parsable_lines(head))


def is_lines(head: str) -> bool:
    """Whether a JSON file that begins with `head` holds a value a line: its first line is whole, or, that one being cut, most others are.

    A first line longer than `head` counts as one, too.
    """
    lines = _first_lines(head)
    if "\n" not in head and len(head) >= _LONG_LINE_CHARS:
        return head.startswith("{") and not _is_whole(head)
    if not lines or lines[0].strip() == "[":
        return False
    values = [_parsed(line) for line in lines]
    return isinstance(values[0], dict) or (len(lines) > 1 and sum(value is not None for value in values) > len(lines) // 2)


def _parsed(line: str) -> Any:
    """The object or list that a line is, if it does not stand inside a pretty-printed value, else None."""
    value = next(_parsable_lines(line), None) if line.startswith(("{", "[")) else None
    return value if isinstance(value, (dict, list)) else None


def _is_whole(line: str) -> bool:
    with suppress(ValueError, RecursionError):
        return bool(_decode_element(line))
    return False


def first_value(head: str) -> Any:
    """The first JSON value of a file (of its array, where it is one); None where `head` holds none whole."""
    if is_lines(head):
        return next(_parsable_lines(head), None)
    return next((value for _, value in _array_rows(_Window.of(head), lambda value: False) if not isinstance(value, Broken)), None)


def json_rows(stream: TextIO, head: str, accept: Callable[[Any], bool]) -> Iterator[Row]:
    """The records of an array, of JSON lines, or of objects one after the other, whatever the file is called.

    `accept` tells a record from a part of one, to find the next record after a break.
    """
    return _line_rows(stream) if is_lines(head) else _array_rows(_Window(stream), accept)


def _first_lines(head: str) -> list[str]:
    """The first lines that are not blank."""
    return list(islice((line for line in head.split("\n") if line.strip()), _NUM_LINES))


def _parsable_lines(head: str) -> Iterator[Any]:
    for line in _first_lines(head):
        try:
            yield _decode_line(line)
        except _UNDECODED:
            continue


def _line_rows(stream: TextIO) -> Iterator[Row]:
    for number, line in enumerate(stream, 1):
        if not line.isspace():
            yield number, parse(line.rstrip("\r\n"))


def parse(text: str) -> Any:
    """The JSON value of a text, or Broken."""
    if BAD in text:
        return undecodable(text)
    try:
        return _decode_line(text)
    except _UNDECODED:
        pass
    try:  # Python's parser says in which column a text breaks, and passes NaN, which msgspec does not
        return _encodable(json.loads(text), text)
    except json.JSONDecodeError as error:
        return Broken("broken_row", f"{_what(error)} at column {error.colno}", text)
    except (ValueError, RecursionError) as error:
        return Broken("broken_row", str(error), text)


def _what(error: json.JSONDecodeError) -> str:
    """Some of Python's messages end with the word before the place."""
    return error.msg.removesuffix(" at")


def _encodable(value: Any, raw: str) -> Any:
    """Half of a surrogate pair (an emoji's escape, cut) parses, but is no text that could be written."""
    try:
        msgspec.json.encode(value)
    except (UnicodeEncodeError, RecursionError) as error:
        return Broken("broken_row", f"not writable: {error.__class__.__name__}, a cut \\u escape or too deep a nesting", raw)
    return value


class _Window:
    """The part of a stream that is being parsed; grows at its end, is cut at its start, counts lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.buffer = ""
        self.position = 0
        self.line = 1

    @classmethod
    def of(cls, text: str) -> _Window:
        return cls(io.StringIO(text))

    def fill(self) -> bool:
        """Read on, at least doubling what is not yet parsed (a record larger than the buffer is parsed anew each time)."""
        rest = self.buffer[self.position :]
        more = self._stream.read(max(_CHUNK_CHARS, len(rest)))
        self.buffer, self.position = rest + more, 0
        return bool(more)

    def move(self, position: int) -> None:
        self.line += self.buffer.count("\n", self.position, position)
        self.position = min(position, len(self.buffer))

    def holds(self, text: str, end: int) -> bool:
        return self.buffer.find(text, self.position, end) >= 0

    def peek(self) -> str:
        """The next character but for white space and commas, '' at the end."""
        while True:
            match = _SPACE.match(self.buffer, self.position)
            assert match
            self.move(match.end())
            if self.position < len(self.buffer):
                return self.buffer[self.position]
            if not self.fill():
                return ""

    def decode(self) -> tuple[Any, int]:
        """The value that begins at `position`, and where it ends; raises JSONDecodeError where none does."""
        while True:
            try:
                return _decode_element(self.buffer, self.position)
            except json.JSONDecodeError as error:
                if len(self.buffer) - self.position > MAX_RECORD_CHARS:
                    raise json.JSONDecodeError(f"no end within {MAX_RECORD_CHARS} characters", self.buffer, self.position) from None
                at_end = error.pos >= len(self.buffer) - 8 or error.msg.startswith("Unterminated string")
                if not (at_end and self.fill()):
                    raise
            except RecursionError:
                raise json.JSONDecodeError(_TOO_DEEP, self.buffer, self.position) from None
            except ValueError as error:
                raise json.JSONDecodeError(str(error), self.buffer, self.position) from None


def _array_rows(window: _Window, accept: Callable[[Any], bool]) -> Iterator[Row]:
    inside = False
    while char := window.peek():
        if char == "]" or (char == "[" and not inside):
            inside = char == "["
            window.move(window.position + 1)
            continue
        line = window.line
        try:
            value, end = window.decode()
        except json.JSONDecodeError as error:
            yield line, Broken("broken_row", _where(window, error), window.buffer[window.position : window.position + 500])
            _resume(window, accept)
            continue
        if window.holds(BAD, end):
            value = undecodable(window.buffer[window.position : end])
        elif window.holds("\\ud", end) or window.holds("\\uD", end):
            value = _encodable(value, window.buffer[window.position : end])
        yield line, value
        window.move(end)
    if inside:
        yield window.line, Broken("broken_row", "the array is not closed: the file is cut off here", "")


def _where(window: _Window, error: json.JSONDecodeError) -> str:
    before = window.buffer[window.position : error.pos]
    breaks = before.count("\n")
    if breaks:
        return f"{_what(error)} at line {window.line + breaks}, column {len(before) - before.rfind(chr(10))}"
    return f"{_what(error)} at character {len(before) + 1} of the record"


def _resume(window: _Window, accept: Callable[[Any], bool]) -> None:
    """Move on to the next object that is a record by itself, or to the end."""
    window.move(window.position + 1)
    while True:
        match = _OBJECT.search(window.buffer, window.position)
        if not match:
            window.move(len(window.buffer))
            if not window.fill():
                return
            continue
        window.move(match.start())
        try:
            if accept(window.decode()[0]):
                return
            window.move(window.position + 1)
        except json.JSONDecodeError as error:
            window.move(window.position + (_TOO_DEEP_CHARS if error.msg == _TOO_DEEP else 1))


def table_rows(stream: TextIO, delimiter: str) -> Iterator[Row]:
    """The rows of a CSV or TSV file as {column: text}, by its header line; quoted fields may span lines."""
    header: list[str] = []
    lines = _Lines(stream)
    for number, line in lines:
        if line.isspace():
            continue
        fields = _fields(line, lines, delimiter, len(header))
        if not header:
            header = [name.strip() for name in fields]
        elif BAD in line or any(BAD in field for field in fields):
            yield number, undecodable(line)
        elif len(fields) != len(header):
            yield number, Broken("broken_row", f"{len(fields)} fields, expected {len(header)}: {', '.join(header)}", line)
        else:
            yield number, dict(zip(header, fields, strict=True))


class _Lines:
    """Numbered lines that can be given back."""

    def __init__(self, stream: TextIO) -> None:
        self._lines = enumerate(stream, 1)
        self._waiting: deque[tuple[int, str]] = deque()

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return self

    def __next__(self) -> tuple[int, str]:
        return self._waiting.popleft() if self._waiting else next(self._lines)

    def give_back(self, lines: list[tuple[int, str]]) -> None:
        self._waiting.extendleft(reversed(lines))


def _fields(line: str, following: _Lines, delimiter: str, expected: int) -> list[str]:
    """The fields of the row that begins with `line`. A quote that does not close, or that changes the number of fields, is a
    stray one: the lines it swallowed are given back, and `line` is read by itself."""
    if '"' not in line:
        return line.rstrip("\r\n").split(delimiter)
    swallowed: list[tuple[int, str]] = []

    def more() -> Iterator[str]:
        for number, text in islice(following, MAX_ROW_LINES):
            swallowed.append((number, text))
            yield text

    with suppress(csv.Error, StopIteration):
        fields = next(csv.reader(chain([line], more()), delimiter=delimiter, strict=True))
        if len(fields) == expected or not expected:
            return fields
    following.give_back(swallowed)
    with suppress(csv.Error):
        return next(csv.reader([line], delimiter=delimiter))
    return line.rstrip("\r\n").split(delimiter)
