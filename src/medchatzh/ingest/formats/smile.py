"""SMILE, mental-health counselling: a JSON file is one dialogue, an array of {"role": "client" | "counselor", "content"}."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from medchatzh.ingest.files import Part
from medchatzh.ingest.formats.registry import Found, Sample, broken, converted, reader
from medchatzh.ingest.rows import Broken, parse
from medchatzh.ingest.source import Source
from medchatzh.ingest.turns import dialogue, utterances
from medchatzh.records import Dialogue


def sniff(sample: Sample) -> bool:
    return sample.head.lstrip().startswith("[") and isinstance(sample.first, dict) and {"role", "content"} <= sample.first.keys()


@reader("smile", sniff)
def read(part: Part, source: Source) -> Iterator[Found]:
    with part.text() as file:
        turns = parse(file.read())
    yield 1, broken(turns) if isinstance(turns, Broken) else converted(convert, turns)


def convert(turns: Any) -> Dialogue:
    return dialogue(utterances(turns, "the file"))
