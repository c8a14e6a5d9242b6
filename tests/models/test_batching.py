"""Continuous batching: greedy answers are transformers' own, and no answer depends on what is decoded beside it."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, MistralConfig, Qwen2Config, Qwen3Config

from medchatzh import models
from medchatzh.models.decoding.batching import Batcher, Request
from medchatzh.models.decoding.sampling import Decoding

PLAIN = Decoding(max_new_tokens=24, min_new_tokens=0, repetition_penalty=1.0)
SAMPLED = Decoding(max_new_tokens=24, min_new_tokens=2, do_sample=True, temperature=1.5, top_k=50, top_p=0.95)


@pytest.fixture(scope="module")
def folder(checkpoint, tmp_path_factory):
    """A checkpoint with room for prompts of 256 tokens and answers of 128."""
    tokenizer, template = models.load_tokenizer(checkpoint)
    shape = models.Architecture(hidden_size=64, num_layers=2, num_heads=4, intermediate_size=128, max_positions=400)
    made = tmp_path_factory.mktemp("model")
    models.save(models.new_causal(shape, tokenizer, seed=3), tokenizer, template, made)
    return made


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def batcher(folder, num_slots=8, threads=1):
    """The number of threads is taken when the model is loaded."""
    torch.set_num_threads(threads)
    tokenizer, _ = models.load_tokenizer(folder)
    return Batcher(models.load_causal(folder).eval(), tokenizer, num_slots)


@pytest.fixture(scope="module")
def shared(folder):
    """One for all tests that leave it without requests."""
    return batcher(folder)


@pytest.fixture(scope="module")
def oracle(folder):
    return models.load_causal(folder).eval()


def prompts(count, shortest=16, longest=256, seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(4, 300, int(random.integers(shortest, longest + 1))).tolist() for _ in range(count)]


def transformers_answer(oracle, ids, decoding, eos=2):
    """New ids of transformers' `generate`, one prompt at a time."""
    given_ids = torch.tensor([ids])
    with torch.inference_mode():
        output = oracle.generate(
            input_ids=given_ids,
            attention_mask=torch.ones_like(given_ids),
            max_new_tokens=decoding.max_new_tokens,
            min_new_tokens=decoding.min_new_tokens,
            repetition_penalty=decoding.repetition_penalty,
            do_sample=False,
            eos_token_id=eos,
            pad_token_id=0,
        )
    return output[0, len(ids) :].tolist()


def decoded(running, requests):
    """Ids of each request, all in the batch at once as far as there are slots."""
    found = {number: generation.ids for number, generation in running.decode(requests)}
    assert not running.step(), "something is left in the batch"
    return [found[number] for number in range(len(requests))]


@pytest.mark.slow
@pytest.mark.parametrize("penalty", [1.0, 1.2])
def test_greedy_answers_are_those_of_transformers(folder, oracle, penalty):
    decoding = Decoding(max_new_tokens=128, min_new_tokens=5, repetition_penalty=penalty)
    asked = prompts(64)
    answers = decoded(batcher(folder, 32), [Request(input_ids=ids, decoding=decoding) for ids in asked])
    assert answers == [transformers_answer(oracle, ids, decoding) for ids in asked]


@pytest.mark.parametrize("config", [Qwen2Config, Qwen3Config, MistralConfig])
def test_greedy_answers_of_other_models_are_those_of_transformers(folder, config):
    """Fewer heads of keys than of queries, bias in the attention, or norms there; several EOS."""
    torch.manual_seed(4)
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = AutoModelForCausalLM.from_config(config(vocab_size=400, max_position_embeddings=400, head_dim=16, **shape))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)  # they are made as zeros
    asked = prompts(12, 1, 200, seed=6)
    free = Decoding(max_new_tokens=48, min_new_tokens=2)
    expected = [transformers_answer(model, ids, free) for ids in asked]
    counts = Counter(token for answer in expected for token in set(answer))
    eos = next(token for token, count in counts.items() if 3 < count < 9)  # ends some, and not all
    model.generation_config.eos_token_id = [eos, 7]
    expected = [transformers_answer(model, ids, free, [2, eos, 7]) for ids in asked]
    assert {answer[-1] == eos for answer in expected} == {True, False}
    tokenizer, _ = models.load_tokenizer(folder)
    assert decoded(Batcher(model.eval(), tokenizer, 5), [Request(input_ids=ids, decoding=free) for ids in asked]) == expected


