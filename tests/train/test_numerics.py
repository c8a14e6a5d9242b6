"""Equal losses in other ways: packed or one by one, 1 × 8 or 8 × 1, one process or two, DDP, FSDP2 or ZeRO,, and a plain loop."""

import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from medchatzh import models
from medchatzh.models import attention
from medchatzh.models.packing import collect
from medchatzh.prompt import IGNORE_INDEX
from medchatzh.run import SCRATCH, Context
from medchatzh.train import loop
from medchatzh.train.losses import head_loss
from medchatzh.train.optimization import Lora, Optimization
from medchatzh.train.state import METRICS, read_log, steps

CONFIG = Optimization(row_tokens=96, rows=8, max_steps=20, epochs=99, learning_rate=3e-3, precision="fp32", save_steps=7, weight_decay=0.01)


def dialogues():
    """Examples of 4 to 60 tokens; the first third of each is a question."""
    random = np.random.default_rng(0)
    rows = [random.integers(5, 390, int(random.integers(4, 60))).tolist() for _ in range(90)]
    return collect((ids, [IGNORE_INDEX] * (len(ids) // 3) + ids[len(ids) // 3 :]) for ids in rows)


def train(checkpoint, out, config, stop_after=None):
    """20 steps; this file is also what the processes of torchrun run (`__main__`)."""
    batches = loop.Epochs(dialogues(), config, pad_id=0, seed=3)
    if stop_after is not None:

        def step(number, given=batches.step):
            if number == stop_after:
                os._exit(9)  # as kill -9: no handler, no flush
            return given(number)

        batches.step = step
    (out / SCRATCH).mkdir(parents=True, exist_ok=True)
    context = Context(seed=3, threads=1)
    return loop.train(lambda _: models.load_causal(checkpoint), batches, loop.causal(config), config, out, context, "test", lambda _: [])


def losses(out):
    return [entry["loss"] for entry in read_log(out / METRICS)]


@pytest.fixture(scope="module")
def expected(checkpoint, tmp_path_factory):
    """(losses, weights) of one process, packed, one micro batch a step."""
    out = tmp_path_factory.mktemp("expected")
    model, _ = train(checkpoint, out, CONFIG)
    return losses(out), {name: parameter.detach() for name, parameter in model.named_parameters()}


def changed(**changes):
    return msgspec.structs.replace(CONFIG, **changes)


@pytest.mark.parametrize(
    "config",
    [
        changed(rows=1, accumulation=8),
        changed(rows=2, accumulation=1, devices=4),
        changed(attention="sdpa"),
        changed(gradient_checkpointing=True),
    ],
    ids=["1x8", "4 devices", "sdpa", "checkpointing"],
)
def test_the_same_losses_another_way(config, checkpoint, expected, tmp_path):
    train(checkpoint, tmp_path, config)
    assert losses(tmp_path) == pytest.approx(expected[0], rel=1e-4)


def test_packed_losses_equal_those_of_a_plain_loop_one_by_one(checkpoint, expected):
    """The same rows in the same order, but each example alone through transformers' own loss, with its labels and its attention."""
    model, data = models.load_causal(checkpoint).train(), dialogues()
    decayed = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in model.parameters() if parameter.dim() == 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}])
    batches, found = loop.Epochs(data, CONFIG, pad_id=0, seed=3), []
    for step in range(20):
        chosen = [number for row in batches.step(step) for number in row]
        pairs = [(data.input_ids[a:b], data.labels[a:b]) for a, b in ((data.offsets[i], data.offsets[i + 1]) for i in chosen)]
        total = sum(int((labels[1:] != IGNORE_INDEX).sum()) for _, labels in pairs)
        loss = sum(
            model(input_ids=torch.tensor(ids[None]).long(), labels=torch.tensor(labels[None]).long()).loss
            * int((labels[1:] != IGNORE_INDEX).sum())
            for ids, labels in pairs
        )
        (loss / total).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = loop.rate(CONFIG, step, 20)
        optimizer.step()
        optimizer.zero_grad()
        found.append(float(loss.detach()) / total)
    assert expected[0] == pytest.approx(found, rel=1e-4)


