"""The engine over a checkpoint folder: answers, streams, what does not fit."""

from contextlib import closing

import pytest
import torch

from medchatzh import models, prompt
from medchatzh.models.decoding.batching import Request
from medchatzh.models.decoding.detokenize import TextStream
from medchatzh.models.decoding.engine import TOO_LONG, Decoding, Engine
from medchatzh.records import Turn

GREEDY = Decoding(max_new_tokens=30, min_new_tokens=5)
SAMPLED = Decoding(max_new_tokens=30, min_new_tokens=5, do_sample=True, temperature=1.3, top_p=0.95, top_k=0)
HISTORY = [Turn("user", "小儿发热"), Turn("assistant", "多饮水。")]


def asked(*questions):
    return [[Turn("user", question)] for question in questions]


DIALOGUES = [
    *asked("高血压怎么办？", "小儿发热", "脾胃虚弱者宜健脾益气吗？", "问", "失眠多梦怎么办？" * 4),
    [*HISTORY, Turn("user", "咳嗽")],
    [Turn("system", "医生"), Turn("user", "咳嗽")],
    *asked("咳嗽"),
]


@pytest.fixture(scope="module")
def engine(checkpoint):
    return Engine(checkpoint, threads=1, num_slots=4)


def ids_of(engine, turns):
    return prompt.encode(turns, engine.tokenizer, engine.template).input_ids


def test_answers_are_those_of_transformers(engine, checkpoint):
    model = models.load_causal(checkpoint).eval()
    expected = []
    for turns in DIALOGUES:
        ids = torch.tensor([ids_of(engine, turns)])
        options = {"max_new_tokens": 30, "min_new_tokens": 5, "repetition_penalty": 1.2, "do_sample": False}
        with torch.inference_mode():
            output = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), eos_token_id=2, pad_token_id=0, **options)
        new = output[0, ids.shape[1] :]
        expected.append((engine.tokenizer.decode(new, skip_special_tokens=True).strip(), "stop" if 2 in new else "length"))
    assert engine.answer(DIALOGUES, GREEDY, 200) == expected


def test_an_answer_depends_on_its_turns_and_seed_alone(engine):
    together = engine.answer(DIALOGUES, SAMPLED, 200, seed=7)
    assert [engine.answer([turns], SAMPLED, 200, seed=7)[0] for turns in DIALOGUES] == together
    assert engine.answer(DIALOGUES[::-1], SAMPLED, 200, seed=7) == together[::-1]
    assert engine.answer(DIALOGUES, SAMPLED, 200, seed=8) != together
    assert engine.answer(asked("问", "咳嗽"), SAMPLED, 200, seed=7) == [together[3], together[7]]


def test_questions_have_luck_of_their_own(engine):
    even = Decoding(max_new_tokens=10, min_new_tokens=10, do_sample=True, temperature=1e6, top_p=1.0, top_k=0, repetition_penalty=1.0)
    answers = engine.answer(DIALOGUES, even, 200)  # all tokens are as good: equal draws would give equal answers
    assert len(set(answers)) == len(DIALOGUES)


def test_what_is_too_long_has_no_answer_and_the_rest_has(engine):
    answers = engine.answer(asked("问", "问" * 300, "咳嗽"), GREEDY, 200)
    assert answers[1] == ("", TOO_LONG)
    assert [answers[0], answers[2]] == engine.answer(asked("问", "咳嗽"), GREEDY, 200)
    (cough,) = asked("咳嗽")
    found = engine.answer([cough, *asked("咳嗽吗"), [*HISTORY, *cough]], GREEDY, len(ids_of(engine, cough)))
    assert [finish == TOO_LONG for _, finish in found] == [False, True, True]
    assert engine.answer([], GREEDY, 200) == []


def test_an_open_dialogue_is_wanted(engine):
    answers = engine.answers([*asked("问"), HISTORY], GREEDY, 200)
    with pytest.raises(ValueError, match="the last turn must be the user's question"):
        next(answers)
    assert engine.batcher.step() == []


def test_an_answer_may_be_one_token(engine):
    one = Decoding(max_new_tokens=1, min_new_tokens=1)
    for turns, (text, finish) in zip(DIALOGUES, engine.answer(DIALOGUES, one, 255), strict=True):
        ((_, generation),) = engine.batcher.decode([Request(input_ids=ids_of(engine, turns), decoding=GREEDY)])
        assert (text, finish) == (engine.tokenizer.decode(generation.ids[:1], skip_special_tokens=True).strip(), "length")


def test_an_answer_comes_as_soon_as_it_is_done(engine):
    found = engine.answers([*asked("问" * 300), *DIALOGUES], GREEDY, 200)
    assert next(found) == (0, ("", TOO_LONG))
    assert sorted(number for number, _ in found) == list(range(1, len(DIALOGUES) + 1))


