"""Predictions from anywhere: any table or JSON, joined to the questions, every row accounted for. None of it needs torch."""

import json
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medchatzh import records
from medchatzh.ingest import predictions
from medchatzh.ingest.predictions import Joiner, Row, System, rows
from medchatzh.records import Prediction, Question, Reject, Turn
from medchatzh.run import Context, Result

QUESTIONS = [
    Question(id=f"web:{n}", source="web", category="内科", question=f"第{n}个问题，怎么办？", references=("答",)) for n in range(6)
]


@pytest.fixture
def load(tmp_path: Path):
    """Run the stage on a file of this content."""

    def load(content: str | bytes, questions=QUESTIONS, name: str = "theirs.csv", seed: int = 0, **settings) -> tuple[Result, list, list]:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        inputs = {"ingest": tmp_path / "ingest"}
        inputs["ingest"].mkdir(exist_ok=True)
        records.write(inputs["ingest"] / "questions.jsonl", questions)
        config = System(name="theirs", path=name, **settings)
        result = predictions.run(config, inputs, tmp_path, Context(seed=seed), files={name: path})
        kept, set_aside = (
            list(records.read(tmp_path / "predictions.jsonl", Prediction)),
            list(records.read(tmp_path / "rejects.jsonl", Reject)),
        )
        assert (result.num_in, result.num_out) == (len(kept) + len(set_aside), len(kept))
        assert result.dropped == Counter(reject.reason for reject in set_aside)
        return result, kept, set_aside

    return load


def pairs(found: list[Prediction]) -> dict[str, str]:
    return {prediction.id: prediction.answer for prediction in found}


