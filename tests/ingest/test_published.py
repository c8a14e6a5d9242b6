"""Forms of data sets that are published but cannot be shipped: their layouts, with texts of our own."""

import io
import json
import zipfile
from pathlib import Path

import pytest

from medchatzh.ingest import Source, Tally, read_source
from medchatzh.ingest.formats import ALIASES, FORMATS
from medchatzh.records import Dialogue, Question, Record, Reject


def read(folder: Path, tally: Tally | None = None, **settings) -> list[Record]:
    files = {path.name: path for path in sorted(folder.iterdir())}
    return list(read_source(Source(name="s", path="*", **settings), files, tally or Tally()))


def said(record: Record) -> list[str]:
    assert isinstance(record, Dialogue), record
    return [turn.role[0] + ":" + turn.content for turn in record.turns]


def reasons(found: list[Record]) -> list[str]:
    return [record.reason if isinstance(record, Reject) else "kept" for record in found]


def zipped(path: Path, **members: str | bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)


CMEDQA2 = {
    "question.csv": 'question_id,content\n11,"头痛，三天了"\n12,失眠\n13,没人答\n11,又一次\n',
    "answer.csv": 'ans_id,question_id,content\n1,11,"休息，\n多喝水"\n2,11,就医\n3,12,早睡\n4,99,找不到问题\n5,12,\n6,12\n',
    "train_candidates.txt": "question_id,pos_ans_id,neg_ans_id\n11,1,3\n11,1,2\n12,5,1\n12,3,2\n",
}


@pytest.mark.parametrize("packing", ["plain", "zips", "one zip", "zips in a zip"])
@pytest.mark.parametrize("format", ["auto", "cmedqa2"])
def test_cmedqa2_joins_answers_to_questions(tmp_path: Path, packing: str, format: str) -> None:
    texts = {name: CMEDQA2[name] for name in ("question.csv", "answer.csv")}
    if packing == "plain":
        for name, text in texts.items():
            (tmp_path / name).write_text(text)
    elif packing == "zips":
        for name, text in texts.items():
            zipped(tmp_path / f"{name}.zip", **{name: text})
    elif packing == "one zip":
        zipped(tmp_path / "all.zip", **texts)
    else:
        inner = {}
        for name, text in texts.items():
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as archive:
                archive.writestr(name, text)
            inner[f"main/{name}.zip"] = buffer.getvalue()
        zipped(tmp_path / "all.zip", **inner)
    tally = Tally()
    found = read(tmp_path, tally, format=format)
    assert tally.formats == {"cmedqa2"}
    kept = [record for record in found if isinstance(record, Dialogue)]
    assert [said(record) for record in kept] == [["u:头痛，三天了", "a:休息，\n多喝水"], ["u:头痛，三天了", "a:就医"], ["u:失眠", "a:早睡"]]
    assert kept[0].origin.endswith("answer.csv:2") and kept[1].origin.endswith("answer.csv:4")
    assert sorted(reasons(found)) == [
        "broken_row",
        "kept",
        "kept",
        "kept",
        "missing_answer",
        "missing_answer",
        "missing_question",
        "repeated_id",
    ]


def test_cmedqa2_candidates_choose_the_split(tmp_path: Path) -> None:
    for name, text in CMEDQA2.items():
        zipped(tmp_path / f"{name}.zip", **{name: text})
    found = read(tmp_path)
    assert [said(record)[1] for record in found if isinstance(record, Dialogue)] == ["a:休息，\n多喝水", "a:早睡"]
    assert reasons(found).count("not_in_split") == 2
    dev = "question_id,ans_id,cnt,label\n11,2,0,1\n11,1,1,0\n"
    zipped(tmp_path / "train_candidates.txt.zip", dev_candidates__txt=dev)
    assert [said(record)[1] for record in read(tmp_path) if isinstance(record, Dialogue)] == ["a:就医"]


