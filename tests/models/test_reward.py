"""Scores: the same to the bit whatever is scored with them, packed or alone, here or in transformers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medchatzh import models, prompt
from medchatzh.models.packing import assemble, collect, pack
from medchatzh.models.reward import rewards, score, width
from medchatzh.records import Turn


@pytest.fixture(scope="module")
def judge(checkpoint):
    tokenizer, template = models.load_tokenizer(checkpoint)
    model = models.load_reward(checkpoint, seed=1).eval()
    model.config.pad_token_id = tokenizer.pad_token_id
    turns = ((Turn("user", f"第{n}个问题？" * (n % 5 + 1)), Turn("assistant", "答案。" * (n % 17 + 1))) for n in range(150))
    return model, collect(prompt.encode(each, tokenizer, template) for each in turns), tokenizer.pad_token_id


def select(examples, chosen):
    return collect((examples.input_ids[a:b], examples.labels[a:b]) for a, b in (examples.offsets[[i, i + 1]] for i in chosen))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_score_is_the_same_to_the_bit_in_any_company(judge, precision, threads):
    model, examples, pad_id = judge
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = np.concatenate([score(model, select(examples, [number]), pad_id, precision) for number in range(0, 150, 10)])
    torch.set_num_threads(threads)
    order = np.random.default_rng(0).permutation(len(examples))
    together = np.empty(len(examples))
    together[order] = score(model, select(examples, order), pad_id, precision)
    torch.set_num_threads(before)
    assert np.array_equal(together[::10], alone)


def test_scores_equal_transformers_one_by_one_and_packed_ones(judge):
    model, examples, pad_id = judge
    few = select(examples, range(8))
    with torch.inference_mode():
        alone = [
            float(model(torch.tensor([few.input_ids[a:b].tolist()])).logits) for a, b in zip(few.offsets, few.offsets[1:], strict=False)
        ]
        packed = rewards(model, assemble(few, pack(few.lengths, range(8), 256), pad_id))
    assert score(model, few, pad_id, "fp32") == pytest.approx(alone, abs=1e-5)
    assert sorted(packed.tolist()) == pytest.approx(sorted(alone), abs=1e-5)


def test_rewards_keep_their_digits_under_bf16(checkpoint):
    tokenizer, template = models.load_tokenizer(checkpoint)
    model = models.load_reward(checkpoint, seed=1).eval()
    encoded = [prompt.encode((Turn("user", f"问题{n}"), Turn("assistant", "答" * (n % 9 + 1))), tokenizer, template) for n in range(300)]
    assert len(set(score(model, collect(encoded), tokenizer.pad_token_id, precision="bf16"))) > 290


@given(st.integers(1, 4096))
def test_rows_are_little_longer_than_their_examples(length):
    assert length <= width(length) <= max(32, length * 1.25) and width(length) % 8 == 0


def test_there_are_few_shapes():
    assert len({width(length) for length in range(1, 1025)}) <= 22