def test_one_example_a_row_has_the_same_loss_as_packed_ones(checkpoint, tmp_path):
    """Of the same examples: an epoch in one step."""
    for packing in (True, False):
        train(checkpoint, tmp_path / f"{packing}", changed(packing=packing, rows=200, max_steps=20, learning_rate=1e-3))
    assert losses(tmp_path / "True") == pytest.approx(losses(tmp_path / "False"), rel=1e-4)


def needs_deepspeed():
    pytest.importorskip("deepspeed", reason="needs the extra [deepspeed]")
    if not shutil.which("c++"):
        pytest.skip("on CPUs DeepSpeed compiles a part of itself; there is no C++ compiler")


def torchrun(tmp_path, checkpoint, name, stop_after="", **changes):
    """Two processes train; returns the exit status."""
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(changed(**changes)))
    arguments = [str(checkpoint), str(tmp_path / name), str(tmp_path / "config.json"), str(stop_after)]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", __file__, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "DS_BUILD_OPS": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    if not stop_after:
        assert done.returncode == 0, done.stderr[-3000:]
    return done.returncode


@pytest.mark.parametrize("sharding", ["none", "fsdp2", "zero2", "zero3"])
def test_two_processes_train_as_one_and_go_on_after_a_kill(sharding, checkpoint, expected, tmp_path):
    if sharding.startswith("zero"):
        needs_deepspeed()
    torchrun(tmp_path, checkpoint, "whole", rows=4, devices=2, sharding=sharding)
    assert losses(tmp_path / "whole") == pytest.approx(expected[0], rel=1e-4)
    weights = torch.load(tmp_path / "whole" / "weights.pt", weights_only=True)
    for name, parameter in expected[1].items():
        assert torch.allclose(weights[name], parameter, atol=2e-4), name
    assert torchrun(tmp_path, checkpoint, "broken", stop_after=17, rows=4, devices=2, sharding=sharding)
    assert steps(tmp_path / "broken" / SCRATCH) == [14]
    torchrun(tmp_path, checkpoint, "broken", rows=4, devices=2, sharding=sharding)
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")


def test_a_micro_batch_is_cut_where_there_are_more_processes_than_micro_batches(checkpoint, expected, tmp_path):
    torchrun(tmp_path, checkpoint, "cut", rows=8, max_steps=4)
    assert losses(tmp_path / "cut") == pytest.approx(expected[0][:4], rel=1e-4)


def test_accumulation_over_two_processes(checkpoint, expected, tmp_path):
    torchrun(tmp_path, checkpoint, "ragged", rows=3, accumulation=4, devices=2, sharding="fsdp2", max_steps=4)
    train(checkpoint, tmp_path / "alone", changed(rows=24, max_steps=4))  # 24 rows a step, and fewer in an epoch: the last is ragged
    assert losses(tmp_path / "ragged") == pytest.approx(losses(tmp_path / "alone"), rel=1e-4)


@pytest.mark.parametrize("sharding", ["none", "fsdp2", "zero2"])
def test_adapters_over_two_processes(sharding, checkpoint, tmp_path):
    pytest.importorskip("peft", reason="needs the extra [lora]")
    if sharding.startswith("zero"):
        needs_deepspeed()
    lora = Lora(rank=4, alpha=8)
    model, _ = train(checkpoint, tmp_path / "alone", changed(lora=lora, max_steps=6, save_steps=3))
    torchrun(tmp_path, checkpoint, "two", rows=4, devices=2, sharding=sharding, lora=lora, max_steps=6, save_steps=3)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "alone"), rel=1e-4)
    weights = torch.load(tmp_path / "two" / "weights.pt", weights_only=True)
    for name, parameter in model.named_parameters():
        assert torch.allclose(weights[name], parameter, atol=2e-4), name


