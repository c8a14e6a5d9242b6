"""Memory a device by part, at the worst moment of a step. Follows `train/engines.py` and `train/losses.py`.

Four moments are compared: the head's loss (all activations there), the beginning of the backward pass, its end (all gradients there), and
the optimizer's step. N parameters, P of them trained, D processes; bytes throughout.
"""

from __future__ import annotations

from typing import NamedTuple

from medchatzh.forecast.activations import Kept
from medchatzh.forecast.devices import GIB
from medchatzh.forecast.shapes import Shape
from medchatzh.train import losses
from medchatzh.train.optimization import Optimization

BUCKET = 500_000_000
"""Parameters that DeepSpeed reduces at a time (`reduce_bucket_size`; config.py of deepspeed 0.19)."""
LIVE = 1_000_000_000
"""Parameters that ZeRO-3 keeps gathered (`stage3_max_live_parameters`)."""
CUDA_BYTES = 0.7 * GIB
"""CUDA's context and cuBLAS's workspace."""
NCCL_BYTES = 1.0 * GIB
CUDA_FRAGMENTS = 0.06
"""Of what comes and goes, what the caching allocator cannot use again."""
CPU_BYTES = 280e6
CPU_LAYERS = 2.9
"""oneDNN's primitives for the shapes seen so far, and holes in glibc's heap: bytes, and layers of activations. Fitted to the first eight
runs of benchmarks/training/memory.py (largest difference 6 %); on the three others it is 4 to 16 % off. A run repeated differs by up to 7 %
itself: where tensors of changing sizes find room is chance."""
_LOGITS = 4.25
"""Times the fp32 logits of a chunk: in 16 bits, in fp32 twice (the last chunk's are there yet), as softmax reads them, their slopes."""
_DPO_TOKENS = 1024
"""Tokens whose logits are in memory at a time in `train/dpo.py`."""
_WORK = 0.5
"""Of what a layer keeps: what its backward pass needs besides (14 layers of 768 under gradient checkpointing, profiled: 0.45)."""
_NF4 = 0.55
"""Bytes a weight in 4 bits, with its scales (QLoRA, section 3)."""


class Micro(NamedTuple):
    """A micro batch of one device."""

    tokens: int
    targets: int
    """Tokens that the head is asked about."""
    kept: Kept


def parts(
    shape: Shape, config: Optimization, num_trained: int, micro: Micro, *, processes: int, is_cuda: bool, half: bool, is_dpo: bool = False
) -> dict[str, float]:
    """Part → bytes, at the worst moment; `half` for 16-bit arithmetic. Their sum is what the device must hold."""
    moments = _moments(shape, config, num_trained, micro, processes, is_cuda, half, is_dpo)
    worst = max(moments, key=lambda moment: sum(moment.values()))
    if not is_cuda:
        return worst | {"runtime": CPU_BYTES + CPU_LAYERS * micro.kept.layer}
    comes_and_goes = sum(worst.values()) - worst["weights"] - worst["optimizer"]
    runtime = CUDA_BYTES + (NCCL_BYTES if processes > 1 else 0)
    return worst | {"runtime": runtime + comes_and_goes * CUDA_FRAGMENTS}


def lasting(shape: Shape, config: Optimization, num_trained: int, processes: int, half: bool) -> tuple[float, float]:
    """(weights, optimizer states with fp32 masters) that a device holds all the time."""
    total, sharing = shape.num_parameters, config.sharding
    share = 1 if sharing == "none" else processes
    if config.lora.quantized:
        weights = _NF4 * shape.in_matrices + 4 * (total - shape.in_matrices) + 4 * num_trained
    elif sharing in ("zero2", "zero3"):
        weights = (2 if half else 4) * _all(shape, config, num_trained) / (processes if sharing == "zero3" else 1)
    else:
        weights = 4 * _all(shape, config, num_trained) / share
    masters = 4 * num_trained / share if sharing in ("zero2", "zero3") else 0
    return weights, 8 * num_trained / share + masters


