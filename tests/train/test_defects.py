"""Planted defects: each kind is what it says, depends on the seed alone, and is never what it was made from."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medchatzh.records import Dialogue, Turn, normalize
from medchatzh.train.defects import (
    KINDS,
    LENGTHS,
    SOURCE,
    TAUGHT,
    Answered,
    cut,
    empty,
    plant,
    repeated,
    sentences,
    shortened,
    shuffled,
)

TOPICS = ["高血压", "糖尿病", "感冒", "胃炎", "失眠", "湿疹", "痛风", "贫血", "鼻炎", "哮喘"]


def dialogue(number, topic, parts):
    said = "".join(f"{topic}患者第{part}点要注意{'适当' * (part % 3 + 1)}休息和饮食。" for part in range(parts))
    return Dialogue(id=f"d:{number}", turns=(Turn("user", f"{topic}应该怎么办，第{number}次问？"), Turn("assistant", said)))


DIALOGUES = [dialogue(number, TOPICS[number % 10], 3 + number % 9) for number in range(60)]


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_the_same_by_seed_and_never_the_answer_nor_empty(kind):
    planted = list(plant(DIALOGUES, 40, 7, (kind,)))
    assert planted == list(plant(DIALOGUES, 40, 7, (kind,))) != list(plant(DIALOGUES, 40, 8, (kind,)))
    assert len(planted) == 40
    for ranking in planted:
        answer, damaged = ranking.answers
        assert ranking.ranks == (1, 2) and ranking.source == SOURCE
        assert normalize(damaged) and normalize(damaged) != normalize(answer)


def test_a_kind_does_not_depend_on_those_beside_it_in_the_draw():
    once, again = list(plant(DIALOGUES, 20, 7, TAUGHT)), list(plant(list(reversed(DIALOGUES)), 20, 7, TAUGHT))
    assert {each.id: each.answers for each in once} == {each.id: each.answers for each in again}  # nor on the order of the dialogues
    assert all(len(each.answers) == 1 + len(TAUGHT) and each.ranks == (1, *[2] * len(TAUGHT)) for each in once)


def test_an_off_topic_answer_is_anothers_of_about_the_same_length():
    answers = {each.answers[0]: each.question for each in DIALOGUES}
    for ranking in plant(DIALOGUES, 40, 3, ("off_topic",)):
        answer, other = ranking.answers
        assert answers[other] != ranking.prompt[0].content and abs(len(other) - len(answer)) < 70
    assert not list(plant(DIALOGUES[:1], 5, 3, ("off_topic",)))  # nobody else's answer is there: no ranking without a pair


def test_a_conversation_is_one_answer_as_rankings_read_it():
    turns = (Turn("user", "头痛怎么办"), Turn("assistant", "多休息。" * 10), Turn("user", "还有呢"), Turn("assistant", "多喝水。" * 10))
    short = Dialogue(id="short", turns=(Turn("user", "问"), Turn("assistant", "短" * (LENGTHS[0] - 1))))
    long = Dialogue(id="long", turns=(Turn("user", "问"), Turn("assistant", "长" * (LENGTHS[1] + 1))))
    (pair,) = Answered([Dialogue(id="two", turns=turns), short, long]).pairs
    assert pair[1] == "多休息。" * 10 + "\n\n" + "多喝水。" * 10
    shorter = list(plant([*DIALOGUES, short, long], 100, 7, ("cut",), (40, LENGTHS[0])))
    assert shorter and all(40 <= len(each.answers[0]) <= LENGTHS[0] for each in shorter)


TEXT = st.text("高血压患者应低盐饮食规律服药。；！？\n，1234", min_size=20, max_size=200).filter(lambda text: len(normalize(text)) > 10)


@settings(max_examples=60)
@given(text=TEXT, seed=st.integers(0, 1000))
def test_damage_is_what_its_name_says(text, seed):
    def random():
        return np.random.default_rng(seed)

    pieces = sentences(text)
    assert "".join(pieces) == text
    assert text.startswith(cut(text, random())) and 0 < len(cut(text, random())) < len(text)
    if len(pieces) > 1:
        fewer = shortened(text, random())
        assert any(fewer == "".join(pieces[:number]).rstrip() for number in range(1, len(pieces)))
    else:
        assert not shortened(text, random())
    again = repeated(text, random())
    assert any(again.endswith("".join(pieces[a:b]) * 2) for a in range(len(pieces)) for b in range(a + 1, len(pieces) + 1))
    assert sorted(shuffled(text, random())) == sorted(text)
    assert len(set(sentences(empty(text, random())))) == len(sentences(empty(text, random())))


def test_long_answers_are_drawn_more_often():
    lengths = [len(each.answers[0]) for each in plant(DIALOGUES, 15, 5, ("cut",))]
    assert np.mean(lengths) > np.mean([len(each.answers[0]) for each in DIALOGUES])


def test_an_epoch_draws_and_damages_anew():
    first, again = ({each.id: each.answers for each in plant(DIALOGUES, 30, 5, ("cut",), epoch=epoch)} for epoch in (0, 1))
    both = set(first) & set(again)
    assert 0 < len(both) < 30 and any(first[name] != again[name] for name in both)


def test_a_kind_named_twice_makes_two_forms():
    for ranking in plant(DIALOGUES, 20, 5, ("off_topic", "off_topic", "cut")):
        answer, *damaged = ranking.answers
        assert len(set(damaged)) == len(damaged) <= 3 and ranking.ranks == (1, *[2] * len(damaged)) and answer.startswith(damaged[-1])
