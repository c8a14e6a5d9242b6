"""Packing: nothing lost, nothing shared between neighbours, the same loss as one by one."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medchatzh import models
from medchatzh.models import attention
from medchatzh.models.packing import assemble, collect, load, pack, store
from medchatzh.prompt import IGNORE_INDEX
from medchatzh.train.loop import Epochs
from medchatzh.train.losses import causal
from medchatzh.train.optimization import Optimization


@given(st.lists(st.integers(1, 50), max_size=200), st.integers(0, 9))
def test_pack_places_every_example_once_within_the_row(lengths, seed):
    order = np.random.default_rng(seed).permutation(len(lengths))
    rows = pack(lengths, order, 50)
    assert sorted(int(number) for row in rows for number in row) == list(range(len(lengths)))
    assert all(sum(lengths[number] for number in row) <= 50 for row in rows)


def test_pack_fills_rows_of_dialogue_lengths():
    lengths = np.random.default_rng(0).gamma(2, 90, 5000).astype(int).clip(8, 512)
    rows = pack(lengths, range(len(lengths)), 512)
    assert lengths.sum() / (512 * len(rows)) > 0.97


def test_too_long_an_example_is_refused():
    with pytest.raises(ValueError, match="example 1 has 60 tokens, a row 50"):
        pack([10, 60], [0, 1], 50)


def examples(tokenizer, count=9):
    random = np.random.default_rng(3)
    encoded = []
    for _ in range(count):
        ids = random.integers(10, len(tokenizer), int(random.integers(4, 40))).tolist()
        encoded.append((ids, [IGNORE_INDEX] * 2 + ids[2:]))
    return collect(encoded)


@pytest.mark.parametrize(("way", "width"), [("sdpa", 64), (attention.NAME, 64), (attention.NAME, 0)])
def test_packed_loss_equals_one_by_one(way, width, checkpoint):
    tokenizer, _ = models.load_tokenizer(checkpoint)
    model = models.load_causal(checkpoint).eval()
    data = examples(tokenizer)
    alone = models.load_causal(checkpoint).eval()
    model.set_attn_implementation(way)
    with torch.inference_mode():
        packed = causal(model, assemble(data, pack(data.lengths, range(len(data)), 64), 0, width))
        expected = sum(
            alone(torch.from_numpy(data.input_ids[None, a:b]).long(), labels=torch.from_numpy(data.labels[None, a:b]).long()).loss
            * int((data.labels[a + 1 : b] != IGNORE_INDEX).sum())
            for a, b in zip(data.offsets, data.offsets[1:], strict=False)
        )
    assert float(packed) == pytest.approx(float(expected), rel=1e-5)


def test_a_neighbour_changes_nothing(checkpoint):
    tokenizer, _ = models.load_tokenizer(checkpoint)
    model = models.load_causal(checkpoint).eval()
    data, other = examples(tokenizer, 2), examples(tokenizer, 2)
    other.input_ids[: other.offsets[1]] = 11
    with torch.inference_mode():
        hidden = [
            model.model(
                input_ids=torch.from_numpy(batch.input_ids), position_ids=torch.from_numpy(batch.position_ids), use_cache=False
            ).last_hidden_state[0, data.offsets[1] : data.offsets[2]]
            for batch in (assemble(each, [[0, 1]], 0, 96) for each in (data, other))
        ]
    assert torch.equal(hidden[0], hidden[1])


def test_epochs_visit_everything_and_depend_on_seed_and_step_alone(checkpoint):
    tokenizer, _ = models.load_tokenizer(checkpoint)
    data = examples(tokenizer, 50)
    config = Optimization(row_tokens=64, rows=2, accumulation=2)
    epochs = Epochs(data, config, pad_id=0, seed=5)
    seen = [number for step in range(epochs.steps_per_epoch) for row in epochs.step(step) for number in row]
    assert sorted(seen) == list(range(50))
    again = Epochs(data, config, pad_id=0, seed=5)
    last = epochs.steps_per_epoch + 1
    for one, two in zip(again.step(last), epochs.step(last), strict=True):
        assert np.array_equal(one, two)
    other = Epochs(data, config, pad_id=0, seed=6)
    assert [row.tolist() for row in other.step(0)] != [row.tolist() for row in epochs.step(0)]


def test_stored_examples_are_read_as_they_were(tmp_path):
    data = collect([([1, 2, 70_000], [IGNORE_INDEX, 2, 70_000]), ([5], [5]), ([7, 8], [IGNORE_INDEX, IGNORE_INDEX])])
    bounds = list(zip(data.offsets, data.offsets[1:], strict=False))
    pairs = [(data.input_ids[a:b], data.labels[a:b]) for a, b in bounds]
    for vocab_size, kind in ((70_001, np.int32), (65_536, np.uint16)):
        known = collect((ids % vocab_size, np.where(labels == IGNORE_INDEX, labels, ids % vocab_size)) for ids, labels in pairs)
        store(zip((4, 4, 9), ((known.input_ids[a:b], known.labels[a:b]) for a, b in bounds), strict=True), tmp_path, vocab_size)
        found, records = load(tmp_path)
        assert records.tolist() == [4, 4, 9] and isinstance(found.input_ids, np.memmap) and found.input_ids.dtype == kind
        for name in ("input_ids", "labels", "offsets"):
            assert np.array_equal(getattr(found, name), getattr(known, name))
        batches = [assemble(each, [[2, 0], [1]], 0, width) for each in (found, known) for width in (0, 8)]
        assert all(np.array_equal(one, two) for one, two in zip(batches[0], batches[2], strict=True))
        assert all(np.array_equal(one, two) for one, two in zip(batches[1], batches[3], strict=True))
    store([], tmp_path, vocab_size=10)
    assert len(load(tmp_path)[0]) == 0