def test_webmedqa_comes_in_three_zips(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        rows = f"{split}1\t1\t内科\t问一\t答一\n{split}1\t0\t内科\t问一\t别的\n{split}2\t1\t外科\t问二\t答二\n"
        zipped(tmp_path / f"{split}.zip", **{f"medQA.{split}.txt": rows})
    found = read(tmp_path)
    assert [record.id for record in found] == [f"s:{split}{n}" for split in ("test", "train", "valid") for n in (1, 2)]
    assert all(isinstance(record, Question) for record in found)
    assert reasons(read(tmp_path, format="webmedqa_train")) == ["kept", "negative_pair", "kept"] * 3


def lines(*records: dict) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


@pytest.mark.parametrize(
    ("record", "turns", "category"),
    [
        ({"questions": [["头痛怎么办", "头疼如何治"]], "answers": ["休息"]}, ["u:头痛怎么办", "a:休息"], ""),  # encyclopedia
        ({"questions": ["头痛", "头疼"], "answers": ["", "休息"]}, ["u:头痛", "a:休息"], ""),  # knowledge graph
        ({"id": 7, "questions": "头痛", "answers": "休息", "label": "神经内科"}, ["u:头痛", "a:休息"], "神经内科"),
        (
            {"id": 1, "question": "头痛", "answer": "休息", "label": "内科", "score": 5, "related_diseases": ""},
            ["u:头痛", "a:休息"],
            "内科",
        ),
        ({"id": "", "instruction": ["头痛"], "input": "", "output": ["休息"]}, ["u:头痛", "a:休息"], ""),  # the test set
    ],
)
def test_huatuo26m(tmp_path: Path, record: dict, turns: list[str], category: str) -> None:
    (tmp_path / "a.jsonl").write_text(lines(record))
    (found,) = read(tmp_path)
    assert (said(found), found.category) == (turns, category)


def test_huatuo26m_without_texts(tmp_path: Path) -> None:
    address = {"questions": [["头痛"]], "answers": ["https://example.org/1.htm"]}
    (tmp_path / "a.jsonl").write_text(
        lines(address, {"questions": [[]], "answers": ["x"]}, {"questions": ["x"], "answers": [{}]}, {"answers": ["x"]})
    )
    found = read(tmp_path)
    assert reasons(found) == ["missing_answer", "missing_question", "unknown_format", "missing_question"]
    assert isinstance(found[0], Reject) and found[0].detail == "a web address stands for the answer"


@pytest.mark.parametrize("format", ["auto", "cmtmedqa"])
def test_cmtmedqa_has_departments_and_earlier_turns(tmp_path: Path, format: str) -> None:
    record = {"id": "j1", "cate1": "内科", "cate2": "心血管内科", "instruction": "多久复查", "input": "", "output": "一个月"}
    rows = [{**record, "history": [["血压高", "低盐饮食"], ["还有呢", "规律服药"]]}, {**record, "history": []}]
    (tmp_path / "a.json").write_text(json.dumps(rows, ensure_ascii=False, indent=4))
    first, second = read(tmp_path, format=format)
    assert said(first) == ["u:血压高", "a:低盐饮食", "u:还有呢", "a:规律服药", "u:多久复查", "a:一个月"]
    assert (said(second), second.category) == (["u:多久复查", "a:一个月"], "内科")


MEDDIALOG = """id=1
https://www.example.org/wenda/1.htm
Doctor faculty
市人民医院 心内科

Description
疾病：
高血压
病情描述（发病时间、主要症状等）：
头晕三天

Dialogue
病人：
需要吃药吗
医生：
先测血压，
每天两次。
病人：好的

Diagnosis and suggestions
总结建议：
低盐饮食

id=2
Doctor faculty

Description
失眠
Dialogue
医生：早睡
病人：谢谢

id=3
Description
没有对话
id=4
Dialogue
说话的人没有写
"""


@pytest.mark.parametrize("format", ["auto", "meddialog"])
@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_meddialog_blocks(tmp_path: Path, format: str, encoding: str) -> None:
    (tmp_path / "2012.txt").write_bytes(("\n前言\n" + MEDDIALOG).encode(encoding))
    found = read(tmp_path, format=format)
    assert reasons(found) == ["broken_row", "kept", "kept", "unknown_format", "unknown_format"]
    described = "疾病：\n高血压\n病情描述（发病时间、主要症状等）：\n头晕三天"
    assert said(found[1]) == [f"u:{described}\n需要吃药吗", "a:先测血压，\n每天两次。", "u:好的", "a:总结建议：\n低盐饮食"]
    assert (said(found[2]), found[1].category, found[2].category) == (["u:失眠", "a:早睡"], "心内科", "")
    starts = [2, *(3 + MEDDIALOG.split("\n").index(f"id={number}") for number in (1, 2, 3, 4))]
    assert [record.origin for record in found] == [f"2012.txt:{number}" for number in starts]


def test_meddialog_lists(tmp_path: Path) -> None:
    talks = [["病人：头痛", "医生：多久了", "病人：三天", "医生：休息"], ["病人：只问"], "乱", ["医生：答"]]
    (tmp_path / "a.json").write_text(json.dumps(talks, ensure_ascii=False))
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(talk) + "\n" for talk in talks[:2]))
    (tmp_path / "c.json").write_text(json.dumps([{"description": "", "utterances": talks[0]}], ensure_ascii=False))
    found = read(tmp_path)
    assert reasons(found) == ["kept", "missing_answer", "unknown_format", "missing_question", "kept", "missing_answer", "kept"]
    assert all(said(found[n]) == ["u:头痛", "a:多久了", "u:三天", "a:休息"] for n in (0, 4, 6))


@pytest.mark.parametrize("name", sorted(ALIASES))
def test_data_sets_may_be_named_by_their_own_names(tmp_path: Path, name: str) -> None:
    assert ALIASES[name] in FORMATS and name not in FORMATS
    (tmp_path / "a.jsonl").write_text(lines({"wen": "x"}))
    assert reasons(read(tmp_path, format=name)) == ["unknown_format"]
