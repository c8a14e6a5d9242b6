"""cMedQA2 as ChineseBLUE ships it: label, question, answer by tabs, with CSV's quotes; only label 1 is the question's own answer."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from itertools import pairwise

from medchatzh.ingest.encoding import BAD
from medchatzh.ingest.files import Part
from medchatzh.ingest.formats.registry import Found, Sample, broken, converted, reader, reject
from medchatzh.ingest.rows import Broken, undecodable
from medchatzh.ingest.source import Source
from medchatzh.ingest.turns import exchange
from medchatzh.records import Record

_START = re.compile(r"[01]\t")


def sniff(sample: Sample) -> bool:
    """Candidates of one question follow each other; without that it is a file of question pairs, which looks the same."""
    fields = [line.split("\t") for line in sample.lines]
    repeats = sum(before[1:2] == after[1:2] for before, after in pairwise(fields))
    return all(len(row) == 3 and row[0] in ("0", "1") for row in fields) and repeats > len(fields) // 2


@reader("cmedqa_tsv", sniff)
def read(part: Part, source: Source) -> Iterator[Found]:
    with part.text() as stream:
        for line, text in _rows(stream):
            yield line, _convert(text)


def _rows(stream: Iterator[str]) -> Iterator[tuple[int, str]]:
    """A row begins with its label; other lines go on with a quoted answer. So a stray quote harms one row only."""
    start, text = 0, ""
    for number, line in enumerate(stream, 1):
        if _START.match(line) or not text:
            if text.strip():
                yield start, text
            start, text = number, line
        else:
            text += line
    if text.strip():
        yield start, text


def _convert(text: str) -> Record:
    if BAD in text:
        return broken(undecodable(text))
    try:
        rows = list(csv.reader(io.StringIO(text.strip("\r\n"), newline=""), delimiter="\t"))
    except csv.Error as error:
        return broken(Broken("broken_row", str(error), text))
    fields = rows[0]
    if len(rows) > 1 or len(fields) != 3 or fields[0] not in ("0", "1"):
        detail = f"{len(rows)} lines, {len(fields)} tab-separated fields; expected label, question, answer"
        return broken(Broken("broken_row", detail, text))
    if fields[0] == "0":
        return reject("negative_pair", "label 0", fields)
    return converted(lambda row: exchange(row[1].strip(), row[2].strip()), fields)