def qwen(folder, checkpoint):
    """Qwen2 with shared key heads, biases on q, k and v, and an untied head."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    shape = dict(vocab_size=400, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64)
    model = Qwen2ForCausalLM(Qwen2Config(**shape, max_position_embeddings=256, eos_token_id=2, pad_token_id=0))
    tokenizer, template = models.load_tokenizer(checkpoint)
    models.save(model, tokenizer, template, folder)
    return folder


def test_qwen_trains_packed_as_by_transformers_alone(checkpoint, tmp_path):
    folder, data = qwen(tmp_path / "qwen", checkpoint), dialogues()
    config = changed(max_steps=1, weight_decay=0.0)
    model, _ = train(folder, tmp_path / "out", config)
    plain = models.load_causal(folder).train()
    chosen = [number for row in loop.Epochs(data, config, pad_id=0, seed=3).step(0) for number in row]
    total, loss = 0, torch.zeros(())
    for a, b in (data.offsets[number : number + 2] for number in chosen):
        ids, labels = (torch.tensor(each[a:b][None]).long() for each in (data.input_ids, data.labels))
        count = int((labels[:, 1:] != IGNORE_INDEX).sum())
        loss, total = loss + plain(input_ids=ids, labels=labels).loss * count, total + count
    assert losses(tmp_path / "out") == [pytest.approx(float(loss / total), rel=1e-5)]
    (loss / total).backward()
    torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=CONFIG.learning_rate, weight_decay=0.0)
    optimizer.step()
    # AdamW's first step is as long for a tiny gradient as for a large one, and rounding decides the sign of the tiniest: most must agree
    moved = [(one - two).abs().mean() for one, two in zip(model.parameters(), plain.parameters(), strict=True)]
    assert max(moved) < 0.02 * CONFIG.learning_rate


@settings(max_examples=30)
@given(lengths=st.lists(st.integers(1, 300), min_size=1, max_size=5), heads=st.sampled_from([(2, 2), (4, 2)]), seed=st.integers(0, 99))
def test_attention_of_packed_examples_equals_each_alone(lengths, heads, seed):
    random = torch.Generator().manual_seed(seed)
    num_heads, shared = heads
    total = sum(lengths) + 3  # and some padding
    query = torch.randn(2, num_heads, total, 8, generator=random, requires_grad=True)
    key, value = (torch.randn(2, shared, total, 8, generator=random, requires_grad=True) for _ in range(2))
    edges = np.cumsum([0, *lengths]).tolist()
    spans = [(row, a, b) for row in range(2) for a, b in pairwise(edges)]
    out, _ = attention.attention(torch.nn.Module(), query, key, value, None, spans=spans)
    other = torch.zeros_like(out)
    for row, a, b in spans:
        one = (tensor[row : row + 1, :, a:b] for tensor in (query, key, value))
        other[row, a:b] = scaled_dot_product_attention(*one, is_causal=True, enable_gqa=True)[0].transpose(0, 1)
    assert torch.allclose(out, other, atol=1e-5)
    weights = torch.randn(out.shape, generator=random)
    for one, two in zip(
        torch.autograd.grad((out * weights).sum(), (query, key, value)),
        torch.autograd.grad((other * weights).sum(), (query, key, value)),
        strict=True,
    ):
        assert torch.allclose(one, two, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_on_cuda_is_asked_for_the_same(dtype, monkeypatch):
    """Its arguments and its result, with the kernel written out: there may be no GPU."""

    def kernel(query, key, value, bounds, _, longest, __, *, scale, window_size, enable_gqa):
        assert window_size == (-1, 0) and longest == int(bounds.diff().max()) and bounds[-1] == len(query)
        parts = []
        for start, stop in pairwise(bounds.tolist()):
            one = (tensor[None, start:stop].transpose(1, 2) for tensor in (query, key, value))
            parts.append(scaled_dot_product_attention(*one, is_causal=True, scale=scale, enable_gqa=enable_gqa)[0].transpose(0, 1))
        return torch.cat(parts)

    monkeypatch.setattr(attention, "varlen_attn", kernel)
    query, key, value = (torch.randn(2, heads, 40, 8).to(dtype) for heads in (4, 2, 2))
    spans = [(0, 0, 9), (0, 9, 30), (1, 0, 40)]
    found = attention._on_cuda(query, key, value, spans, 0.3)
    expected, _ = attention.attention(torch.nn.Module(), query, key, value, None, spans=spans, scaling=0.3)
    for row, start, stop in spans:
        assert torch.allclose(found[row, start:stop], expected[row, start:stop], atol=1e-5 if dtype == torch.float32 else 0.05)


def test_long_examples_are_computed_again_with_the_same_gradients(monkeypatch):
    tensors = [torch.randn(1, 2, 700, 8, requires_grad=True) for _ in range(3)]
    found = []
    for kept in (512, 1024):
        monkeypatch.setattr(attention, "KEPT", kept)
        out, _ = attention.attention(torch.nn.Module(), *tensors, None, spans=[(0, 0, 700)])
        found.append(torch.autograd.grad(out.square().sum(), tensors))
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


@pytest.mark.parametrize("count", [0, 1, 700])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_head_loss_equals_cross_entropy(count, dtype, monkeypatch):
    monkeypatch.setattr("medchatzh.train.losses.CHUNK_BYTES", {"cpu": 4 * 50 * 128})
    monkeypatch.setattr("medchatzh.train.losses.GROUP_BYTES", {"cpu": 4 * 50 * 256})  # 700 rows: chunks of 128, groups of 256 or 512
    torch.manual_seed(0)
    hidden, head = torch.randn(count, 16, requires_grad=True), torch.nn.Linear(16, 50, bias=False)
    targets = torch.randint(0, 50, (count,))
    results = []
    for way in (head_loss, lambda hidden, head, targets: cross_entropy(head(hidden).float(), targets, reduction="sum")):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = way(hidden, head, targets)
        results.append((loss, *torch.autograd.grad(loss * 0.3, (hidden, head.weight))))
    assert results[0][0].dtype == torch.float32
    for one, two in zip(*results, strict=True):
        assert torch.allclose(one, two, rtol=1e-5 if dtype == torch.float32 else 2e-2, atol=1e-4 if dtype == torch.float32 else 0.1)


def test_a_head_with_a_bias_is_called_as_it_is():
    torch.manual_seed(0)
    hidden, head = torch.randn(9, 16), torch.nn.Linear(16, 50)
    targets = torch.randint(0, 50, (9,))
    assert torch.equal(head_loss(hidden, head, targets), cross_entropy(head(hidden), targets, reduction="sum"))


def test_noise_changes_training_by_seed_alone(checkpoint, expected, tmp_path):
    for name in ("one", "two"):
        train(checkpoint, tmp_path / name, changed(neftune_alpha=15.0))
    assert losses(tmp_path / "one") == losses(tmp_path / "two") != expected[0]
    assert losses(tmp_path / "one")[-1] == pytest.approx(expected[0][-1], rel=0.2)


def test_lora_learns_and_its_merged_weights_answer_alike(checkpoint, expected, tmp_path):
    pytest.importorskip("peft", reason="needs the extra [lora]")
    config = changed(lora=Lora(rank=8, alpha=32), learning_rate=5e-2, max_steps=40)
    model, facts = train(checkpoint, tmp_path, config)
    found = losses(tmp_path)
    assert found[0] == expected[0][0] and min(found[-9:]) < found[0] - 0.02 and facts["lora_merge_difference"] < 1e-5
    before = models.load_causal(checkpoint).state_dict()
    differing = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert differing and all("_proj" in name for name in differing)
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
    train(checkpoint, tmp_path / "whole", changed(lora=config.lora, learning_rate=5e-2, max_steps=10))
    assert losses(tmp_path / "whole")[:3] == pytest.approx(found[:3], rel=0.1)


if __name__ == "__main__":
    folder, out, settings_file, stop_after = sys.argv[1:]
    trained, _ = train(
        Path(folder),
        Path(out),
        msgspec.json.decode(Path(settings_file).read_bytes(), type=Optimization),
        int(stop_after) if stop_after else None,
    )
    if os.environ["RANK"] == "0":
        torch.save(trained.state_dict(), Path(out) / "weights.pt")
