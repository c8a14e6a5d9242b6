"""The next token: what transformers' processors compute; the same for a row whatever the other rows are."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from medchatzh.models.decoding.sampling import Decoding, Row, choose

VOCABULARY = 60


def logits(seed, rows=1):
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 2, (rows, VOCABULARY)).astype(np.float32))


rows = st.builds(
    lambda decoding, sequence, num_new, draw, stop: Row(decoding, np.array(sequence), min(num_new, len(sequence)), draw, stop),
    st.builds(
        Decoding,
        min_new_tokens=st.integers(0, 5),
        repetition_penalty=st.sampled_from([1.0, 1.2, 1.7, 0.5]),
        do_sample=st.booleans(),
        temperature=st.sampled_from([0.1, 1.0, 1.5]),
        top_k=st.sampled_from([0, 1, 10, 40, 500]),
        top_p=st.sampled_from([0.05, 0.75, 1.0]),
    ),
    st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=30),
    st.integers(0, 8),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from([(), (2,), (2, 5)]),
)


def processed(scores, row):
    """[1, V] scores as transformers' processors leave them, in its order."""
    decoding = row.decoding
    processors = LogitsProcessorList()
    if decoding.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(decoding.repetition_penalty))
    if row.stop_ids and decoding.min_new_tokens:
        processors.append(MinNewTokensLengthLogitsProcessor(len(row.sequence) - row.num_new, decoding.min_new_tokens, list(row.stop_ids)))
    if decoding.do_sample:
        processors.append(TemperatureLogitsWarper(decoding.temperature))
        if decoding.top_k:
            processors.append(TopKLogitsWarper(decoding.top_k))
        if decoding.top_p < 1:
            processors.append(TopPLogitsWarper(decoding.top_p))
    return processors(torch.from_numpy(row.sequence)[None], scores)


@given(rows, st.integers(0, 1000))
def test_a_greedy_token_is_that_of_transformers(row, seed):
    row = row._replace(decoding=Decoding(repetition_penalty=row.decoding.repetition_penalty, min_new_tokens=row.decoding.min_new_tokens))
    assert choose(logits(seed), [row]) == processed(logits(seed), row).argmax(-1).tolist()


@given(rows, st.integers(0, 1000))
def test_penalized_logits_have_the_bits_of_transformers(row, seed):
    row = row._replace(decoding=Decoding(repetition_penalty=row.decoding.repetition_penalty, min_new_tokens=row.decoding.min_new_tokens))
    scores = logits(seed)
    choose(scores, [row])
    assert torch.equal(scores, processed(logits(seed), row))


@pytest.mark.parametrize("top_k", [0, 1, 10, 500])
@pytest.mark.parametrize("top_p", [1e-9, 0.05, 0.75, 1.0])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_sampled_tokens_have_the_distribution_of_transformers(temperature, top_p, top_k):
    """Draws spread evenly over [0, 1) give each token its share, but for two draws at its ends."""
    decoding = Decoding(do_sample=True, temperature=temperature, top_p=top_p, top_k=top_k, min_new_tokens=3, repetition_penalty=1.3)
    row = Row(decoding, np.array([7, 9, 7, 30]), 2, 0.0, (2,))
    expected = processed(logits(4), row).softmax(-1)[0].numpy()
    draws = 5000
    tokens = choose(logits(4).repeat(draws, 1), [row._replace(draw=(place + 0.5) / draws) for place in range(draws)])
    found = np.bincount(tokens, minlength=VOCABULARY) / draws
    assert np.abs(found - expected).max() <= 2 / draws
    assert not found[expected == 0].any() and found[2] == 0


@given(st.lists(rows, min_size=1, max_size=12), st.randoms())
def test_a_token_does_not_depend_on_other_rows(several, random):
    scores = logits(1, len(several))
    alone = [choose(scores[[number]].clone(), [row])[0] for number, row in enumerate(several)]
    order = list(range(len(several)))
    random.shuffle(order)
    assert choose(scores[order], [several[number] for number in order]) == [alone[number] for number in order]


def test_the_last_draw_is_a_token_that_was_left():
    row = Row(Decoding(do_sample=True, top_p=0.5, top_k=5, temperature=1.0), np.array([1]), 9, np.nextafter(1, 0), ())
    allowed = processed(logits(0), row).isfinite()[0].nonzero()[:, 0].tolist()
    assert choose(logits(0), [row])[0] in allowed


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top_k": -1}, "top_k must not be negative"),
        ({"top_p": 0}, "top_p in (0, 1]"),
        ({"temperature": 0}, "must be positive"),
        ({"min_new_tokens": 9, "max_new_tokens": 8}, "between 0 and it"),
    ],
)
def test_nonsense_is_refused(settings, message):
    with pytest.raises(ValueError) as error:
        Decoding(**settings)
    assert message in str(error.value)
