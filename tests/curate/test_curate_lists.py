import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medchatzh.curate.lists import harmonise, runs


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("建议：1、多饮水；2、多休息。", "建议：1.多饮水；2.多休息。"),
        ("1）清淡饮食\n2）按时睡觉\n3）复查", "1.清淡饮食\n2.按时睡觉\n3.复查"),
        ("注意：（1）保暖；（2）忌口。", "注意：1.保暖；2.忌口。"),
        ("注意：(1)保暖；(2)忌口。", "注意：1.保暖；2.忌口。"),
        ("方法如下：①热敷。②按摩。", "方法如下：1.热敷。2.按摩。"),
        ("⒈注意保暖。⒉避免受寒。", "1.注意保暖。2.避免受寒。"),
        ("⑴注意保暖。⑵避免受寒。", "1.注意保暖。2.避免受寒。"),
        ("一、饮食无禁忌。二、避免劳累。", "1.饮食无禁忌。2.避免劳累。"),
        ("（一）发病原因不明。（二）发病机制复杂。", "1.发病原因不明。2.发病机制复杂。"),
        ("１．多喝水。\n２．多休息。", "1.多喝水。\n2.多休息。"),
        ("1，到医院就诊。2，查滴度。", "1.到医院就诊。2.查滴度。"),
        ("1、3天后复查。2、一周后拆线。", "1. 3天后复查。2.一周后拆线。"),
        ("步骤：1、洗手，2、消毒，3、包扎", "步骤：1.洗手，2.消毒，3.包扎"),
    ],
)
def test_a_run_of_one_style_becomes_arabic_dots(text: str, expected: str) -> None:
    assert harmonise(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "可补充维生素B1、B12、B6。",
        "右旋糖酐40、低分子肝素。PCO2）偏高。",
        "血压在90-140，低压60-90，140/90以上再来。",
        "按0、1、6个月的程序接种乙肝疫苗。",
        "一次1.5克，一日2、3次，体温38.5度。",
        "首先，多喝水。其次，多休息。第一，戒烟；第二，限酒。",
        "比例为1:2，水和药1：10。",
        "1、多喝水。",
        "2、多喝水。3、多休息。",
        "2010年9月18日：1,000毫升。",
        "1.多喝水\n2.多休息",
        "第三天复查，3-5天见效。",
    ],
)
def test_what_is_no_run_is_left_alone(text: str) -> None:
    assert harmonise(text) == text


def test_one_level_of_nested_lists_is_rewritten() -> None:
    assert harmonise("1、饮食：（1）少盐；（2）少油。\n2、运动：（1）散步；（2）游泳。") == (
        "1.饮食：（1）少盐；（2）少油。\n2.运动：（1）散步；（2）游泳。"
    )
    assert harmonise("一、病因：1、受凉；2、劳累。\n二、治疗：1、保暖；2、休息。") == (
        "一、病因：1.受凉；2.劳累。\n二、治疗：1.保暖；2.休息。"
    )


def test_two_lists_after_each_other_both_change() -> None:
    assert harmonise("饮食：1、少盐；2、少油。运动：1、散步；2、游泳。") == "饮食：1.少盐；2.少油。运动：1.散步；2.游泳。"
    assert [len(run.markers) for run in runs("1、甲乙；2、丙丁。1、戊己；2、庚辛；3、壬癸。")] == [2, 3]


def test_a_stray_number_inside_an_item_does_not_end_the_list() -> None:
    assert harmonise("1、药物，1、2种均可，遵医嘱；2、休息。3、复查。") == "1.药物，1、2种均可，遵医嘱；2.休息。3.复查。"


_PIECES = [
    *(number + mark for number in "123" for mark in "、.，）)"),
    *(f"{left}{number}{right}" for number in "12" for left, right in ("（）", "()")),
    *("一、", "二、", "十、", "（一）", "（二）", "１．", "２．", *"①②③⒈⒉"),
    *("1：2", "3.5克", "B12", "多喝水", "多休息", "注意", "12", "0", *"。；，："),
]
_texts = st.lists(st.sampled_from([*_PIECES, "\n", " "]), max_size=24).map("".join)


@given(_texts | st.text(max_size=60))
def test_harmonise_is_idempotent_and_keeps_what_is_said(text: str) -> None:
    once = harmonise(text)
    assert harmonise(once) == once

    def said(of: str) -> Counter[str]:
        return Counter(re.sub(r"[\s0-9０-９①-⒛一二三四五六七八九十、.．，,:：()（）]", "", of))

    assert said(once) == said(text)
    if not runs(text):
        assert once == text
