import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medchatzh.curate.repair import CLASSES, PLACES, REPAIRS, SIGNS, may_change, placed, repair, traditional
from medchatzh.records import Dialogue, Turn


def dialogue(question: str, answer: str) -> Dialogue:
    return Dialogue(id="t:1", source="t", turns=(Turn("user", question), Turn("assistant", answer)))


def misread(text: str, encoding: str) -> str:
    return text.encode("utf-8").decode(encoding)


@pytest.mark.parametrize(
    ("name", "answer", "expected"),
    [
        ("encoding", misread("多喝水，注意休息", "gb18030"), "多喝水，注意休息"),
        ("encoding", misread("多喝水。", "latin-1"), "多喝水。"),
        ("encoding", misread("多喝水。", "latin-1").replace("\x9d", "\x9d").translate({0x80: 0x20AC, 0x82: 0x201A}), "多喝水。"),
        ("encoding", f"第一段。\n{misread('按时服药', 'gb18030')}", "第一段。\n按时服药"),
        ("control_characters", "多\u200b喝\x07水。\r\n休息。", "多喝水。\n休息。"),
        ("html_entities", "体温&gt;38.5℃时就诊&nbsp;。<br/>多喝水", "体温>38.5℃时就诊\xa0。\n多喝水"),
        ("html_entities", "收缩压&amp;amp;lt;90", "收缩压<90"),
        ("full_width", "维生素Ｂ１２，每日３次，占５０％", "维生素B12，每日3次，占50%"),
        ("ratio_colons", "按1∶10稀释", "按1：10稀释"),
        ("half_width_marks", "清淡饮食,注意休息, 多喝水,10毫克", "清淡饮食，注意休息，多喝水,10毫克"),
        ("half_width_marks", "怎么办?多休息!注意:保暖;忌口", "怎么办？多休息！注意：保暖；忌口"),
        ("half_width_marks", "脂肪(特别是肥肉)要少,盐(NaCl)也要少", "脂肪（特别是肥肉）要少，盐(NaCl)也要少"),
        ("traditional", "這個藥每天飯後服用，請遵醫囑。", "这个药每天饭后服用，请遵医嘱。"),
        ("white_space", "  多喝水。 \n\n\n\n休息。\u3000", "多喝水。\n\n休息。"),
        ("leading_punctuation", "，与走路姿势没有关系。", "与走路姿势没有关系。"),
        ("list_numbers", "1、保暖。2、休息。", "1.保暖。2.休息。"),
    ],
)
def test_each_repair_changes_the_text_and_is_named(name: str, answer: str, expected: str) -> None:
    repaired = repair(dialogue("怎么办？", answer), (name,))
    assert repaired.answers == (expected,)
    assert repaired.edits == (name,)
    assert may_change(name, answer)


@pytest.mark.parametrize(
    "answer",
    [
        "血压140/90，维生素B1、B12，1:2，3.5克。第一，忌口；第二，休息。",
        "```html\n<br>&nbsp;\n```",
        "```python\nprint('多喝水,多休息')\n```",
        "用 <div>&lt;</div> 表示。",
        "def f():\n    return 1,2",
        "👨\u200d👩\u200d👧 一家三口",
        "Café déjà vu，naïve。",
        "他联通了电话，娩出顺利，妊娠足月。",
        "磺胺甲噁唑每日两次；左氧氟沙星与喹噁啉不同。",
        "《黃帝內經》說：「恬惔虛無，真氣從之。」意思是：内心安静，没有杂念，正气就会随之调和，精神守持于内，疾病又从哪里来呢？所以古人重视养神。",
        "縁起思想とは、人が行う行いが、その結果を生むという考え方です。關係",
        "患者姓乾，住於後街。",
    ],
)
def test_clean_text_names_quotations_mark_up_and_code_stay(answer: str) -> None:
    given_ = dialogue("怎么办？", answer)
    assert repair(given_, tuple(REPAIRS)) is given_


def test_what_was_lost_is_not_guessed() -> None:
    """One byte replaced, and no byte of the line can be trusted."""
    whole = misread("多喝水，注意休息", "gb18030")
    for text in (whole[:4] + "?" + whole[5:], whole[:-1] + "�", "ä½\xa0å¥½é\x80", "锟斤拷锟斤拷"):
        assert REPAIRS["encoding"](text) == text


