"""Base + delta, tensor by tensor: the sum that memory would give, in any layout, and in little memory."""

import json

import pytest
import torch
from safetensors.torch import save_file

from medchatzh import models
from medchatzh.models.published import deltas
from medchatzh.models.published.weights import Weights, write
from tests.memory import peak_bytes
from tests.models import published


@pytest.fixture
def folders(tmp_path):
    return published.llama(tmp_path / "base", num_shards=2), published.delta(tmp_path / "delta", num_shards=3), tmp_path / "target"


def read_all(folder):
    weights = Weights(folder)
    return {name: weights.read(name) for name in weights.names}


def in_memory(base, delta):
    """What apply_delta.py does with two whole models."""
    own = ("embed_tokens", "lm_head.weight", "self_attn.rotary_emb.inv_freq")
    return {name: tensor if any(mark in name for mark in own) else tensor.half() + base[name].half() for name, tensor in delta.items()}


@pytest.mark.parametrize("shard_bytes", [1, 20_000, 1 << 30])
def test_the_sum_is_that_of_two_whole_models(folders, shard_bytes):
    base, delta, target = folders
    deltas.apply(base, delta, target, shard_bytes)
    made, expected = read_all(target), in_memory(read_all(base), read_all(delta))
    assert list(made) == list(expected) or set(made) == set(expected)
    assert all(torch.equal(made[name], expected[name]) and made[name].dtype == expected[name].dtype for name in expected)
    num_shards = len(list(target.glob("*.safetensors")))
    assert num_shards == {1: len(expected), 1 << 30: 1}.get(shard_bytes, num_shards)
    if num_shards > 1:
        index = json.loads((target / "model.safetensors.index.json").read_text())
        assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in expected.values())
        largest = max(shard_bytes, *(tensor.nbytes for tensor in expected.values())) + 5000  # and a header
        assert all(file.stat().st_size < largest for file in target.glob("*.safetensors"))


def test_transformers_loads_it_with_the_deltas_vocabulary_and_tokenizer(folders):
    base, delta, target = folders
    deltas.apply(base, delta, target)
    model = models.load_causal(target)
    assert model.config.vocab_size == model.get_input_embeddings().num_embeddings == published.VOCAB + 24
    tokenizer, _ = models.load_tokenizer(target)
    with torch.inference_mode():
        assert torch.isfinite(model(torch.tensor([tokenizer("头疼")["input_ids"]])).logits).all()


def test_safetensors_and_bin_give_the_same(folders):
    base, delta, target = folders
    deltas.apply(base, delta, target)
    for folder in (base, delta):
        tensors = read_all(folder)
        for file in [*folder.glob("*.bin"), *folder.glob("*.index.json")]:
            file.unlink()
        if folder == base:
            save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        else:
            write(folder, tensors.items(), shard_bytes=30_000)
    again = target.with_name("again")
    deltas.apply(base, delta, again)
    made, expected = read_all(again), read_all(target)
    assert set(made) == set(expected) and all(torch.equal(made[name], expected[name]) for name in expected)


@pytest.mark.slow
def test_memory_holds_a_shard_and_few_tensors(tmp_path):
    """Two models of 210 MB; what is needed beyond torch itself must not reach half of one."""
    for folder in ("base", "delta"):
        (tmp_path / folder).mkdir()
        tensors = {f"model.layers.{n}.weight": torch.full((1024, 2048), float(n), dtype=torch.float16) for n in range(50)}
        published.write_bin(tmp_path / folder, tensors, num_shards=2)
    work = 'deltas.apply(Path("base"), Path("delta"), Path("target"), shard_bytes=16 << 20)'
    assert peak_bytes("from medchatzh.models.published import deltas", work, tmp_path) < 100 << 20
    assert float(Weights(tmp_path / "target").read("model.layers.7.weight")[0, 0]) == 14.0


