"""Benchmarks in any layout: whatever gives dialogues gives questions where the source says `benchmark = true`; cMedQA2's lists."""

import json
import time
import zipfile
from pathlib import Path

import pytest

from medchatzh import ingest, records
from medchatzh.ingest import Source, Tally, read_source, units
from medchatzh.records import Dialogue, Question, Record, Reject, Turn
from medchatzh.run import Context


def read(folder: Path, **settings) -> list[Record]:
    files = {path.name: path for path in sorted(folder.iterdir())}
    return list(read_source(Source(name="b", path="*", **settings), files, Tally()))


def asked(record: Record) -> tuple:
    assert isinstance(record, Question), record
    return record.id, record.question, record.references, record.distractors, [turn.content for turn in record.history]


def told(found: list[Record]) -> list[str]:
    return [record.reason if isinstance(record, Reject) else record.id for record in found]


ROWS = [
    ({"id": "j1", "cate1": "内科", "cate2": "x", "instruction": "谢谢", "input": "", "output": "不客气", "history": [["头痛", "多久"]]},
     ("b:j1", "谢谢", ("不客气",), (), ["头痛", "多久"])),
    ({"instruct": " 被附身了吗", "output": " 不是"}, ("b:1", "被附身了吗", ("不是",), (), [])),
    ({"id": "", "instruction": ["头痛"], "input": "", "output": ["休息", "喝水"]}, ("b:1", "头痛", ("休息", "喝水"), (), [])),
    ({"questions": [["头痛", "头疼"]], "answers": ["休息", "喝水"]}, ("b:1", "头痛", ("休息", "喝水"), (), [])),
    ({"id": 7, "question": "头痛", "answer": "休息"}, ("b:7", "头痛", ("休息",), (), [])),
    ({"messages": [{"role": role, "content": text} for role, text in (("system", "医"), ("user", "问"), ("assistant", "答"))]},
     ("b:1", "问", ("答",), (), ["医"])),
]  # fmt: skip


@pytest.mark.parametrize(("row", "expected"), ROWS)
@pytest.mark.parametrize("form", ["lines", "array"])
def test_json_records_are_questions(tmp_path: Path, row: dict, expected: tuple, form: str) -> None:
    text = json.dumps([row] if form == "array" else row, ensure_ascii=False)
    (tmp_path / "a.json").write_text(text)
    (found,) = read(tmp_path, benchmark=True)
    assert asked(found) == expected
    assert isinstance(read(tmp_path)[0], Dialogue)


def test_what_is_asked_and_what_tells_it_from_others(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(ROWS[0][0], ensure_ascii=False))
    (found,) = read(tmp_path, benchmark=True)
    assert isinstance(found, Question)
    assert found.turns == (Turn("user", "头痛"), Turn("assistant", "多久"), Turn("user", "谢谢"))
    assert (found.opening, found.category, found.origin) == ("头痛", "内科", "a.jsonl:1")
    assert Question(id="x", question="问", references=()).opening == "问"


def test_a_table_with_a_map_of_its_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("编号;x,问题,医生\nA1,头痛,休息\nA2,,休息\n,失眠,早睡\nA1,咳,水\n".encode("gbk"))
    columns = {"id": "编号;x", "question": "问题", "answer": "医生"}
    found = read(tmp_path, benchmark=True, columns=columns)
    assert told(found) == ["b:A1", "missing_question", "b:3", "b:A1"]
    assert asked(found[0])[1:3] == ("头痛", ("休息",))
    assert [record.id for record in read(tmp_path, columns=columns)] == ["b:1", "b:2", "b:3", "b:4"]  # dialogues take their row's


def test_a_json_list_of_answers_in_a_named_column(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"q": "头痛", "a": ["休息", "", "喝水"]}\n{"q": "头痛", "a": []}\n')
    found = read(tmp_path, benchmark=True, columns={"question": "q", "answer": "a"})
    assert told(found) == ["b:1", "missing_answer"]
    assert asked(found[0])[2] == ("休息", "喝水")


def test_other_layouts_and_records_that_ask_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("问一\n答一\n\n问二\n答二\n\n问三\n答三\n")
    assert [asked(record)[:3] for record in read(tmp_path, benchmark=True, format="toyhom_text")] == [
        ("b:1", "问一", ("答一",)),
        ("b:2", "问二", ("答二",)),
        ("b:3", "问三", ("答三",)),
    ]
    assert told(read(tmp_path, benchmark=True, format="book")) == ["not_a_question"]
    (tmp_path / "a.txt").write_text('{"prompt": "问", "chosen": "好", "rejected": "坏"}')
    assert told(read(tmp_path, benchmark=True)) == ["not_a_question"]