def test_drug_names_and_tcm_terms_keep_their_characters() -> None:
    assert traditional("這個藥是磺胺甲噁唑，請問對癥瘕與癥狀有沒有幫助？") == "这个药是磺胺甲噁唑，请问对癥瘕与症状有没有帮助？"
    assert traditional("請問白朮、乾薑、枸杞與黃耆這些藥材該怎麼煎？") == "请问白术、干姜、枸杞与黄耆这些药材该怎么煎？"


def test_a_question_keeps_its_list() -> None:
    assert repair(dialogue("1、头痛；2、发烧。怎么办？", "就诊。"), ("list_numbers",)).edits == ()


def test_edits_stand_in_the_order_of_the_repairs() -> None:
    made = repair(dialogue("怎么办？", "，注意：１、保暖,忌口；２、休息。 "), tuple(reversed(REPAIRS)))
    assert made.answers == ("注意：1.保暖，忌口；2.休息。",)
    assert made.edits == ("full_width", "half_width_marks", "white_space", "leading_punctuation", "list_numbers")


def test_what_a_repair_uncovers_is_repaired_too() -> None:
    assert repair(dialogue("问", "多喝水&#44;多休息。&ensp;1、甲乙&#65307;2、丙丁"), tuple(REPAIRS)).answers == (
        "多喝水，多休息。\u20021.甲乙；2.丙丁",
    )
    assert repair(dialogue("问", "多喝水&lt;br&gt;，\u200b&amp;l\u200bt;"), tuple(REPAIRS)).answers == ("多喝水\n，<",)


_ALPHABET = "多喝水 ,，。１2３Ａb&ampltgquot;#39<br>/\n\t\u3000\xa0\u200b\x00、（）(1)2.①②一二：:?!∶這個醫為噁Ãä½å¥浣犲ソ\r\u2003％"
_texts = st.text(alphabet=st.sampled_from(_ALPHABET), max_size=60) | st.text(max_size=40)


_list_pieces = [
    *(number + mark for number in "123" for mark in "、.．，）:"),
    *("(1)", "（2）", "①", "②", "１", "２", "一、", "二、", "3不"),
]
_list_texts = st.lists(st.sampled_from([*_list_pieces, *(["多喝水", "\n", "。", "；"] * 4)]), max_size=24).map("".join)


@given(_list_texts)
def test_a_list_that_changes_has_markers_of_all_three_groups(text: str) -> None:
    assert may_change("list_numbers", text) or REPAIRS["list_numbers"](text) == text


@given(_texts)
def test_repairs_are_idempotent_and_stand_where_their_signs_are(text: str) -> None:
    for name, edit in REPAIRS.items():
        once = edit(text)
        assert edit(once) == once, name
        if once != text:
            assert may_change(name, text), name


@given(_texts)
def test_repairs_together_are_idempotent(text: str) -> None:
    given_ = dialogue(text, text)
    once = repair(given_, tuple(REPAIRS))
    assert repair(once, tuple(REPAIRS)).turns == once.turns
    if not any(may_change(name, text) for name in REPAIRS):
        assert once is given_


@given(st.lists(_texts, max_size=5))
def test_places_are_found_alike_in_one_text_and_in_many(texts: list[str]) -> None:
    codes = np.array([ord(character) for character in "".join(texts)], np.uint32)
    starts = np.cumsum([0, *map(len, texts)])
    found = placed(codes, starts)
    alone = [placed(codes[begin:end], np.array([0, end - begin])) for begin, end in pairwise(starts)]
    # A mark at the end of one text may look as if it stood between hanzi: looked at in vain, never missed.
    assert all(many or not one[0] for many, one in zip(found.tolist(), alone, strict=True))


def test_every_repair_has_signs_and_every_class_is_used() -> None:
    assert set(SIGNS) | set(PLACES) == set(REPAIRS)
    named = {sign for groups in SIGNS.values() for group in groups for sign in group} | {name for _, name in PLACES.values()}
    assert set(CLASSES) <= named


@pytest.mark.parametrize(
    "piece", ["&amp;", "&", "<p ", "< ", " ", "&#38;#38;", "甲(", "甲,", "ä½\xa0", "浣犲ソ", "這", "\n\n", "，", "1、甲乙"]
)
def test_time_grows_with_the_text_only(piece: str) -> None:
    text = piece * (200_000 // len(piece)) + "x"
    start = time.process_time()
    repair(dialogue(text, text), tuple(REPAIRS))
    assert time.process_time() - start < 30  # under 2 s; squared time would be many minutes
