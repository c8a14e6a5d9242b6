import pytest
from hypothesis import given
from hypothesis import strategies as st

from medchatzh.curate.repair import REPAIRS, repair
from medchatzh.records import Dialogue, Turn


def dialogue(question: str, answer: str) -> Dialogue:
    return Dialogue(id="t:1", source="t", turns=(Turn("user", question), Turn("assistant", answer)))


@pytest.mark.parametrize(
    ("name", "answer", "expected"),
    [
        ("control_characters", "多\u200b喝\x07水。\r\n休息。", "多喝水。\n休息。"),
        ("html_entities", "体温&gt;38.5℃时就诊&nbsp;。<br/>多喝水", "体温>38.5℃时就诊\xa0。\n多喝水"),
        ("full_width", "维生素Ｂ１２，每日３次", "维生素B12，每日3次"),
        ("half_width_commas", "清淡饮食,注意休息, 多喝水,10毫克", "清淡饮食，注意休息，多喝水,10毫克"),
        ("white_space", "  多喝水。 \n\n\n\n休息。\u3000", "多喝水。\n\n休息。"),
        ("leading_punctuation", "，与走路姿势没有关系。", "与走路姿势没有关系。"),
        ("list_numbers", "1、保暖。2、休息。", "1.保暖。2.休息。"),
    ],
)
def test_each_repair_changes_the_text_and_is_named(name: str, answer: str, expected: str) -> None:
    repaired = repair(dialogue("怎么办？", answer), (name,))
    assert repaired.answers == (expected,)
    assert repaired.edits == (name,)


@pytest.mark.parametrize(
    "answer",
    [
        "血压140/90，维生素B1、B12，1:2，3.5克。第一，忌口；第二，休息。",
        "```html\n<br>&nbsp;\n```",
        "用 <div>&lt;</div> 表示。",
        "def f():\n    return 1,2",
        "👨\u200d👩\u200d👧 一家三口",
    ],
)
def test_clean_text_mark_up_and_code_stay(answer: str) -> None:
    given_ = dialogue("怎么办？", answer)
    assert repair(given_, tuple(REPAIRS)) is given_


def test_a_question_keeps_its_list() -> None:
    assert repair(dialogue("1、头痛；2、发烧。怎么办？", "就诊。"), ("list_numbers",)).edits == ()


@given(st.text(alphabet=st.sampled_from("多喝水 ,，。１2３Ａb&ampltgquot;#39<br>/\n\t\u3000\xa0\u200b\x00、（）(1)2.①②一二"), max_size=60))
def test_repairs_together_are_idempotent(text: str) -> None:
    once = repair(dialogue(text, text), tuple(REPAIRS))
    twice = repair(once, tuple(REPAIRS))
    assert twice.turns == once.turns
