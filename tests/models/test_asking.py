"""A baseline's checkpoint, asked: the answers of its own code, from our decoding."""

import json
from pathlib import Path

import msgspec
import pytest

from medchatzh import models
from medchatzh.models.published import adapters, baselines
from medchatzh.models.published.asking import Asker
from medchatzh.models.published.baselines import baseline
from medchatzh.records import Turn
from tests.models import published

CASES = json.loads((Path(__file__).parents[1] / "golden" / "baselines.json").read_text("utf-8"))


def dialogues_of(name, variant):
    """The recorded dialogues of a baseline, and its own code's answers."""
    cases = [case for case in CASES if (case["baseline"], case["variant"]) == (name, variant)]
    turns = [[Turn("assistant" if number % 2 else "user", text) for number, text in enumerate(case["turns"])] for case in cases]
    return turns, [case["answer"] or "" for case in cases]


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return published.llama(tmp_path_factory.mktemp("asking") / "llama")


def asker(name, variant, checkpoint, **changes):
    chosen = baseline(name, variant)
    return Asker(msgspec.structs.replace(chosen, **changes), checkpoint, threads=1, num_slots=3)


@pytest.mark.parametrize("name, variant", [("medchatzh", "official"), ("bentsao", "paper")])
def test_answers_in_slots_are_those_of_its_own_code(llama, name, variant):
    dialogues, expected = dialogues_of(name, variant)
    answers = dict(asker(name, variant, llama).answers(dialogues))
    assert [answers[number][0] for number in range(len(dialogues))] == expected
    assert {finish for _, finish in answers.values()} <= {"stop", "length"}


@pytest.mark.parametrize("name, variant", [("medchatzh", "official"), ("bentsao", "paper")])
def test_our_own_checkpoints_answer_too(checkpoint, name, variant):
    """Their tokenizer keeps a newline whole, and transformers lists it among the special tokens: it must not vanish from the marker."""
    tokenizer, _ = models.load_tokenizer(checkpoint)
    assert tokenizer.convert_tokens_to_ids("\n") in tokenizer.all_special_ids
    new_ids = tokenizer("1. 休息；\n2. 多饮水。", add_special_tokens=False)["input_ids"]
    turns = [Turn("user", "头痛怎么办？")]
    assert baselines.answer(baseline(name, variant), turns, [*new_ids, tokenizer.eos_token_id], tokenizer) == "1. 休息；\n2. 多饮水。"


def test_answers_of_beams_are_those_of_its_own_code(llama, tmp_path):
    adapters.merge(llama, published.lora(tmp_path / "lora"), tmp_path / "bentsao")
    dialogues, expected = dialogues_of("bentsao", "official")
    answers = dict(asker("bentsao", "official", tmp_path / "bentsao").answers(dialogues[1:3]))
    assert [answers[number][0] for number in range(2)] == expected[1:3]
    assert [answers[number][1] for number in range(2)] == ["length", "stop"]


def test_a_sampled_answer_depends_on_seed_and_question_alone(llama):
    dialogues = [[Turn("user", f"第{number}问")] for number in range(4)]
    decoding = msgspec.structs.replace(baseline("huatuogpt").decoding, max_new_tokens=24)
    huatuogpt = asker("huatuogpt", "official", llama, decoding=decoding)
    answers = dict(huatuogpt.answers(dialogues, seed=1))
    assert dict(huatuogpt.answers(dialogues[2:3], seed=1))[0] == answers[2]
    assert dict(huatuogpt.answers(dialogues[2:3], seed=2))[0] != answers[2]


def test_a_question_without_room_is_told(llama):
    assert dict(asker("bentsao", "official", llama).answers([[Turn("user", "头疼" * 2000)]])) == {0: ("", "prompt_too_long")}


def test_a_model_that_only_an_endpoint_has_is_refused(llama):
    with pytest.raises(ValueError, match="reach it over an endpoint"):
        asker("chatglm-med", "official", llama)
