"""Boilerplate: what recurs under different questions and says nothing is found, and only that is trimmed."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medchatzh.curate.boilerplate import SUBSTANCE, clauses, find, is_sampled, survey, trim
from medchatzh.records import Dialogue, Turn, normalize

CLOSING = "期待上述解答能够帮到大家"
ADVICE = "建议及时就医"


def pair(question: str, answer: str) -> Dialogue:
    return Dialogue(id="t:1", turns=(Turn("user", question), Turn("assistant", answer)))


def corpus(num: int) -> list[Dialogue]:
    return [pair(f"第{number}个问题怎么办？", f"多走动{number}次就好，{ADVICE}。{CLOSING}！") for number in range(num)]


def test_clauses_that_recur_and_advise_nothing_are_found() -> None:
    table = survey(corpus(40))
    assert (table[""], table[CLOSING], table[ADVICE]) == (40, 40, 40)
    assert find(table, table[""]) == {CLOSING}  # 建议及时就医 is advice, however often it is said


def test_one_question_counts_once() -> None:
    table = survey([pair("同一个问题？", f"{CLOSING}。{CLOSING}。")] * 50)
    assert table[CLOSING] == 1 and find(table, table[""]) == frozenset()


def test_what_is_rare_or_short_is_none() -> None:
    assert find(survey(corpus(9)), 9) == frozenset()
    assert find(Counter({CLOSING: 10, "": 20_000}), 20_000) == frozenset()
    assert find(survey(pair(f"第{number}问", "可以的。") for number in range(50)), 50) == frozenset()


def test_surveys_of_shards_add_up_and_samples_agree() -> None:
    records = corpus(400)
    whole = survey(records, 0.5)
    assert survey(records[:150], 0.5) + survey(records[150:], 0.5) == whole
    assert 150 < whole[""] == sum(is_sampled(record, 0.5) for record in records) < 250


@pytest.mark.parametrize(
    ("text", "trimmed"),
    [
        (f"您好，多走动就好。{CLOSING}！", "多走动就好。"),
        ("您好！多走动就好，祝您早日康复。", "多走动就好。"),  # no open end
        ("您好，写法如下：\n```\nx = 1\n```", "写法如下：\n```\nx = 1\n```"),
        ("多走动就好。以上可以做为参考。希望对你有所帮助，谢谢！", "多走动就好。"),
        (f"您好，{CLOSING}，祝您健康！", f"您好，{CLOSING}，祝您健康！"),  # nothing else: left for the rule to judge
        ("多走动就好。", "多走动就好。"),
        ("您好医生说得对，多走动。", "您好医生说得对，多走动。"),
        (f"多走动就好，{ADVICE}。", f"多走动就好，{ADVICE}。"),
    ],
)
def test_trimming_takes_courtesy_from_both_ends(text: str, trimmed: str) -> None:
    assert trim(text, {CLOSING}) == trimmed


@given(
    st.lists(
        st.sampled_from(["您好", "，", "。", CLOSING, "多走动", "祝您健康", "1.休息", "\n", " ", "谢谢", "…", "不客气"]), max_size=12
    ).map("".join)
)
def test_trimming_is_idempotent_and_only_takes_from_the_ends(text: str) -> None:
    made = trim(text, {CLOSING})
    assert trim(made, {CLOSING}) == made
    assert made in text or (made[-1] == "。" and made[:-1] in text)


def test_on_real_data_nothing_medical_is_boilerplate(real_dialogues: list[Dialogue]) -> None:
    table = survey(real_dialogues)
    found = find(table, table[""])
    assert 25 <= len(found) <= 60  # all were read: wishes, references to the answer itself, openings
    assert not any(set(clause) & set(SUBSTANCE) for clause in found)
    edited = [answer for dialogue in real_dialogues for answer in dialogue.answers if trim(answer, found) != answer]
    assert 1_000 < len(edited) < 12_000
    for answer in edited:
        kept = trim(answer, found)
        taken = Counter(map(normalize, clauses(answer))) - Counter(map(normalize, clauses(kept)))
        assert not any(set(clause) & set(SUBSTANCE) for clause in taken), answer


def test_an_empty_corpus_has_none() -> None:
    assert survey([]) == Counter() and find({}, 0) == frozenset()
