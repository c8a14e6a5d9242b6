"""webMedQA: lines of question id, label, category, question, answer by tabs; label 1 marks an answer of the question's own.

`webmedqa` reads benchmark questions: lines of one id and one question, one after the other, are a row. `webmedqa_train` reads dialogues
from the lines with label 1; the others are counted as `negative_pair`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from medchatzh.ingest.encoding import BAD
from medchatzh.ingest.files import Part
from medchatzh.ingest.formats.registry import Found, Sample, broken, converted, reader, reject
from medchatzh.ingest.rows import Broken, Row, undecodable
from medchatzh.ingest.source import Source
from medchatzh.ingest.turns import Unusable, exchange
from medchatzh.records import Question

_NUM_FIELDS = 5


def sniff(sample: Sample) -> bool:
    fields = [line.split("\t") for line in sample.lines]
    return bool(fields) and sum(len(row) == _NUM_FIELDS and row[1] in ("0", "1") for row in fields) > len(fields) // 2


@reader("webmedqa", sniff)
def read(part: Part, source: Source) -> Iterator[Found]:
    for is_broken, rows in groupby(_lines(part), key=lambda row: isinstance(row[1], Broken)):
        if is_broken:
            yield from ((line, broken(row)) for line, row in rows)
            continue
        for _, same in groupby(rows, key=lambda row: (row[1][0].strip(), row[1][3].strip())):
            group = list(same)
            yield group[0][0], converted(convert, [row for _, row in group])


def convert(rows: list[list[str]]) -> Question:
    """The benchmark's own id stays, so that a question that comes again is seen to."""
    number, _, category, question, _ = (field.strip() for field in rows[0])
    answers: dict[str, list[str]] = {"1": [], "0": []}
    for _, label, _, _, answer in rows:
        if answer.strip():
            answers[label].append(answer.strip())
    if not question:
        raise Unusable("missing_question", "no question text")
    if not answers["1"]:
        raise Unusable("missing_answer", f"none of {len(rows)} answers has label 1")
    return Question(id=number, question=question, category=category, references=tuple(answers["1"]), distractors=tuple(answers["0"]))


@reader("webmedqa_train")
def read_train(part: Part, source: Source) -> Iterator[Found]:
    for line, row in _lines(part):
        if isinstance(row, Broken):
            yield line, broken(row)
        elif row[1] == "0":
            yield line, reject("negative_pair", "label 0", row)
        else:
            yield line, converted(lambda row: exchange(row[3].strip(), row[4].strip(), row[2].strip()), row)


def _lines(part: Part) -> Iterator[Row]:
    with part.text() as stream:
        for number, line in enumerate(stream, 1):
            fields = line.rstrip("\r\n").split("\t")
            if line.isspace():
                continue
            if BAD in line:
                yield number, undecodable(line)
            elif len(fields) != _NUM_FIELDS:
                yield number, Broken("broken_row", f"{len(fields)} tab-separated fields, expected {_NUM_FIELDS}", line)
            elif not fields[0].strip():
                yield number, Broken("broken_row", "no question id (field 1)", line)
            elif fields[1].strip() not in ("0", "1"):
                yield number, Broken("broken_row", "the label (field 2) is neither 0 nor 1", line)
            else:
                yield number, [fields[0], fields[1].strip(), *fields[2:]]
