"""LoRA merged by us: the sum by definition, and the logits of PEFT itself where that is installed."""

import json

import pytest
import torch
from safetensors.torch import save_file

from medchatzh import models
from medchatzh.models.published import adapters
from medchatzh.models.published.weights import Weights
from tests.models import published


@pytest.fixture
def base(tmp_path):
    return published.llama(tmp_path / "base", num_shards=2)


def logits(model):
    with torch.inference_mode():
        return model.eval()(torch.arange(3, 67)[None]).logits


def to_safetensors(adapter):
    tensors = torch.load(adapter / "adapter_model.bin", weights_only=True)
    (adapter / "adapter_model.bin").unlink()
    save_file(tensors, adapter / "adapter_model.safetensors")


CHANGES = {
    "bentsao": {},
    "all projections": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]},
    "root of the rank": {"use_rslora": True},
    "patterns": {"alpha_pattern": {"v_proj": 3, "layers.1.self_attn.q_proj": 5}},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_logits_are_pefts(base, tmp_path, changes, dtype):
    peft = pytest.importorskip("peft", reason="the oracle peft is not installed")
    if dtype == torch.float16:
        for file in [*base.glob("*.bin"), *base.glob("*.index.json")]:
            file.unlink()
        published.write_bin(base, published.llama_weights(1, dtype=dtype))
    adapter = published.lora(tmp_path / "lora", **changes)
    adapters.merge(base, adapter, tmp_path / "merged")
    merged = logits(models.load_causal(tmp_path / "merged"))
    theirs = logits(peft.PeftModel.from_pretrained(models.load_causal(base), adapter))
    assert (merged - theirs).abs().max() <= 1e-5
    assert (merged - logits(models.load_causal(base))).abs().max() > 0.1, "the adapter changed nothing"


@pytest.mark.parametrize("safetensors", [False, True])
def test_only_the_named_matrices_change_and_by_the_product(base, tmp_path, safetensors):
    adapter = published.lora(tmp_path / "lora")
    halves = torch.load(adapter / "adapter_model.bin", weights_only=True)
    if safetensors:
        to_safetensors(adapter)
    adapters.merge(base, adapter, tmp_path / "merged", shard_bytes=20_000)
    before, after = Weights(base), Weights(tmp_path / "merged")
    assert set(before.names) == set(after.names)
    for name in before.names:
        expected = before.read(name)
        if "q_proj" in name or "v_proj" in name:
            stem = f"base_model.model.{name.removesuffix('.weight')}.lora_"
            expected = expected + halves[f"{stem}B.weight"] @ halves[f"{stem}A.weight"] * (16 / 8)
        assert torch.equal(after.read(name), expected), name


def test_a_transposed_base_gets_a_transposed_product(base, tmp_path):
    plain, turned = published.lora(tmp_path / "plain"), published.lora(tmp_path / "turned", fan_in_fan_out=True)
    name = "model.layers.0.self_attn.q_proj.weight"
    changes = []
    for adapter in (plain, turned):
        out = tmp_path / f"{adapter.name}-merged"
        adapters.merge(base, adapter, out)
        changes.append(Weights(out).read(name) - Weights(base).read(name))
    assert torch.allclose(changes[0].T, changes[1], atol=1e-6) and not torch.allclose(changes[0], changes[1], atol=1e-3)


def test_an_fp16_base_keeps_what_the_adapter_adds(base, tmp_path):
    """A change below fp16's last digit is there after merging."""
    for file in [*base.glob("*.bin"), *base.glob("*.index.json")]:
        file.unlink()
    published.write_bin(base, published.llama_weights(1, dtype=torch.float16))
    adapter = published.lora(tmp_path / "lora")
    halves = torch.load(adapter / "adapter_model.bin", weights_only=True)
    torch.save({name: tensor * 1e-3 for name, tensor in halves.items()}, adapter / "adapter_model.bin")
    adapters.merge(base, adapter, tmp_path / "merged")
    name = "model.layers.0.self_attn.v_proj.weight"
    change = Weights(tmp_path / "merged").read(name) - Weights(base).read(name).float()
    stem = "base_model.model.model.layers.0.self_attn.v_proj.lora_"
    assert torch.allclose(change, halves[f"{stem}B.weight"] @ halves[f"{stem}A.weight"] * 2e-6, atol=3e-8)


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"peft_type": "PROMPT_TUNING"}, "PROMPT_TUNING cannot be merged here"),
        ({"use_dora": True}, "use_dora cannot be merged here"),
        ({"bias": "lora_only"}, "bias cannot be merged here"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save cannot be merged here"),
        ({"r": "eight"}, "not the configuration of a LoRA adapter: Expected `int`, got `str` - at `$.r`"),
    ],
)
def test_an_adapter_that_does_more_is_refused(base, tmp_path, changes, told):
    adapter = published.lora(tmp_path / "lora")
    (adapter / "adapter_config.json").write_text(json.dumps(published.LORA_CONFIG | changes))
    with pytest.raises(ValueError) as caught:
        adapters.merge(base, adapter, tmp_path / "merged")
    assert told in str(caught.value) and "adapter_config.json" in str(caught.value)
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda name: name.replace("layers.1", "layers.7"), "changes model.layers.7.self_attn.q_proj.weight, which"),
        (lambda name: name.replace("lora_B", "lora_magnitude_vector"), "is neither lora_A nor lora_B"),
        (lambda name: None if "1.self_attn.q_proj.lora_B" in name else name, "only lora_A of model.layers.1.self_attn.q_proj.weight"),
        (lambda name: None, "the adapter is empty"),
    ],
)
def test_matrices_that_do_not_fit_are_told(base, tmp_path, change, told):
    adapter = published.lora(tmp_path / "lora")
    halves = torch.load(adapter / "adapter_model.bin", weights_only=True)
    torch.save({new: tensor for name, tensor in halves.items() if (new := change(name))}, adapter / "adapter_model.bin")
    with pytest.raises(ValueError, match="lora: .*" + told):
        adapters.merge(base, adapter, tmp_path / "merged")


def test_a_rank_other_than_the_configurations_is_told(base, tmp_path):
    adapter = published.lora(tmp_path / "lora")
    (adapter / "adapter_config.json").write_text(json.dumps(published.LORA_CONFIG | {"r": 16}))
    with pytest.raises(ValueError, match="has rank 8, the configuration says 16"):
        adapters.merge(base, adapter, tmp_path / "merged")


def test_a_folder_without_an_adapter_is_told(base, tmp_path):
    with pytest.raises(ValueError, match="base: no adapter there"):
        adapters.merge(base, base, tmp_path / "merged")
