"""Which references a protocol takes, and what the paper printed."""

import pytest

from medchatzh.metrics.protocols import PROTOCOLS
from medchatzh.metrics.published import METRICS, TABLE_1
from medchatzh.records import Question


def question(*references: str, distractors: tuple[str, ...] = ()) -> Question:
    return Question(id="q", question="?", references=references, distractors=distractors)


def test_strict_takes_the_own_answers():
    asked = question("甲", "乙", distractors=("丙",))
    assert PROTOCOLS["strict"].references(asked) == ("甲", "乙")
    assert PROTOCOLS["medchatzh"].references(asked) == ("甲", "乙", "丙")


def test_empty_references_are_left_out():
    assert PROTOCOLS["medchatzh"].references(question("甲", "", distractors=(" \n", "丙"))) == ("甲", "丙")


def test_signature_counts_references():
    questions = [question("甲", distractors=tuple("丙丁戊己")), question("甲", distractors=tuple("丙丁戊"))]
    assert PROTOCOLS["strict"].signature(questions) == "1(pos)"
    assert PROTOCOLS["medchatzh"].signature(questions) == "4-5(pos+neg)"
    assert PROTOCOLS["medchatzh"].signature(questions[:1]) == "5(pos+neg)"


def test_published_rows_name_no_protocol():
    assert [row.system for row in TABLE_1][-1] == "MedChatZH 7B"
    assert TABLE_1[-1].values["BLEU-1"] == pytest.approx(56.31)
    assert all(tuple(row.values) == METRICS and row.note == "copied, protocol unknown" for row in TABLE_1)
    assert all(row.values["BLEU-1"] > row.values["BLEU-2"] > row.values["BLEU-3"] > row.values["BLEU-4"] for row in TABLE_1)
