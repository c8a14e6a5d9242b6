"""The engine over a checkpoint folder: answers, streams, what does not fit."""

from contextlib import closing

import pytest
import torch

from medchatzh import models, prompt
from medchatzh.models.batching import Request
from medchatzh.models.detokenize import TextStream
from medchatzh.models.engine import TOO_LONG, Decoding, Engine
from medchatzh.records import Turn

GREEDY = Decoding(max_new_tokens=30, min_new_tokens=5)
SAMPLED = Decoding(max_new_tokens=30, min_new_tokens=5, do_sample=True, temperature=1.3, top_p=0.95, top_k=0)
QUESTIONS = ["高血压怎么办？", "小儿发热", "脾胃虚弱者宜健脾益气吗？", "问", "失眠多梦怎么办？" * 4, "咳嗽"]


@pytest.fixture(scope="module")
def engine(checkpoint):
    return Engine(checkpoint, threads=1, num_slots=4)


def ids_of(engine, question):
    return prompt.encode([Turn("user", question)], engine.tokenizer, engine.template).input_ids


def test_answers_are_those_of_transformers(engine, checkpoint):
    model = models.load_causal(checkpoint).eval()
    expected = []
    for question in QUESTIONS:
        ids = torch.tensor([ids_of(engine, question)])
        options = {"max_new_tokens": 30, "min_new_tokens": 5, "repetition_penalty": 1.2, "do_sample": False}
        with torch.inference_mode():
            output = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), eos_token_id=2, pad_token_id=0, **options)
        new = output[0, ids.shape[1] :]
        expected.append((engine.tokenizer.decode(new, skip_special_tokens=True).strip(), "stop" if 2 in new else "length"))
    assert engine.answer(QUESTIONS, GREEDY, 200) == expected


def test_an_answer_depends_on_question_and_seed_alone(engine):
    together = engine.answer(QUESTIONS, SAMPLED, 200, seed=7)
    assert [engine.answer([question], SAMPLED, 200, seed=7)[0] for question in QUESTIONS] == together
    assert engine.answer(QUESTIONS[::-1], SAMPLED, 200, seed=7) == together[::-1]
    assert engine.answer(QUESTIONS, SAMPLED, 200, seed=8) != together
    twice = engine.answer(["问", "咳嗽"], SAMPLED, 200, seed=7)
    assert twice == [together[3], together[5]]


def test_questions_have_luck_of_their_own(engine):
    even = Decoding(max_new_tokens=10, min_new_tokens=10, do_sample=True, temperature=1e6, top_p=1.0, top_k=0, repetition_penalty=1.0)
    answers = engine.answer(QUESTIONS, even, 200)  # all tokens are as good: equal draws would give equal answers
    assert len(set(answers)) == len(QUESTIONS)


def test_what_is_too_long_has_no_answer_and_the_rest_has(engine):
    questions = ["问", "问" * 300, "咳嗽"]
    answers = engine.answer(questions, GREEDY, 200)
    assert answers[1] == ("", TOO_LONG)
    assert [answers[0], answers[2]] == engine.answer(["问", "咳嗽"], GREEDY, 200)
    limit = len(ids_of(engine, "咳嗽"))
    assert [finish == TOO_LONG for _, finish in engine.answer(["咳嗽", "咳嗽吗"], GREEDY, limit)] == [False, True]
    assert engine.answer([], GREEDY, 200) == []


def test_an_answer_comes_as_soon_as_it_is_done(engine):
    found = engine.answers(["问" * 300, *QUESTIONS], GREEDY, 200)
    assert next(found) == (0, ("", TOO_LONG))
    assert {number for number, _ in found} == set(range(1, 7))


def test_the_context_bounds_prompt_and_answer(engine):
    assert engine.max_positions == 256
    decoding = Decoding(max_new_tokens=256)
    with pytest.raises(ValueError, match="max_new_tokens = 256 leaves no room for a question in 256 positions"):
        engine.answer(["问"], decoding, 100)
    turns = [Turn("user", "问" * 40), Turn("assistant", "答" * 40), Turn("user", "咳嗽")]
    ids, num_left_out = engine.prompt(turns, Decoding(max_new_tokens=200))
    assert num_left_out == 1 and ids == ids_of(engine, "咳嗽")
    with pytest.raises(ValueError, match="the question is longer than the 56 tokens"):
        engine.prompt([Turn("user", "问" * 100)], Decoding(max_new_tokens=200))


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_a_stream_is_the_answer_in_pieces(engine, decoding):
    for question in QUESTIONS:
        pieces = list(engine.stream(ids_of(engine, question), decoding, seed=3))
        ((_, generation),) = engine.batcher.decode([Request(input_ids=ids_of(engine, question), decoding=decoding, seed=3)])
        assert len(pieces) > 1 and all(pieces)
        expected = TextStream(engine.tokenizer)
        for token in generation.ids[: -1 if generation.finish == "stop" else None]:
            expected.push(token)
        expected.finish()
        assert "".join(pieces) == expected.text
        if "\ufffd" not in generation.text:  # random weights write bytes that make no character
            assert expected.text == generation.text


def test_a_closed_stream_stops_decoding(engine):
    with closing(engine.stream(ids_of(engine, "问"), Decoding(max_new_tokens=200, min_new_tokens=200))) as pieces:
        next(pieces)
    assert engine.batcher.step() == []


def test_a_stream_runs_beside_answers(engine):
    alone = engine.answer(QUESTIONS, SAMPLED, 200)
    streamed = "".join(engine.stream(ids_of(engine, "问"), SAMPLED))
    pieces = engine.stream(ids_of(engine, "问"), SAMPLED)
    first = next(pieces)
    assert engine.answer(QUESTIONS, SAMPLED, 200) == alone
    assert first + "".join(pieces) == streamed


def test_bf16_weights_answer_as_well_and_alone_as_together(checkpoint):
    engine = Engine(checkpoint, threads=1, num_slots=4, precision="bf16")
    answers = engine.answer(QUESTIONS, SAMPLED, 200)
    assert len(set(answers)) == len(QUESTIONS)
    assert [engine.answer([question], SAMPLED, 200)[0] for question in QUESTIONS] == answers
