import json
import re
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medchatzh.curate.lists import harmonise, lists, markers

GOLDEN = [json.loads(line) for line in (Path(__file__).parents[1] / "golden" / "lists.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["shows"])
def test_golden_cases(case: dict[str, str]) -> None:
    assert harmonise(case["before"]) == case["after"], case["shows"]
    assert harmonise(case["after"]) == case["after"]


def test_the_golden_file_has_enough_different_cases() -> None:
    assert len({case["before"] for case in GOLDEN}) == len(GOLDEN) >= 150
    assert sum(case["shows"].startswith("nested") for case in GOLDEN) >= 15
    assert sum(case["shows"].startswith("mixed") for case in GOLDEN) >= 10
    assert sum(case["before"] == case["after"] for case in GOLDEN) >= 50


def test_lists_tell_levels_and_markers() -> None:
    found = lists("一、病因：1、受凉；2、劳累。二、治疗。")
    assert [([marker.number for marker in each.markers], level) for each, level in found] == [([1, 2], 0), ([1, 2], 1)]
    assert [(marker.number, marker.style, marker.strong) for marker in markers("1、甲；（2）乙，3）丙。每4天")] == [
        (1, "arabic、", True),
        (2, "paren", True),
        (3, "arabic)", False),
    ]


def test_a_marker_at_no_boundary_is_none() -> None:
    assert not list(markers("维生素B1、右旋糖酐40、比例1:2、体温38.5，第1、第2、共140/90，(甲烷, 1)"))


@pytest.mark.parametrize(
    "piece", ["1、", "1、甲乙", "1、甲乙2、", "（1）甲", "(", "```1、甲乙", "一、", "1、甲乙\n2、丙丁\n", "①甲1、乙", " "]
)
def test_time_grows_with_the_text_only(piece: str) -> None:
    """A broken file can hold a text of megabytes."""
    text = piece * (200_000 // len(piece))
    start = time.process_time()
    harmonise(text)
    assert time.process_time() - start < 20  # some 0.5 s; squared time would be minutes


_PIECES = [
    *(number + mark for number in "123" for mark in "、.，）):。"),
    *(f"{left}{number}{right}" for number in "123" for left, right in ("（）", "()")),
    *("一、", "二、", "三、", "十、", "（一）", "（二）", "１．", "２．", *"①②③⒈⒉"),
    *("1：2", "3.5克", "B12", "多喝水", "多休息", "注意", "12", "0", "3不", "2个", "第", *"。；，："),
]
_texts = st.lists(st.sampled_from([*_PIECES, "\n", " "]), max_size=30).map("".join)


@given(_texts | st.text(max_size=60))
def test_harmonise_is_idempotent_and_keeps_what_is_said(text: str) -> None:
    once = harmonise(text)
    assert harmonise(once) == once

    def said(of: str) -> Counter[str]:
        return Counter(re.sub(r"[\s0-9０-９①-⒛一二三四五六七八九十、.．，,:：。()（）]", "", of))

    assert said(once) == said(text)
    if not lists(text):
        assert once == text


_TOKENS = (
    "3.5克",
    "38.5℃",
    "1:2",
    "1：10",
    "2-3天",
    "140/90",
    "B12",
    "2010年9月18日",
    "1,000毫升",
    "0、1、6个月",
    "2、3次",
    "PCO2）",
    "40、低",
)


@given(st.lists(st.sampled_from(_TOKENS), min_size=2, max_size=6), st.sampled_from(["{}、", "（{}）", "{}）", "{}．", "{}，", "{}："]))
def test_numbers_inside_items_stay(tokens: list[str], form: str) -> None:
    """Each token stands once at the head of an item and once inside, and comes out as it went in, in order."""
    text = "".join(f"{form.format(number)}{token}左右，再看{token}。" for number, token in enumerate(tokens, 1))
    places = [harmonise(text).find(f"{token}左右，再看{token}。") for token in tokens]
    assert all(place >= 0 for place in places)
