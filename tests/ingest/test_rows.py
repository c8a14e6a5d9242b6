"""Rows with their lines; what is broken loses one row only."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medchatzh.ingest import rows
from medchatzh.ingest.encoding import BAD
from medchatzh.ingest.rows import Broken, is_json, json_rows, table_rows

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=8,
)
RECORDS = st.lists(st.dictionaries(st.text("kq", min_size=1, max_size=3), VALUES, min_size=1, max_size=3), max_size=8)


def is_record(value: object) -> bool:
    return isinstance(value, dict) and "q" in value


def read(text: str, accept=is_record) -> list[tuple[int, object]]:
    return list(json_rows(io.StringIO(text, newline="\n"), text[: 1 << 16], accept))


def reasons(found: list[tuple[int, object]]) -> list[object]:
    return [value.reason if isinstance(value, Broken) else value for _, value in found]


@given(RECORDS, st.sampled_from([None, 1, 4]), st.integers(1, 40))
def test_arrays_and_lines_give_back_their_records(records: list[dict], indent: int | None, chunk: int) -> None:
    original, rows._CHUNK_CHARS = rows._CHUNK_CHARS, chunk
    try:
        array = json.dumps(records, ensure_ascii=False, indent=indent)
        assert [value for _, value in read(array)] == records
        lines = "".join(json.dumps(record) + "\n" for record in records)
        assert read(lines) == list(enumerate(records, 1))
    finally:
        rows._CHUNK_CHARS = original


def test_elements_of_an_array_know_their_lines() -> None:
    text = '[\n  {"q": 1},\n  {\n    "q": 2\n  },\n\n  {"q": 3}\n]\n'
    assert read(text) == [(2, {"q": 1}), (3, {"q": 2}), (7, {"q": 3})]


def test_objects_one_after_the_other_and_a_single_one_over_lines() -> None:
    assert read('{\n "q": 1\n}\n{\n "q": 2\n}') == [(1, {"q": 1}), (4, {"q": 2})]
    assert read('{\n "q": [\n  "痛",\n  {}\n ]\n}') == [(1, {"q": ["痛", {}]})]


@pytest.mark.parametrize("broken", [False, True])
def test_one_line_objects_inside_a_single_one_are_no_records(broken: bool) -> None:
    turns = [f'    {{"from": "{role}", "value": "痛"}}' for role in ("human", "gpt")]
    text = '\n{\n  "q": [\n' + (" \n" if broken else ",\n").join(turns) + "\n  ]\n}\n"
    if broken:
        assert read(text)[0][0] == 2 and reasons(read(text)) == ["broken_row"]
    else:
        value = {"q": [{"from": "human", "value": "痛"}, {"from": "gpt", "value": "痛"}]}
        assert read(text) == [(2, value)]
        assert rows.first_value(text) == value


def test_lines_stay_lines_where_the_first_is_broken() -> None:
    for first in ('{"q": "cut', "junk", '{"q" 1}'):
        found = read(first + '\n{"other": 1}\n{"q": 3}\n')
        assert reasons(found) == ["broken_row", {"other": 1}, {"q": 3}]


@pytest.mark.parametrize("size", [1, 2, 9])
@pytest.mark.parametrize("whole", ['{"q": "痛", "a": [{"b": 1}]}', '{"x": "痛", "q": 1}'])
def test_a_first_line_cut_anywhere_loses_itself_only(whole: str, size: int) -> None:
    for cut in range(1, len(whole)):
        for first in (whole[:cut], whole[cut:]):
            found = [value for _, value in read(first + "\n" + (whole + "\n") * size) if is_record(value)]
            assert found == [json.loads(whole)] * size, first


def test_a_first_line_longer_than_the_sample_is_a_line() -> None:
    long = json.dumps({"q": "痛" * (1 << 17)}, ensure_ascii=False)
    for first, expected in ((long, json.loads(long)), (long[:-2], "broken_row")):
        assert reasons(read(first + '\n{"q": 2}\n')) == [expected, {"q": 2}]


def test_what_is_nested_too_deep_is_passed_over_in_time() -> None:
    for start, end in (("[", "]"), ('{"q":', "}"), ('[{"q":', "}]")):
        deep = start * 100_000 + "1" + end * 100_000
        found = reasons(read(f'[{{"q": 1}},\n{deep},\n{{"q": 3}}]'))
        assert found[:2] == [{"q": 1}, "broken_row"] and found[-1] == {"q": 3}
        assert reasons(read(f'{{"q": 1}}\n{deep}\n{{"q": 3}}\n')) == [{"q": 1}, "broken_row", {"q": 3}]


def test_a_broken_line_loses_itself_and_says_the_column() -> None:
    found = read('{"q": 1}\n{"q": "cut\n\n{"q": 3}\n')
    assert found[0] == (1, {"q": 1})
    assert found[2] == (4, {"q": 3})
    assert found[1] == (2, Broken("broken_row", "Unterminated string starting at column 7", '{"q": "cut'))


@pytest.mark.parametrize("element", ['{"q": "x}', '{"q" 1}', '{"q": [1, 2}', "junk", '{"q": "a"b"}'])
@pytest.mark.parametrize("pretty", [True, False])
def test_after_a_broken_element_the_array_goes_on(element: str, pretty: bool) -> None:
    text = (",\n" if pretty else ", ").join(['[{"q": 1}', element, '{"q": 3}', '{"q": 4}]'])
    found = reasons(read(text))
    assert found[:2] == [{"q": 1}, "broken_row"]
    assert found[-1] == {"q": 4}
    assert len(found) >= 3  # a lost quote may take the next record with it, never more


def test_parts_of_a_broken_record_are_no_records() -> None:
    text = '[{"q": [{"from": "a"}, {"from": "b"}] "x": 1}, {"q": 2}]'
    assert reasons(read(text)) == ["broken_row", {"q": 2}]


def test_a_cut_array_keeps_what_came_before() -> None:
    whole = json.dumps([{"q": number, "a": "文" * 9} for number in range(5)], ensure_ascii=False)
    found = reasons(read(whole[:-20]))
    assert [value["q"] for value in found[:4]] == [0, 1, 2, 3]  # type: ignore[index]
    assert found[4] == "broken_row"
    between = reasons(read(whole[: whole.index("}") + 2]))
    assert between[1:] == ["broken_row"]


@pytest.mark.parametrize(
    "text", ['{"q": "好\n{"q": 1}\n', "[" * 5000, '{"q": "\\ud83d"}\n', '[{"q": "\\ud83d"}]', '{"q": 1' + "0" * 5000 + "}"]
)
def test_nothing_crashes(text: str) -> None:
    assert "broken_row" in reasons(read(text)) or text.startswith('{"q": 10')


def test_undecodable_bytes_lose_one_record() -> None:
    assert reasons(read(f'{{"q": 1}}\n{{"q": "{BAD}"}}\n{{"q": 3}}')) == [{"q": 1}, "wrong_encoding", {"q": 3}]
    assert reasons(read(f'[{{"q": 1}}, {{"q": "{BAD}"}}, {{"q": 3}}]')) == [{"q": 1}, "wrong_encoding", {"q": 3}]


def test_json_is_told_from_text_that_begins_with_a_bracket() -> None:
    assert is_json('{"a": 1}') and is_json("[]") and is_json('[\n{"a":') and is_json('junk\n{"a": 1}\n')
    assert not is_json("[宋]陈言 著") and not is_json("高血压") and not is_json("1\n2\n")


def table(text: str) -> list[tuple[int, object]]:
    return list(table_rows(io.StringIO(text, newline="\n"), ","))


def test_quoted_fields_may_span_lines() -> None:
    assert table('a,b\r\n1,"x\ny"\r\n\r\n2,"say ""hi"""\r\n') == [(2, {"a": "1", "b": "x\ny"}), (5, {"a": "2", "b": 'say "hi"'})]


def test_a_stray_quote_harms_its_own_row_only() -> None:
    found = table('a,b\n1,"no end\n2,y\n3,5" 管\n"4,z\n5,w\n')
    assert [line for line, _ in found] == [2, 3, 4, 5, 6]
    assert found[0][1] == {"a": "1", "b": "no end\n"}
    assert [value.reason for _, value in found if isinstance(value, Broken)] == ["broken_row"]
    assert found[2][1] == {"a": "3", "b": '5" 管'}
    assert found[4][1] == {"a": "5", "b": "w"}


def test_a_row_with_other_columns_says_how_many() -> None:
    (_, value), *_ = table("a,b\n只有一列\n")
    assert isinstance(value, Broken)
    assert value.detail == "1 fields, expected 2: a, b"


@given(st.lists(st.tuples(*[st.text(st.sampled_from('甲乙",\n a'), min_size=1, max_size=8)] * 2), max_size=6))
def test_what_csv_writes_is_read_back(written: list[tuple[str, str]]) -> None:
    import csv

    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([("a", "b"), *written])
    assert [(value["a"], value["b"]) for _, value in table(out.getvalue())] == written  # type: ignore[index]
