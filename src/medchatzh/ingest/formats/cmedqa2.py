"""cMedQA2 as its authors publish it: question.csv, answer.csv and *_candidates.txt, each in a zip, joined by their ids.

A row is an answer, or a question that has none. Lists of candidates among the files say which split is meant: then only pairs that
they call right are kept, and the others are counted as `not_in_split`. So a source of question*, answer* and train_candidates* leaves the
answers of the dev and test questions out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from medchatzh.ingest.files import Part
from medchatzh.ingest.formats.registry import Found, Piece, Sample, broken, converted, reader, reject
from medchatzh.ingest.rows import Broken, table_rows
from medchatzh.ingest.source import Source
from medchatzh.ingest.turns import exchange
from medchatzh.records import Record


class Asked(NamedTuple):
    question: str
    text: str


class Answered(NamedTuple):
    answer: str
    question: str
    text: str


class Right(NamedTuple):
    """A pair that a list of candidates calls right."""

    question: str
    answer: str


_HEADERS = (
    ["question_id", "content"],
    ["ans_id", "question_id", "content"],
    ["question_id", "pos_ans_id", "neg_ans_id"],
    ["question_id", "ans_id", "cnt", "label"],
)


def _header(head: str) -> list[str]:
    return [name.strip() for name in head.lstrip("\ufeff").partition("\n")[0].split(",")]


def sniff(sample: Sample) -> bool:
    return _header(sample.head) in _HEADERS


def merge(pieces: Sequence[Piece]) -> Iterator[tuple[str, int, Record]]:
    """A dialogue for each answer whose question is there. Holds all texts in memory: 70 MB for the published 108,000 questions."""
    questions: dict[str, Piece] = {}
    for piece in pieces:
        if isinstance(piece.value, Asked):
            questions.setdefault(piece.value.question, piece)
    right = {piece.value for piece in pieces if isinstance(piece.value, Right)}
    answered = set()
    for name, line, value in pieces:
        if not isinstance(value, Answered):
            continue
        answered.add(value.question)
        if right and Right(value.question, value.answer) not in right:
            yield name, line, reject("not_in_split", "no list of candidates calls this answer right")
        elif value.question not in questions:
            yield name, line, reject("missing_question", f"no question {value.question}", value.text)
        else:
            yield name, line, converted(lambda pair: exchange(*pair), (questions[value.question].value.text, value.text))
    for piece in pieces:
        name, line, value = piece
        if isinstance(value, Asked) and value.question not in answered:
            yield name, line, reject("missing_answer", f"no answer to question {value.question}", value.text)
        elif isinstance(value, Asked) and questions[value.question] is not piece:
            yield (
                name,
                line,
                reject("repeated_id", f"question {value.question} stands in {questions[value.question].name} already", value.text),
            )


@reader("cmedqa2", sniff, merge)
def read(part: Part, source: Source) -> Iterator[Found]:
    """Questions, answers, and each right pair once (train_candidates.txt names it once for each wrong answer)."""
    header = _header(part.head)
    if header not in _HEADERS:
        yield 1, reject("unknown_format", f"columns {', '.join(header)}; expected one of {'; '.join(map(', '.join, _HEADERS))}"[:500])
        return
    seen: set[Right] = set()
    with part.text() as stream:
        for line, row in table_rows(stream, ","):
            if isinstance(row, Broken):
                yield line, broken(row)
            elif header == _HEADERS[0]:
                yield line, Asked(row["question_id"].strip(), row["content"].strip())
            elif header == _HEADERS[1]:
                yield line, Answered(row["ans_id"].strip(), row["question_id"].strip(), row["content"].strip())
            elif row.get("label", "1").strip() == "1":
                pair = Right(row["question_id"].strip(), (row.get("pos_ans_id") or row.get("ans_id") or "").strip())
                if pair not in seen:
                    seen.add(pair)
                    yield line, pair