def test_the_context_bounds_prompt_and_answer(engine):
    assert engine.max_positions == 256
    decoding = Decoding(max_new_tokens=256)
    with pytest.raises(ValueError, match="max_new_tokens = 256 leaves no room for a question in 256 positions"):
        engine.answer(asked("问"), decoding, 100)
    turns = [Turn("user", "问" * 40), Turn("assistant", "答" * 40), Turn("user", "咳嗽")]
    ids, num_left_out = engine.prompt(turns, Decoding(max_new_tokens=200))
    assert num_left_out == 1 and ids == ids_of(engine, turns[-1:])
    with pytest.raises(ValueError, match="the question is longer than the 56 tokens"):
        engine.prompt(asked("问" * 100)[0], Decoding(max_new_tokens=200))


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_a_stream_is_the_answer_in_pieces(engine, decoding):
    most = 0
    for turns in DIALOGUES:
        pieces = list(engine.stream(ids_of(engine, turns), decoding, seed=3))
        ((_, generation),) = engine.batcher.decode([Request(input_ids=ids_of(engine, turns), decoding=decoding, seed=3)])
        expected = TextStream(engine.tokenizer)
        for token in generation.ids[: -1 if generation.finish == "stop" else None]:
            expected.push(token)
        expected.finish()
        assert "".join(pieces) == expected.text and all(pieces)
        most = max(most, len(pieces))
        if "\ufffd" not in generation.text:  # random weights write bytes that make no character
            assert expected.text == generation.text
    assert most > 1  # not of each: what random weights say may be no text at all


def test_a_closed_stream_stops_decoding(engine):
    with closing(engine.stream(ids_of(engine, asked("问")[0]), Decoding(max_new_tokens=200, min_new_tokens=200))) as pieces:
        next(pieces)
    assert engine.batcher.step() == []


def test_a_stream_runs_beside_answers(engine):
    alone = engine.answer(DIALOGUES, SAMPLED, 200)
    streamed = "".join(engine.stream(ids_of(engine, asked("问")[0]), SAMPLED))
    pieces = engine.stream(ids_of(engine, asked("问")[0]), SAMPLED)
    first = next(pieces)
    assert engine.answer(DIALOGUES, SAMPLED, 200) == alone
    assert first + "".join(pieces) == streamed


def test_answers_that_end_while_a_stream_is_read_come(engine):
    alone = engine.answer(DIALOGUES, SAMPLED, 200)
    found = engine.answers(DIALOGUES, SAMPLED, 200)
    answers = dict([next(found)])
    for _ in engine.stream(ids_of(engine, DIALOGUES[0]), Decoding(max_new_tokens=200, min_new_tokens=200)):
        pass
    answers |= dict(found)
    assert [answers[number] for number in range(len(DIALOGUES))] == alone


def resized(checkpoint, folder, num_embeddings):
    """The checkpoint with more or fewer embeddings than its tokenizer has pieces; the first ones stay."""
    tokenizer, template = models.load_tokenizer(checkpoint)
    model = models.load_causal(checkpoint)
    model.resize_token_embeddings(num_embeddings, mean_resizing=False)
    models.save(model, tokenizer, template, folder)
    return folder


def test_a_tokenizer_with_more_pieces_than_embeddings_is_refused(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="the tokenizer has 400 pieces but the model 300 embeddings"):
        Engine(resized(checkpoint, tmp_path, 300), threads=1)


def test_embeddings_beyond_the_tokenizer_are_no_text(checkpoint, tmp_path):
    padded = Engine(resized(checkpoint, tmp_path, 448), threads=1, num_slots=4)  # as Qwen's are, to a multiple of 64
    even = Decoding(max_new_tokens=60, min_new_tokens=60, do_sample=True, temperature=1e6, top_p=1.0, top_k=0)
    for turns in DIALOGUES[:3]:
        request = Request(input_ids=ids_of(padded, turns), decoding=even)
        ((_, generation),) = padded.batcher.decode([request])
        assert max(generation.ids) >= 400
        known = [token for token in generation.ids if token < 400]
        assert generation.text == padded.tokenizer.decode(known, skip_special_tokens=True)
        assert "".join(padded.stream(ids_of(padded, turns), even))


def test_bf16_weights_answer_as_well_and_alone_as_together(checkpoint):
    engine = Engine(checkpoint, threads=1, num_slots=4, precision="bf16")
    answers = engine.answer(DIALOGUES, SAMPLED, 200)
    assert len(set(answers)) == len(DIALOGUES)
    assert [engine.answer([turns], SAMPLED, 200)[0] for turns in DIALOGUES] == answers