@pytest.mark.parametrize("length", [1, 2, 127, 128, 129, 256, 257, 376])
def test_prompts_of_any_length_are_read_whole(shared, oracle, length):
    ids = prompts(1, length, length, seed=length)[0]
    assert decoded(shared, [Request(input_ids=ids, decoding=PLAIN)]) == [transformers_answer(oracle, ids, PLAIN)]


@pytest.mark.parametrize("min_new_tokens", [0, 1, 7, 24])
def test_an_answer_ends_where_that_of_transformers_does(shared, oracle, min_new_tokens):
    decoding = Decoding(max_new_tokens=24, min_new_tokens=min_new_tokens, repetition_penalty=1.1)
    asked = prompts(8, seed=1)
    free = [transformers_answer(oracle, ids, decoding) for ids in asked]
    ends = {answer[place]: place for place, answer in enumerate(free)}  # a token that stands early in some answer
    for eos in list(ends)[::3]:
        requests = [Request(input_ids=ids, decoding=decoding, stop_ids=(eos,)) for ids in asked]
        finished = {number: generation for number, generation in shared.decode(requests)}
        for number, ids in enumerate(asked):
            expected = transformers_answer(oracle, ids, decoding, eos)
            assert finished[number].ids == expected
            assert finished[number].finish == ("stop" if expected[-1] == eos else "length")
            assert len(expected) >= min_new_tokens


def test_without_stop_ids_nothing_stops(shared, oracle):
    (ids,) = prompts(1, seed=5)
    first = transformers_answer(oracle, ids, PLAIN)[0]
    assert [
        len(answer) for stops in ((first,), ()) for answer in decoded(shared, [Request(input_ids=ids, decoding=PLAIN, stop_ids=stops)])
    ] == [1, 24]


def requests(seeds):
    return [
        Request(input_ids=ids, decoding=SAMPLED if number % 3 else PLAIN, seed=seed)
        for number, (seed, ids) in enumerate(zip(seeds, prompts(len(seeds), 1, 200, seed=2), strict=True))
    ]


@pytest.fixture(scope="module")
def alone(folder):
    """20 requests and what each gets with nothing beside it."""
    single = batcher(folder, 1)
    asked = requests(range(20))
    return asked, [decoded(single, [request])[0] for request in asked]


@settings(max_examples=15)
@given(data=st.data())
def test_a_neighbour_changes_no_answer(shared, alone, data):
    asked, expected = alone
    order = data.draw(st.lists(st.integers(0, 19), min_size=1, max_size=20, unique=True))
    assert decoded(shared, [asked[number] for number in order]) == [expected[number] for number in order]


@settings(max_examples=15)
@given(data=st.data())
def test_joining_late_or_leaving_early_changes_no_answer(shared, alone, data):
    asked, expected = alone
    running, cancelled = {}, set()
    for number in range(20):
        running[shared.submit(asked[number])] = number
        for _ in range(data.draw(st.integers(0, 4))):
            shared.step()
        if data.draw(st.booleans()):
            victim = data.draw(st.sampled_from(list(running)))
            shared.cancel(victim)
            cancelled.add(victim)
    while shared.step():
        pass
    for generation, number in running.items():
        if generation.finish == "cancelled":
            assert generation in cancelled and generation.ids == expected[number][: len(generation.ids)]
        else:
            assert generation.ids == expected[number]


def test_slots_and_threads_change_no_answer(folder, alone):
    asked, expected = alone
    assert decoded(batcher(folder, 20), asked) == expected
    running = batcher(folder, 20, threads=2)
    assert decoded(running, asked[:3]) == [decoded(running, [request])[0] for request in asked[:3]]


