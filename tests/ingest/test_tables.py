"""Parquet files and workbooks are read like JSON lines: row by row, with the row for a line; broken ones are set aside."""

import datetime
import json
import sys
import zipfile
from pathlib import Path

import pyarrow
import pytest
from openpyxl import Workbook
from pyarrow import parquet

from medchatzh.ingest import Source, Tally, read_source
from medchatzh.records import Dialogue, Record, Reject

COLUMNS = {"question": "问题", "answer": "回答", "category": "科室"}
ROWS = [
    {"问题": "头痛", "回答": "休息", "科室": "内科"},
    {"问题": "失眠", "回答": None, "科室": "内科"},
    {"问题": 5, "回答": "早睡", "科室": None},
]


def read(path: Path, **settings) -> list[Record]:
    return list(read_source(Source(name="s", path="*", **settings), {path.name: path}, Tally()))


def said(record: Record) -> list[str]:
    assert isinstance(record, Dialogue), record
    return [turn.role[0] + ":" + turn.content for turn in record.turns]


def reasons(found: list[Record]) -> list[str]:
    return [record.reason if isinstance(record, Reject) else "kept" for record in found]


def workbook(path: Path, **sheets: list[list]) -> Path:
    book = Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


@pytest.mark.parametrize("format", ["auto", "parquet"])
def test_parquet_by_columns(tmp_path: Path, format: str) -> None:
    rows = [{**row, "问题": str(row["问题"])} for row in ROWS]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet", format=format, columns=COLUMNS)
    assert reasons(found) == ["kept", "missing_answer", "kept"]
    assert (said(found[0]), found[0].category, found[2].origin) == (["u:头痛", "a:休息"], "内科", "a.parquet:3")


def test_parquet_by_its_own_keys_over_many_batches_and_inside_a_zip(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}]
    table = pyarrow.Table.from_pylist([{"messages": turns, "day": datetime.date(2020, 1, 2)}] * 3000)
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=700)
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.write(tmp_path / "a.parquet", "in/a.parquet")
    for name, origin in (("a.parquet", "a.parquet:3000"), ("z.zip", "z.zip!in/a.parquet:3000")):
        found = read(tmp_path / name)
        assert reasons(found) == ["kept"] * 3000
        assert (said(found[-1]), found[-1].origin) == (["u:问", "a:答"], origin)


def test_a_parquet_text_that_is_not_utf8_loses_its_row(tmp_path: Path) -> None:
    bad = pyarrow.array([b"\xb8\xdf", "头痛".encode()]).cast(pyarrow.binary()).view(pyarrow.utf8())
    parquet.write_table(pyarrow.table({"question": bad, "answer": ["a", "b"]}), tmp_path / "a.parquet")
    assert reasons(read(tmp_path / "a.parquet")) == ["broken_row", "kept"]


def test_sheets_are_members_and_rows_are_lines(tmp_path: Path) -> None:
    first = [[], ["问题", "回答", None, "科室"], ["头痛", "休息\n多喝水", "备注", "内科"], [], [7, 2.5, None, None], ["失眠"]]
    path = workbook(tmp_path / "a.xlsx", 甲=first, 乙=[["question", "answer"], ["问", "答"]], 空=[])
    found = read(path, columns=COLUMNS)
    assert reasons(found) == ["kept", "kept", "missing_answer", "unknown_format", "empty_file"]
    assert [record.origin for record in found] == ["a.xlsx!甲:3", "a.xlsx!甲:5", "a.xlsx!甲:6", "a.xlsx!乙:2", "a.xlsx!空:1"]
    assert (said(found[0]), said(found[1])) == (["u:头痛", "a:休息\n多喝水"], ["u:7", "a:2.5"])
    assert said(read(path, format="xlsx")[3]) == ["u:问", "a:答"]  # by the form that its columns tell


@pytest.mark.parametrize("name", ["a.xlsx", "a.parquet"])
def test_a_damaged_table_is_set_aside(tmp_path: Path, name: str) -> None:
    if name == "a.xlsx":
        workbook(tmp_path / name, 甲=[["question", "answer"], ["问", "答"]])
    else:
        parquet.write_table(pyarrow.table({"question": ["问"] * 9, "answer": ["答"] * 9}), tmp_path / name)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    (found,) = read(tmp_path / name)
    assert reasons([found]) == ["corrupt_file"]
    (tmp_path / name).write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500))  # an encrypted workbook is an OLE file
    assert reasons(read(tmp_path / name)) == ["not_text"]


def test_without_the_library_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = workbook(tmp_path / "a.xlsx", 甲=[["question"], ["问"]])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(ValueError, match="pip install openpyxl"):
        read(path)


@pytest.mark.parametrize(
    ("format", "packing"), [("auto", "array"), ("json", "array"), ("jsonl", "array"), ("json", "lines"), ("auto", "csv")]
)
def test_columns_of_json_arrays_and_by_detection(tmp_path: Path, format: str, packing: str) -> None:
    if packing == "csv":
        text = "科室,问题,回答\n内科,头痛,休息\n,失眠,\n,5,早睡\n"
    else:
        text = json.dumps(ROWS, ensure_ascii=False) if packing == "array" else "\n".join(map(json.dumps, ROWS))
    (tmp_path / "a").write_bytes(text.encode("gb18030"))
    found = read(tmp_path / "a", format=format, columns=COLUMNS)
    assert reasons(found) == ["kept", "missing_answer", "kept"]
    assert (said(found[2]), found[0].category) == (["u:5", "a:早睡"], "内科")


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_a_table_with_the_keys_of_a_form_is_told(tmp_path: Path, delimiter: str) -> None:
    rows = (("id", "instruction", "output"), ("1", "头痛", "休息"), ("2", "失眠", ""))
    (tmp_path / "a").write_text("".join(delimiter.join(row) + "\n" for row in rows))
    assert reasons(read(tmp_path / "a")) == ["kept", "missing_answer"]
    (tmp_path / "a").write_text("".join(delimiter.join(row) + "\n" for row in (("id", "诗"), ("1", "春眠"))))
    assert reasons(read(tmp_path / "a")) == ["unknown_format"]


def test_an_exam_is_no_dialogue(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("id,question,A,B,C,D,answer\n0,心率最快的是,甲,乙,丙,丁,A\n")
    assert reasons(read(tmp_path / "a")) == ["multiple_choice"]