OURS = [Prediction(id="web:1", system="x", question="?", answer="甲"), Prediction(id="web:2", system="x", question="?", answer="乙")]
FORMS = {
    "ours": "".join(records.msgspec.json.encode(one).decode() + "\n" for one in OURS),
    "the paper's": "label,question,predict\n1,第1个问题，怎么办？,甲\n2,随便,乙\n",
    "pandas with its index": ",label,question,predict\n0,1.0,第1个问题，怎么办？,甲\n1,2.0,随便,乙\n",
    "ids": "id,answer\n1,甲\nweb:2,乙\n",
    "ids by tabs": 'id\tanswer\n1\t甲\n2\t"乙"\n',
    "by semicolons": "qid;output\n1;甲\n2;乙\n",
    "questions": '{"question": "第1个问题怎么办", "prediction": "甲"}\n{"question": "第 2 个问题 怎么办?", "prediction": "乙"}\n',
    "an array": '[{"query": "第1个问题怎么办", "answer": "x", "response": "甲"}, {"ID": 2, "answer": "y", "Response": "乙"}]',
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
def test_each_form_in_each_encoding(load, form: str, encoding: str) -> None:
    result, kept, _ = load(FORMS[form].encode(encoding))
    assert pairs(kept) == {"web:1": "甲", "web:2": "乙"}
    assert {(one.system, one.category, one.source) for one in kept} == {("theirs", "内科", "web")}
    assert kept[0].question == QUESTIONS[1].question and result.facts["num_unanswered"] == 4


def test_columns_by_name(load) -> None:
    _, kept, _ = load('答案,问题编号,answer\n"甲，\n好",1,别的\n', columns={"answer": "答案", "id": "问题编号"})
    assert pairs(kept) == {"web:1": "甲，\n好"}


def test_archives_and_their_damage(load, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("a.csv", FORMS["ids"])
        archive.writestr("b.jsonl", '{"id": 3, "answer": "丙"}\n')
        archive.writestr("notes.md", "no table")
    _, kept, rejects = load((tmp_path / "z.zip").read_bytes(), name="all.zip")
    assert pairs(kept) == {"web:1": "甲", "web:2": "乙", "web:3": "丙"}
    assert [one.origin for one in kept] == ["all.zip!a.csv:2", "all.zip!a.csv:3", "all.zip!b.jsonl:1"]
    assert [(one.reason, one.origin, one.id, one.stage) for one in rejects] == [
        ("unknown_format", "all.zip!notes.md:1", "theirs:4", "generate")
    ]


def test_every_row_has_its_reason(load) -> None:
    text = (
        "id,question,predict\n"
        "1,,甲\n"  # kept
        "2,,\n"  # kept, empty
        "1,,又一次\n"
        "77,不在其中,乙\n"
        "3,第4个问题，怎么办？,丙\n"  # id and text disagree
        "4\n"
        ",,丁\n"
        "88,第5个问题，怎么办？,戊\n"  # by its text
    )
    result, kept, rejects = load(text)
    assert [(one.id, one.answer, one.finish, one.origin) for one in kept] == [
        ("web:1", "甲", "stop", "theirs.csv:2"),
        ("web:2", "", "empty", "theirs.csv:3"),
        ("web:5", "戊", "stop", "theirs.csv:9"),
    ]
    assert [(one.reason, one.origin) for one in rejects] == [
        ("repeated_prediction", "theirs.csv:4"),
        ("unknown_question", "theirs.csv:5"),
        ("contradiction", "theirs.csv:6"),
        ("broken_row", "theirs.csv:7"),
        ("unknown_question", "theirs.csv:8"),
    ]
    assert rejects[2].detail == "its id means web:3, its question is that of web:4"
    assert rejects[0].record == {"id": "1", "question": "", "answer": "又一次", "finish": "stop"}
    assert result.facts["joined"] == {"by_id": 2, "by_question": 1}
    assert result.facts["finish"] == {"empty": 1, "stop": 2} and result.facts["num_unanswered"] == 3


def test_numbers_and_lists_are_no_answers(load) -> None:
    given = ("5", "NaN", "true", '["a"]', "[]", "null", '[{"type": "text", "text": "甲"}]')
    _, kept, rejects = load("\n".join(f'{{"id": {number % 4}, "answer": {answer}}}' for number, answer in enumerate(given)))
    assert pairs(kept) == {"web:1": "", "web:2": "甲"} and kept[0].finish == "empty"
    assert [(reject.reason, reject.detail) for reject in rejects] == [
        ("unknown_format", f"answer is {what}, not text")
        for what in ("the number 5", "the number nan", "true or false", "a list", "an empty list")
    ]


def test_repeated_rows_that_differ_are_counted_and_ids_are_no_telephone_numbers(load) -> None:
    asked = [msgspec.structs.replace(QUESTIONS[0], id="web:23000000")]
    text = "id,answer\n23000000,甲\n23000000,甲\n23000000,乙\n23000001,丙\n13812345678,丁\n"
    result, _, rejects = load(text, asked)
    assert [reject.detail for reject in rejects] == [
        "web:23000000 has that of theirs.csv:2, which says the same",
        "web:23000000 has that of theirs.csv:2, which says something else",
        "id 23000001; question none",
        "id ***; question none",
    ]
    assert result.facts["num_differing"] == 1 and "num_empty" not in result.facts


def test_a_benchmark_without_questions_is_said_to_be_at_fault(load) -> None:
    with pytest.raises(ValueError, match="the benchmark has no questions \\(it holds no rows\\); correct its file"):
        load("id,answer\n1,甲\n", [])


def test_questions_that_a_row_does_not_tell_apart(load) -> None:
    twins = [Question(id=f"{source}:1", question="头痛？", references=("答",)) for source in ("a", "b")]
    other = Question(id="a:2", question="咳嗽？", references=("答",), history=(Turn("user", "发热"), Turn("assistant", "多久")))
    _, kept, rejects = load('{"question": "头痛", "answer": "x"}\n{"id": "1", "answer": "y"}\n{"id": "b:1", "answer": "z"}\n'
                            '{"question": "咳嗽", "answer": "w"}\n', [*twins, other])  # fmt: skip
    assert pairs(kept) == {"b:1": "z", "a:2": "w"}
    assert [reject.reason for reject in rejects] == ["ambiguous_question"] * 2
    assert rejects[0].detail == "stands for 2 questions: a:1, b:1"


def test_the_same_own_id_in_two_benchmarks_is_told_by_the_text(load) -> None:
    twins = [Question(id=f"{source}:1", question=f"{source}痛？", references=("答",)) for source in ("头", "胃")]
    _, kept, _ = load('{"id": 1, "question": "胃痛", "answer": "x"}\n', twins)
    assert pairs(kept) == {"胃:1": "x"}


def test_of_a_benchmarks_repeated_id_the_first_question_is_answered(load) -> None:
    again = Question(id="web:1", question="另一个问题", references=("答",))
    _, kept, rejects = load('{"id": 1, "answer": "x"}\n{"question": "另一个问题", "answer": "y"}\n', [*QUESTIONS, again])
    assert pairs(kept) == {"web:1": "x"} and kept[0].question == QUESTIONS[1].question
    assert [reject.reason for reject in rejects] == ["repeated_prediction"]


def test_only_sampled_questions_count(load) -> None:
    text = "id,answer\n" + "".join(f"{n},答{n}\n" for n in range(6))
    result, kept, rejects = load(text, max_questions=2, seed=5)
    assert len(kept) == 2 and Counter(one.reason for one in rejects) == {"not_sampled": 4}
    assert result.facts["num_unanswered"] == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo,bar\n1,2\n", r"theirs.csv: no row answers .*unknown_format 1; first: theirs.csv:1: neither JSON nor a table .*: foo,bar"),
        ("id,answer\n", "the file has no rows"),
        ("id,answer\nx,y\nz,w\n", "unknown_question 2; first: theirs.csv:2: id x; question none"),
        ('{"prompt": "A", "label": "B", "predict": "C"}', "unknown_question 1"),  # LLaMA-Factory's label is the reference
        ("", "empty_file 1"),
    ],
)
def test_a_file_that_answers_nothing_is_an_error(load, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(text)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "a b"}, "no spaces"),
        ({"name": "x@y"}, "none of @"),
        ({"columns": {"answers": "a"}}, "columns.answers: known here: id, question, answer"),
        ({"columns": {"answer": "a"}}, "name the answer, and the id or the question"),
        ({"columns": {"id": "a", "question": "b"}}, "name the answer"),
    ],
)
def test_settings_that_cannot_be(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        predictions.Config(**({"name": "x", "path": "y"} | settings))


def test_personal_data_of_rejects_is_masked(load) -> None:
    _, _, rejects = load("id,answer\n1,好\nx,请打13812345678\n")
    assert "138" not in str(rejects[0].record) and "***" in str(rejects[0].record)


IDS = st.sampled_from(["", "0", "1", "5", "9", "web:2", "web:9"])
TEXTS = st.sampled_from(["", "第1个问题，怎么办？", "第2个问题怎么办", "别的"])


@given(st.lists(st.builds(Row, IDS, TEXTS, st.sampled_from(["", "答"]), st.just("stop")), max_size=20))
def test_each_row_is_kept_or_set_aside_and_no_question_answered_twice(given_rows: list[Row]) -> None:
    joiner = Joiner(QUESTIONS, "x")
    outcomes = [joiner.join(f"f:{number}", row) for number, row in enumerate(given_rows, 1)]
    assert [outcome.origin for outcome in outcomes] == [f"f:{number}" for number in range(1, len(given_rows) + 1)]
    kept = [outcome.id for outcome in outcomes if isinstance(outcome, Prediction)]
    assert len(kept) == len(set(kept)) == joiner.joined.total() and set(kept) <= {question.id for question in QUESTIONS}
    for row, outcome in zip(given_rows, outcomes, strict=True):
        if isinstance(outcome, Prediction):
            assert outcome.answer == row.answer and (outcome.finish == "empty") == (not row.answer)
            assert outcome.id.endswith(row.id) or row.question[:3] == outcome.question[:3]


@given(st.lists(st.tuples(st.integers(0, 5), st.text(max_size=30)), max_size=8, unique_by=lambda pair: pair[0]))
def test_what_json_says_comes_back(tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[int, str]]) -> None:
    path = tmp_path_factory.mktemp("json") / "a.jsonl"
    path.write_text("".join(json.dumps({"id": n, "answer": text}) + "\n" for n, text in drawn))
    joiner = Joiner(QUESTIONS, "x")
    found = [joiner.join(origin, row) for origin, row in rows("a", path, {})] if drawn else []
    assert [(one.id, one.answer) for one in found if isinstance(one, Prediction)] == [(f"web:{n}", text.strip()) for n, text in drawn]


def test_no_torch_is_loaded() -> None:
    code = (
        "import sys; from medchatzh.ingest import predictions; from medchatzh import generate;"
        " assert not {'torch', 'transformers', 'numba'} & set(sys.modules), 'heavy'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
