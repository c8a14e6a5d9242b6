"""ReMeDi's lines of special tokens: each holds the dialogue so far, the patient's turn, annotations and the doctor's response.

A dialogue of n exchanges stands on n lines, each with one exchange more; a blank line or an empty context begins the next one. A
row is a dialogue, read from its longest line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from medchatzh.ingest.encoding import BAD
from medchatzh.ingest.files import Part
from medchatzh.ingest.formats.registry import Found, Sample, broken, converted, reader
from medchatzh.ingest.rows import Broken, undecodable
from medchatzh.ingest.source import Source
from medchatzh.ingest.turns import dialogue
from medchatzh.records import Dialogue, Role

_LINE = re.compile(
    r"<\|context\|>(?P<context>.*?)<\|endofcontext\|>"
    r".*?<\|currentuser\|>(?P<question>.*?)<\|endofcurrentuser\|>"
    r".*?<\|response\|>(?P<answer>.*?)<\|endofresponse\|>"
)
_SPEAKER = re.compile(r"<\|(user|system)\|>")
_Line = tuple[int, re.Match[str]]


def sniff(sample: Sample) -> bool:
    return any("<|currentuser|>" in line for line in sample.lines)


@reader("remedi", sniff)
def read(part: Part, source: Source) -> Iterator[Found]:
    same: list[_Line] = []
    with part.text() as stream:
        for number, line in enumerate(stream, 1):
            match = _LINE.search(line)
            if same and (not match or not match["context"].strip()):
                yield _longest(same)
                same = []
            if match and BAD not in line:
                same.append((number, match))
            elif not line.isspace():
                yield number, broken(undecodable(line) if BAD in line else Broken("broken_row", "not a line of ReMeDi's tokens", line))
    if same:
        yield _longest(same)


def _longest(lines: list[_Line]) -> Found:
    """The dialogue of lines that each hold it up to some exchange, at its first line."""
    return lines[0][0], converted(convert, max((match for _, match in lines), key=lambda match: len(match["context"])))


def convert(match: re.Match[str]) -> Dialogue:
    """ReMeDi's `system` is the doctor."""
    _, *pieces = _SPEAKER.split(match["context"])
    turns: list[tuple[Role, str]] = []
    for speaker, content in zip(pieces[::2], pieces[1::2], strict=True):
        turns.append(("user" if speaker == "user" else "assistant", content.strip()))
    return dialogue([*turns, ("user", match["question"].strip()), ("assistant", match["answer"].strip())])
