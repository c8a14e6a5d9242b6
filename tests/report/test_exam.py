"""The report's section on exams."""

import msgspec
import pytest

from medchatzh.metrics.exam import FILE, Accuracy, Asked, ExamSummary, Paired
from medchatzh.report.data import Inputs
from medchatzh.report.exam import exam
from medchatzh.report.view import Table, Text
from tests.report.conftest import HOSTILE, finish

SHARES = (("medchatzh", "letter, 5 shots", 0.31), ("before_sft", "letter, 5 shots", 0.24), ("random", "", 0.25))


def accuracy(system: str, subject: str, setting: str, share: float) -> Accuracy:
    fields = {"num_right": round(100 * share), "n": 100, "mean": share, "low": share - 0.1, "high": share + 0.1}
    return Accuracy(system=system, setting=setting, exam="CMMLU", subject=subject, **fields)


def paired(other: str, verdict: str, mean: float) -> Paired:
    fields = {"n": 100, "only_main": 30, "only_other": 20, "low": mean - 0.01, "high": mean + 0.01, "p_value": 0.2, "p_holm": 0.4}
    return Paired(main="medchatzh", other=other, setting="letter, 5 shots", exam="CMMLU", mean=mean, verdict=verdict, **fields)


def asked(name: str, num_scorable: int) -> Asked:
    return Asked(
        exam=name, subjects=("anatomy",), splits=("test",), num_questions=120, num_scorable=num_scorable, num_examples=5, chance=0.25
    )


@pytest.fixture
def held(tmp_path):
    """What the section shows of a summary."""

    def held(**changes) -> tuple:
        summary = ExamSummary(
            main="medchatzh",
            systems=("medchatzh", "before_sft", "random"),
            floors=("random",),
            settings=("letter, 5 shots",),
            signatures={"CMMLU": {"letter, 5 shots": "accuracy|by:letter|shots:5"}, "C-Eval": {"letter, 5 shots": "accuracy|by:letter"}},
            exams=(asked("CMMLU", 100), asked("C-Eval", 0)),
            accuracies=tuple(
                accuracy(system, subject, setting, share)
                for subject in ("micro", "macro", HOSTILE)
                for system, setting, share in (
                    ("medchatzh", "letter, 5 shots", 0.31),
                    ("before_sft", "letter, 5 shots", 0.24),
                    ("random", "", 0.25),
                )
            ),
            differences=(paired("before_sft", "better", 0.07), paired("random", "not distinguishable", 0.06)),
            unanswered={"medchatzh, letter, 5 shots": 3},
            confidence=0.95,
        )
        folder = finish(tmp_path / "exam", "exam")
        (folder / FILE).write_bytes(msgspec.json.encode(msgspec.structs.replace(summary, **changes)))
        return exam(Inputs({"exam": folder}))

    return held


def test_without_an_exam_there_is_no_section(finished_run):
    assert exam(Inputs(finished_run)) == ()


def test_shares_stand_by_subject_with_intervals_floors_and_signature(held):
    shares, differences = (block for block in held() if isinstance(block, Table))
    assert shares.columns[2:] == ("medchatzh", "before_sft", "random（随机）")
    assert [row.cells[0].text for row in shares.rows] == ["全部 / micro", "科目平均 / macro", HOSTILE]
    assert [(cell.text, cell.sub) for cell in shares.rows[0].cells[1:3]] == [("100", ""), ("31.0", "[21.0, 41.0]")]
    assert shares.signatures == ("accuracy|by:letter|shots:5",)
    assert [(row.cells[0].text, row.kind) for row in differences.rows] == [("before_sft", ""), ("random（随机）", "floor")]
    assert differences.rows[0].cells[3].text == "+7.0" and differences.rows[0].cells[-1].tone == "good"
    assert differences.signatures == ("accuracy|by:letter|shots:5",)


def test_a_model_that_beats_no_floor_is_said_to_guess(held):
    said = next(block for block in held() if isinstance(block, Text))
    assert said.tone == "warn" and "成绩与猜测无法区分" in said.text.zh and "no more than a guess" in said.text.en
    said = next(block for block in held(differences=(paired("random", "better", 0.2),)) if isinstance(block, Text))
    assert said.tone == "good" and "better in 1 of 1" in said.text.en


def test_an_exam_without_answers_and_questions_without_place_are_told(held):
    said = [str(block.text) for block in held() if isinstance(block, Text)]
    assert any("C-Eval" in text and "submission" in text for text in said)
    assert any("medchatzh, letter, 5 shots: 3" in text for text in said)