def _all(shape: Shape, config: Optimization, num_trained: int) -> int:
    return shape.num_parameters + (num_trained if config.lora.rank else 0)


def _moments(
    shape: Shape, config: Optimization, num_trained: int, micro: Micro, processes: int, is_cuda: bool, half: bool, is_dpo: bool
) -> list[dict[str, float]]:
    sharing, kept, layers = config.sharding, micro.kept, shape.num_layers
    is_full = not config.lora.rank
    trained_head = shape.head if is_full else 0
    width = 2 if half else 4
    weights, optimizer = lasting(shape, config, num_trained, processes, half)
    base = {"weights": weights, "optimizer": optimizer}

    through = kept.between if config.gradient_checkpointing else kept.layer
    passing = layers * through + kept.rest
    one = (1 + _WORK) * kept.layer if config.gradient_checkpointing else _WORK * kept.layer
    head = _head(shape, micro, trained_head, is_cuda, half, fused=sharing != "zero3")

    copies = buffers = 0.0
    ending: dict[str, float]
    step: dict[str, float]
    in_layer = shape.in_layers / layers
    outside = shape.num_parameters - shape.in_layers
    if sharing == "none":
        copies = 2 * (shape.in_matrices + (0 if shape.is_reward else shape.head)) if half else 0
        gradients = 4.0 * num_trained
        always = gradients if processes > 1 or config.accumulation > 1 else 0  # DDP's buckets stay; else gradients go after each step
        ending = {"gradients": gradients + (4 * shape.embedding if shape.is_tied and is_full else 0)}
        step = {"gradients": gradients}
    elif sharing == "fsdp2":
        buffers = width * (outside + 2 * in_layer)  # a layer is gathered while the one before it works
        gradients = 4 * num_trained / processes
        always = gradients if config.accumulation > 1 else 0
        reducing = (width + 4) * (max(outside, in_layer) if is_full else 0)
        ending = {"gradients": gradients, "buffers": buffers + reducing}
        step = {"gradients": gradients}
    else:
        bucket = width * min(BUCKET, num_trained)
        gradients = width * num_trained / processes
        always = gradients if config.accumulation > 1 else 0
        if sharing == "zero3":
            buffers = width * min(LIVE, shape.num_parameters)
        ending = {"gradients": gradients, "buffers": buffers + 2 * bucket}
        step = {"gradients": gradients, "buffers": buffers + 4 * num_trained / processes}  # the shard's gradients in fp32

    shared = base | {"gradients": always, "buffers": buffers}
    # Under gradient checkpointing autocast forgets its copies when the forward pass ends; without it the graph holds them.
    later = copies / layers if config.gradient_checkpointing else copies
    return [
        shared | {"activations": passing, "copies": copies, "head": head},
        shared | {"activations": passing + one, "copies": later, "head": 8 * trained_head},
        base | ending | {"activations": kept.rest + one + kept.layer * (not config.gradient_checkpointing), "copies": copies / layers},
        base | step,
    ]


def _head(shape: Shape, micro: Micro, trained_head: int, is_cuda: bool, half: bool, *, fused: bool) -> float:
    """What the loss needs: logits by the chunk and the head's gradient in fp32; or all logits, where ZeRO-3 has the head elsewhere."""
    if shape.is_reward:
        return 4.0 * shape.head
    asked = micro.targets * shape.hidden_size * (8 if half else 12)
    logits = 4.0 * micro.targets * shape.vocab_size
    if not fused:
        return asked + logits * (3.5 if half else 3)  # as they are, in fp32, their logarithms, their gradients
    kind = "cuda" if is_cuda else "cpu"
    chunk = min(losses.CHUNK_BYTES[kind], logits)
    slopes = min(losses.GROUP_BYTES[kind], logits / 2 if half else logits)
    return asked + 4 * trained_head + (2 * trained_head if half else 0) + _LOGITS * chunk + slopes