def test_many_requests_of_all_kinds_share_64_slots(folder, shared):
    """Each with limits, penalty, stops and a seed of its own."""
    tokenizer, _ = models.load_tokenizer(folder)
    asked = [
        Request(
            input_ids=ids,
            decoding=Decoding(
                max_new_tokens=1 + number % 13,
                min_new_tokens=number % 2,
                repetition_penalty=(1.0, 1.3)[number % 2],
                do_sample=number % 3 > 0,
                temperature=(0.7, 2.0)[number % 2],
                top_k=(0, 20)[number % 2],
            ),
            seed=number // 2,
            stop_ids=(None, (), tuple(range(0, 300, 9)))[number % 3],
            stop_texts=("的", tokenizer.decode([50 + number]))[: number % 3],
            streamed=number % 5 == 0,
        )
        for number, ids in enumerate(prompts(200, 1, 60, seed=8))
    ]
    several = batcher(folder, 64)
    found = dict(several.decode(asked))
    assert sorted(found) == list(range(200)) and {each.finish for each in found.values()} == {"stop", "length"}
    for number in range(0, 200, 7):
        ((_, alone),) = shared.decode([asked[number]])
        assert (alone.ids, alone.text, alone.finish) == (found[number].ids, found[number].text, found[number].finish)


def test_seeds_differ_and_repeat(shared):
    (ids,) = prompts(1)
    answers = decoded(shared, [Request(input_ids=ids, decoding=SAMPLED, seed=seed) for seed in (1, 2, 1)])
    assert answers[0] == answers[2] != answers[1]


def test_a_free_slot_is_taken_at_once(shared):
    asked = prompts(30, 5, 20)
    lengths = [1 + number % 7 for number in range(30)]
    pending = [
        shared.submit(Request(input_ids=ids, decoding=Decoding(max_new_tokens=length, min_new_tokens=0), stop_ids=()))
        for ids, length in zip(asked, lengths, strict=True)
    ]
    num_steps = 0
    while any(not generation.finish for generation in pending):
        num_unfinished = sum(not generation.finish for generation in pending)
        assert len(shared.step()) == min(8, num_unfinished)
        num_steps += 1
    assert [len(generation.ids) for generation in pending] == lengths
    assert num_steps <= sum(lengths) / 8 + 7
    slots = {generation.slot for generation in pending}
    assert slots == set(range(8))


def test_requests_are_taken_as_slots_become_free(shared):
    taken = 0

    def source():
        nonlocal taken
        for ids in prompts(30, 5, 20):
            taken += 1
            yield Request(input_ids=ids, decoding=PLAIN, stop_ids=())

    finished = shared.decode(source())
    next(finished)
    assert taken == 8
    finished.close()
    assert not shared.step()


def test_cancelled_requests_leave(shared):
    first, *others = [shared.submit(request) for request in requests(range(12))]
    shared.step()
    shared.cancel(first)
    assert first.finish == "cancelled" and len(first.ids) <= 1
    shared.cancel(others[-1])  # still waiting
    assert others[-1].finish == "cancelled" and others[-1].ids == []
    while shared.step():
        pass
    assert {generation.finish for generation in others[:-1]} <= {"length", "stop"}
    before = others[0].finish
    shared.cancel(others[0])
    assert others[0].finish == before


def test_an_answer_ends_before_its_stop_text(shared, folder):
    tokenizer, _ = models.load_tokenizer(folder)
    (ids,) = prompts(1, seed=9)
    whole = next(shared.decode([Request(input_ids=ids, decoding=PLAIN)]))[1].text
    stop = whole[len(whole) // 2 :][:3]
    for streamed in (False, True):
        request = Request(input_ids=ids, decoding=PLAIN, stop_texts=(stop, "不会出现"), streamed=streamed)
        ((_, generation),) = shared.decode([request])
        assert (generation.text, generation.finish) == (whole[: whole.index(stop)], "stop")
        assert stop in tokenizer.decode(generation.ids)


def test_what_has_no_room_is_refused(shared):
    with pytest.raises(ValueError, match="both together at most 400"):
        shared.submit(Request(input_ids=[5] * 377, decoding=PLAIN))
    with pytest.raises(ValueError, match="a prompt of 0 tokens"):
        shared.submit(Request(input_ids=[], decoding=PLAIN))
    with pytest.raises(ValueError, match="between 1 and 256, not 0"):
        Batcher(None, None, 0)
