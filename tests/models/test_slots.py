"""Logits of sequences in slots: those of transformers, for several architectures; the same to the bit in any company."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from medchatzh.models.decoding.slots import ROW_SIZES, Piece, SlotModel

SHAPE = {"vocab_size": 100, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
SHARED = {**SHAPE, "num_key_value_heads": 2, "max_position_embeddings": 512}
SCALED = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
CONFIGS = {
    "llama": LlamaConfig(**SHAPE, tie_word_embeddings=True),
    "llama, scaled rotation": LlamaConfig(**SHARED, rope_parameters=SCALED),
    "qwen2": Qwen2Config(**SHARED),
    "qwen3": Qwen3Config(**SHARED, head_dim=16),
    "mistral": MistralConfig(**SHARED, sliding_window=256),
    "gpt2": GPT2Config(vocab_size=100, n_embd=32, n_layer=2, n_head=4),
}


def made(config: PreTrainedConfig):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(copy.deepcopy(config)).eval()


def sequence(length, seed=0):
    return np.random.default_rng(seed).integers(0, 100, length).tolist()


def pieces(slot, ids, num_prompt, step):
    """What is read at a step: first the prompt, 128 tokens a piece, then a token a step."""
    if step:
        return [Piece(slot, num_prompt + step - 1, ids[num_prompt + step - 1 : num_prompt + step])]
    return [Piece(slot, start, ids[start : min(start + 128, num_prompt)]) for start in range(0, num_prompt, 128)]


def read(slots, slot, ids, num_prompt):
    """[T, V] logits behind each token from the prompt's last on, with nothing beside."""
    steps = [pieces(slot, ids, num_prompt, step) for step in range(len(ids) - num_prompt + 1)]
    return torch.cat([slots.forward(step, [len(step) - 1]) for step in steps])


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "torch"])
@pytest.mark.parametrize("name", CONFIGS)
def test_logits_are_those_of_transformers(name, compiled):
    model = made(CONFIGS[name])
    ids = sequence(220)
    with torch.inference_mode():
        expected = model(torch.tensor([ids])).logits[0, 199:]
    slots = SlotModel(model)
    slots._cache.compiled = compiled
    slots.reserve(3, 256)
    torch.testing.assert_close(read(slots, 2, ids, 200), expected, atol=2e-5, rtol=1e-4)


@pytest.fixture(scope="module", params=[("llama", True), ("qwen2", True), ("qwen2", False)], ids=str)
def slots(request):
    name, compiled = request.param
    torch.set_num_threads(1)
    loaded = SlotModel(made(CONFIGS[name]))
    loaded._cache.compiled = compiled
    loaded.reserve(9, 256)
    return loaded


@settings(max_examples=20)
@given(data=st.data())
def test_logits_are_the_same_to_the_bit_in_any_company(slots, data):
    slot, num_prompt = data.draw(st.integers(0, 8)), data.draw(st.integers(1, 190))
    ids = sequence(num_prompt + 6, seed=num_prompt)
    alone = read(slots, slot, ids, num_prompt)
    others = data.draw(
        st.dictionaries(st.sampled_from([n for n in range(9) if n != slot]), st.tuples(st.integers(1, 40), st.integers(0, 6)))
    )
    together = []
    for step in range(7):
        beside = [
            piece
            for other, (length, begins) in others.items()
            if step >= begins
            for piece in pieces(other, sequence(length + 7, seed=other), length, step - begins)
        ]
        cut = data.draw(st.integers(0, len(beside)))
        mine = pieces(slot, ids, num_prompt, step)
        wanted = [cut + len(mine) - 1, *data.draw(st.permutations(range(cut)))]
        together.append(slots.forward([*beside[:cut], *mine, *beside[cut:]], wanted)[:1])
    assert torch.equal(torch.cat(together), alone)


def test_what_slots_hold_stays_when_there_are_more(slots):
    ids = sequence(40)
    expected = read(slots, 1, ids, 30)
    first = slots.forward(pieces(1, ids, 30, 0), [0])
    slots.reserve(10, 300)
    assert torch.equal(torch.cat([first, *(slots.forward(pieces(1, ids, 30, step), [0]) for step in range(1, 11))]), expected)


def test_only_numbers_of_rows_with_the_same_bits_are_used():
    class Fickle(torch.nn.Linear):
        """Rounds in another way below 48 rows, as a library may."""

        def forward(self, rows):
            return super().forward(rows) * (1 if rows.shape[1] >= 48 else 1 + 1e-6)

    model = made(CONFIGS["llama"])
    model.lm_head = Fickle(32, 100, bias=False)
    slots = SlotModel(model)
    assert slots.sizes == tuple(size for size in ROW_SIZES if size >= 48)
    slots.reserve(2, 64)
    ids, beside = sequence(20), sequence(30, seed=1)
    alone = slots.forward([Piece(0, 0, ids)], [0])
    assert torch.equal(alone, slots.forward([Piece(1, 0, beside), Piece(0, 0, ids)], [1, 0])[:1])


def test_a_machine_whose_rows_differ_is_told_of():
    class Uneven(torch.nn.Linear):
        def forward(self, rows):
            return super().forward(rows) * (1 + 1e-6 * (torch.arange(rows.shape[1]) % 2)[:, None])

    model = made(CONFIGS["llama"])
    model.lm_head = Uneven(32, 100, bias=False)
    with pytest.warns(UserWarning, match="may depend on what is decoded beside it"):
        assert SlotModel(model).sizes == ROW_SIZES


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Gemma2Config(**SHARED, head_dim=8), "this model's attention has softcap"),
        (
            BloomConfig(vocab_size=100, hidden_size=32, n_layer=2, n_head=4),
            "BloomForCausalLM does not call transformers' attention interface",
        ),
    ],
    ids=["gemma2", "bloom"],
)
def test_other_attention_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        SlotModel(made(config))


def test_positions_end_where_attention_or_rotation_would_change():
    assert SlotModel(made(CONFIGS["mistral"])).max_positions == 256
    long = {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "short_factor": [1.0] * 4,
        "long_factor": [2.0] * 4,
    }
    assert (
        SlotModel(made(Phi3Config(**SHARED, rope_parameters=long, original_max_position_embeddings=64, pad_token_id=0))).max_positions == 64
    )