def test_a_large_benchmark_is_one_unit_and_never_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jsonl").write_text("".join(f'{{"question": "问{n}", "answer": "答"}}\n' for n in range(40)))
    monkeypatch.setattr(units, "UNIT_BYTES", 200)
    sources = (Source(name="b", path="a.jsonl", benchmark=True), Source(name="t", path="a.jsonl"))
    config = ingest.Config(sources=sources)
    assert (
        len(units.cut(sources[0], {"a.jsonl": tmp_path / "a.jsonl"})) == 1 < len(units.cut(sources[1], {"a.jsonl": tmp_path / "a.jsonl"}))
    )
    out = tmp_path / "out"
    out.mkdir()
    ingest.run(config, {}, out, Context(), files=ingest.raw_files(config, tmp_path))
    questions = list(records.read(out / "questions.jsonl", Question))
    assert [(one.id, one.origin) for one in questions] == [(f"b:{n}", f"a.jsonl:{n}") for n in range(1, 41)]
    assert {one.source for one in records.read(out / "dialogues.jsonl", Dialogue)} == {"t"}


def test_webmedqas_lines_of_one_id_but_two_questions_are_two_rows(tmp_path: Path) -> None:
    rows = "1\t1\t内科\t问一\t答一\n1\t0\t内科\t问一\t别的\n1\t1\t内科\t问二\t答二\n"
    (tmp_path / "medQA.test.txt").write_text(rows)
    assert [asked(record)[:4] for record in read(tmp_path)] == [
        ("b:1", "问一", ("答一",), ("别的",)),
        ("b:1", "问二", ("答二",), ()),
    ]


QUESTIONS = 'question_id,content\n11,"头痛，三天"\n12,失眠\n13,未列入\n11,又一次\n14,\n15,没有对的\n'
ANSWERS = "ans_id,question_id,content\n1,11,休息\n2,11,就医\n3,12,早睡\n4,13,别的\n5,12,\n"
CANDIDATES = (
    "question_id,ans_id,cnt,label\n11,1,0,1\n11,3,1,0\n11,2,2,1\n11,3,3,0\n12,5,0,1\n12,3,1,1\n12,4,2,0\n12,99,3,0\n"
    "14,1,0,1\n15,5,0,1\n16,1,0,1\n"
)


@pytest.mark.parametrize("packed", [True, False])
def test_cmedqa2s_candidates_are_a_benchmark(tmp_path: Path, packed: bool) -> None:
    for name, text in {"question.csv": QUESTIONS, "answer.csv": ANSWERS, "test_candidates.txt": CANDIDATES}.items():
        if packed:
            with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
                archive.writestr(name, text)
        else:
            (tmp_path / name).write_text(text)
    found = read(tmp_path, format="cmedqa2_test")
    assert [asked(record) for record in found if isinstance(record, Question)] == [
        ("b:11", "头痛，三天", ("休息", "就医"), ("早睡",), []),
        ("b:12", "失眠", ("早睡",), ("别的",), []),
    ]
    rejected = ["not_in_split", "repeated_id", "missing_question", "missing_answer", "missing_question"]
    assert told(found) == ["b:11", "b:12", *rejected]
    assert found[0].origin.endswith("question.csv:2")


def test_cmedqa2s_training_list_names_wrong_answers_too_and_without_a_list_all_questions_are_asked(tmp_path: Path) -> None:
    (tmp_path / "question.csv").write_text(QUESTIONS)
    (tmp_path / "answer.csv").write_text(ANSWERS)
    everything = [record for record in read(tmp_path, format="cmedqa2_test") if isinstance(record, Question)]
    assert [asked(record)[:4] for record in everything] == [
        ("b:11", "头痛，三天", ("休息", "就医"), ()),
        ("b:12", "失眠", ("早睡",), ()),
        ("b:13", "未列入", ("别的",), ()),
    ]
    (tmp_path / "train_candidates.txt").write_text("question_id,pos_ans_id,neg_ans_id\n11,1,3\n11,1,4\n")
    (kept,) = (record for record in read(tmp_path, format="cmedqa2_test") if isinstance(record, Question))
    assert asked(kept)[2:4] == (("休息",), ("早睡", "别的"))
    assert all(isinstance(record, (Dialogue, Reject)) for record in read(tmp_path, format="cmedqa2"))


def test_a_reject_with_a_very_long_run_of_letters_is_masked_at_once(tmp_path: Path) -> None:
    row = {"conversations": [{"from": "nobody", "value": "a" * 3_000_000 + " me@example.org 13812345678"}]}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    started = time.monotonic()
    (found,) = read(tmp_path, benchmark=True)
    assert isinstance(found, Reject) and str(found.record).endswith("aaa *** ***'}]}")
    assert time.monotonic() - started < 30  # it took hours


def test_a_zip_with_a_broken_name_is_set_aside(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("问题.csv", QUESTIONS)
    data = (tmp_path / "a.zip").read_bytes()
    name = "问题".encode()
    (tmp_path / "a.zip").write_bytes(data.replace(name, b"\xff" * len(name)))
    assert told(read(tmp_path, benchmark=True)) == ["corrupt_file"]