def test_what_a_killed_run_left_is_begun_anew(folders, monkeypatch):
    base, delta, target = folders
    read = Weights.read

    def failing(self, name):
        if "layers.1." in name:
            raise KeyboardInterrupt
        return read(self, name)

    monkeypatch.setattr(Weights, "read", failing)
    with pytest.raises(KeyboardInterrupt):
        deltas.apply(base, delta, target, shard_bytes=10_000)
    assert not target.exists() and list(target.parent.glob("target.partial/*"))
    monkeypatch.setattr(Weights, "read", read)
    deltas.apply(base, delta, target)
    assert sorted(file.name for file in target.iterdir()) == [
        "config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.model",
        "tokenizer_config.json",
    ]
    assert not list(target.parent.glob("*.partial"))


def test_an_existing_folder_is_not_overwritten(folders):
    base, delta, target = folders
    target.mkdir()
    with pytest.raises(ValueError, match="target: exists already"):
        deltas.apply(base, delta, target)


def without(tensors, name):
    return {key: tensor for key, tensor in tensors.items() if key != name}


def test_models_that_do_not_belong_together_are_told(folders):
    base, delta, target = folders
    whole, name = published.llama_weights(1), "model.layers.1.mlp.up_proj.weight"
    for file in [*base.glob("*.bin"), *base.glob("*.index.json")]:
        file.unlink()
    published.write_bin(base, without(whole, name))
    with pytest.raises(ValueError, match=f"base: lacks {name} \\(1 tensors"):
        deltas.apply(base, delta, target)
    published.write_bin(base, whole | {"model.layers.2.mlp.up_proj.weight": whole[name]})
    with pytest.raises(ValueError, match="delta: lacks model.layers.2.mlp.up_proj.weight"):
        deltas.apply(base, delta, target)
    published.write_bin(base, whole | {name: whole[name][:-1]})
    with pytest.raises(ValueError, match=f"{name} is .48, 32., the base's .47, 32.: another base"):
        deltas.apply(base, delta, target)
    assert not target.exists()


def test_missing_and_damaged_shards_are_told_by_name(folders):
    base, delta, target = folders
    shard = base / "pytorch_model-00002-of-00002.bin"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="pytorch_model-00002-of-00002.bin: .* download it again"):
        deltas.apply(base, delta, target)
    shard.unlink()
    with pytest.raises(ValueError, match="pytorch_model-00002-of-00002.bin: no such file"):
        deltas.apply(base, delta, target)
    index = base / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"model.norm.weight": "../secret.bin"}}))
    with pytest.raises(ValueError, match="lies outside of the folder"):
        deltas.apply(base, delta, target)
    index.write_text("{}")
    with pytest.raises(ValueError, match="not an index of shards"):
        deltas.apply(base, delta, target)
    index.unlink()
    with pytest.raises(ValueError, match="base: no weights there; expected one of model.safetensors, model.bin"):
        deltas.apply(base, delta, target)


def test_code_in_a_pytorch_file_is_not_run(folders):
    base, delta, target = folders
    for file in [*base.glob("*.bin"), *base.glob("*.index.json")]:
        file.unlink()
    torch.save({"model.norm.weight": _Bomb()}, base / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pytorch_model.bin: no weights that can be read"):
        deltas.apply(base, delta, target)


def test_a_pointer_in_place_of_weights_is_told(folders):
    base, delta, target = folders
    for file in [*base.glob("*.bin"), *base.glob("*.index.json")]:
        file.unlink()
    (base / "pytorch_model.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 13000000000\n")
    with pytest.raises(ValueError, match=r"pytorch_model.bin: no weights that can be read: it is Git LFS's pointer .*git lfs pull"):
        deltas.apply(base, delta, target)
    (base / "pytorch_model.bin").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match=r"pytorch_model.bin: .* cut off or damaged, download it again"):
        deltas.apply(base, delta, target)


class _Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('the pickle was run')",))
