"""cMedQA2 as its authors publish it: question.csv, answer.csv and *_candidates.txt, each in a zip, joined by their ids.

`cmedqa2` reads dialogues: a row is an answer, or a question that has none. Lists of candidates among the files say which split is meant:
then only pairs that they call right are kept, and the others are counted as `not_in_split`. So a source of question*, answer* and
train_candidates* leaves the answers of the dev and test questions out.

`cmedqa2_test` reads benchmark questions: a row is a question. Those that the lists of candidates among the files name are kept, with the
right answers (4,000 test questions have 7,552; 1,650 have several) as references and the wrong ones, 100 in all with them, as distractors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from medchatzh.ingest.files import Part
from medchatzh.ingest.formats.registry import Found, Piece, Sample, broken, converted, reader, reject
from medchatzh.ingest.rows import Broken, table_rows
from medchatzh.ingest.source import Source
from medchatzh.ingest.turns import exchange
from medchatzh.records import Question, Record


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


class Wrong(NamedTuple):
    """A pair that a list of candidates calls wrong."""

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


def merge_benchmark(pieces: Sequence[Piece]) -> Iterator[tuple[str, int, Record]]:
    """A question for each that a list of candidates names (for all, where there is no list). An answer named twice counts once."""
    texts: dict[str, str] = {}
    answers: dict[str, list[str]] = {}
    for _, _, value in pieces:
        if isinstance(value, Answered):
            texts.setdefault(value.answer, value.text)
            answers.setdefault(value.question, []).append(value.answer)
    right: dict[str, dict[str, None]] = {}
    wrong: dict[str, dict[str, None]] = {}
    for _, _, value in pieces:
        if isinstance(value, (Right, Wrong)):
            (right if isinstance(value, Right) else wrong).setdefault(value.question, {})[value.answer] = None
    listed = right.keys() | wrong.keys()
    seen: set[str] = set()

    def known(ids: Iterable[str]) -> tuple[str, ...]:
        return tuple(text for answer in ids if (text := texts.get(answer)))

    for name, line, value in pieces:
        if not isinstance(value, Asked):
            continue
        if value.question in seen:
            yield name, line, reject("repeated_id", f"question {value.question} came before", value.text)
        elif listed and value.question not in listed:
            yield name, line, reject("not_in_split", "no list of candidates names this question")
        elif not value.text:
            yield name, line, reject("missing_question", f"question {value.question} has no text")
        elif not (own := known(right.get(value.question, ()) if listed else answers.get(value.question, ()))):
            yield name, line, reject("missing_answer", f"no right answer to question {value.question}", value.text)
        else:
            others = known(wrong.get(value.question, ()))
            yield name, line, Question(id=value.question, question=value.text, references=own, distractors=others)
        seen.add(value.question)
    for name, line, value in pieces:
        if isinstance(value, Right) and value.question not in seen:
            seen.add(value.question)
            yield name, line, reject("missing_question", f"no question {value.question}, which this list names")


@reader("cmedqa2_test", merge=merge_benchmark)
def read_benchmark(part: Part, source: Source) -> Iterator[Found]:
    return _read(part, {"1": Right, "0": Wrong})


@reader("cmedqa2", sniff, merge)
def read(part: Part, source: Source) -> Iterator[Found]:
    return _read(part, {"1": Right})


def _read(part: Part, kinds: Mapping[str, type[Right] | type[Wrong]]) -> Iterator[Found]:
    """Questions, answers, and each pair of these kinds once (train_candidates.txt names a right one once for each wrong answer)."""
    header = _header(part.head)
    if header not in _HEADERS:
        yield 1, reject("unknown_format", f"columns {', '.join(header)}; expected one of {'; '.join(map(', '.join, _HEADERS))}"[:500])
        return
    seen: set[tuple[str, str, str]] = set()
    with part.text() as stream:
        for line, row in table_rows(stream, ","):
            if isinstance(row, Broken):
                yield line, broken(row)
            elif header == _HEADERS[0]:
                yield line, Asked(row["question_id"].strip(), row["content"].strip())
            elif header == _HEADERS[1]:
                yield line, Answered(row["ans_id"].strip(), row["question_id"].strip(), row["content"].strip())
            else:
                named = [("1", row["pos_ans_id"]), ("0", row["neg_ans_id"])] if "pos_ans_id" in row else [(row["label"], row["ans_id"])]
                for label, answer in named:
                    pair = (label.strip(), row["question_id"].strip(), answer.strip())
                    if pair[0] in kinds and pair not in seen:
                        seen.add(pair)
                        yield line, kinds[pair[0]](*pair[1:])
