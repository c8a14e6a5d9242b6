"""MedDialog (Chinese): raw blocks of `id=`, web address, `Doctor faculty`, `Description`, `Dialogue`; and lists of "病人：…", "医生：…".

In the raw text a row is a block. The patient's description opens the dialogue; `Diagnosis and suggestions` after it are the doctor's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from medchatzh.ingest.encoding import BAD
from medchatzh.ingest.files import Part
from medchatzh.ingest.formats.registry import Found, Sample, broken, converted, form, reader
from medchatzh.ingest.rows import Broken, json_rows, undecodable
from medchatzh.ingest.source import Source
from medchatzh.ingest.turns import Unusable, dialogue
from medchatzh.records import Dialogue, Role

_ID = re.compile(r"\s*id\s*=\s*[0-9]+\s*\Z")
_SECTION = re.compile(r"\s*(Doctor faculty|Description|Dialogue|Diagnosis and suggestions)\s*[:：]?\s*\Z")
_SPEAKER = re.compile(r"\s*(病人|患者|医生)\s*[:：]\s*")
_MAX_BLOCK_LINES = 20_000
Turns = list[tuple[Role, str]]


def sniff(sample: Sample) -> bool:
    return any(_ID.match(line) for line in sample.lines) and any(_SECTION.match(line) for line in sample.lines)


@reader("meddialog", sniff)
def read(part: Part, source: Source) -> Iterator[Found]:
    with part.text() as stream:
        for line, block in _blocks(stream):
            text = "".join(block)
            if BAD in text:
                yield line, broken(undecodable(text))
            elif not _ID.match(block[0]):
                yield line, broken(Broken("broken_row", "the block does not begin with id=", text))
            elif len(block) == _MAX_BLOCK_LINES:
                yield line, broken(Broken("broken_row", f"a block of {_MAX_BLOCK_LINES} lines or more", text))
            else:
                yield line, converted(convert_block, block)


def _blocks(stream: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    """A block begins with its id; longer ones than any dialogue are cut, so that a file without ids is not held in memory."""
    block: list[str] = []
    start = 1
    for number, line in enumerate(stream, 1):
        if block and (_ID.match(line) or len(block) == _MAX_BLOCK_LINES):
            yield start, block
            block = []
        if block or not line.isspace():
            start = start if block else number
            block.append(line)
    if block:
        yield start, block


def convert_block(block: list[str]) -> Dialogue:
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in block[1:]:
        if heading := _SECTION.match(line):
            lines = sections.setdefault(heading[1], [])
        else:
            lines.append(line.strip())
    if "Dialogue" not in sections:
        raise Unusable("unknown_format", f"no Dialogue among the sections {', '.join(sections)}")
    described = "\n".join(filter(None, sections.get("Description", ())))
    advice = "\n".join(filter(None, sections.get("Diagnosis and suggestions", ())))
    faculty = " ".join(sections.get("Doctor faculty", ())).split()
    turns: Turns = [("user", described), *_spoken(sections["Dialogue"]), ("assistant", advice)]
    return dialogue([turn for turn in turns if turn[1]], faculty[-1] if len(faculty) > 1 else "")


def _spoken(lines: list[str]) -> Turns:
    """The speaker stands before his words, or on a line of his own; a line without one goes on with what was said."""
    turns: Turns = []
    for line in lines:
        if match := _SPEAKER.match(line):
            turns.append(("assistant" if match[1] == "医生" else "user", line[match.end() :]))
        elif turns and line:
            turns[-1] = (turns[-1][0], f"{turns[-1][1]}\n{line}".strip())
        elif line:
            raise Unusable("unknown_format", "the dialogue does not begin with 病人： or 医生：")
    return turns


def sniff_lists(sample: Sample) -> bool:
    first = sample.first
    return isinstance(first, list) and bool(first) and all(isinstance(text, str) and _SPEAKER.match(text) for text in first)


@reader("meddialog_json", sniff_lists)
def read_lists(part: Part, source: Source) -> Iterator[Found]:
    with part.text() as stream:
        for line, row in json_rows(stream, part.head, lambda value: isinstance(value, list)):
            yield line, broken(row) if isinstance(row, Broken) else converted(convert_list, row)


@form("utterances", {"utterances"})
def convert_utterances(record: dict[str, Any]) -> Dialogue:
    return convert_list(record["utterances"])


def convert_list(texts: Any) -> Dialogue:
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Unusable("unknown_format", "not a list of texts")
    return dialogue([turn for text in texts for turn in _spoken([line.strip() for line in text.split("\n")])])
