"""Checks of a recipe's settings against the machine, the model and the amount of data."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

from medchatzh.doctor import estimate
from medchatzh.doctor.finding import Seen, check
from medchatzh.doctor.machine import GB, install

if TYPE_CHECKING:
    from medchatzh.doctor.subject import Subject
    from medchatzh.train.optimization import Optimization

HIGH = 4.0
"""How many times the rate of arXiv:2001.08361 a peak may be: the quickstart's 3e-3 at 1.3 M parameters is 2.4 times it and sound, 7 B
with the paper's 2e-4 are 2.6 times it, and 7 B with 3e-3 forty times."""
_HOURS = 2.0
"""Work that a kill may cost."""


@check("配方读不了", "按提示改正配方")
def recipe(subject: Subject) -> Iterator[Seen]:
    """The recipe is missing, is no TOML, or holds an unknown key or a value out of range."""
    if subject.problem:
        what = subject.problem.removeprefix(f"{subject.path}: ")
        yield "error", str(subject.path), what, "correct it; docs/recipe.md lists every setting"


@check("运行目录被占用", "等它结束，或用 --runs 换目录")
def locked_run(subject: Subject) -> Iterator[Seen]:
    """Another medchatzh is working in the run folder."""
    lock = subject.runs / ".lock"
    if not lock.is_file():
        return
    import fcntl  # not on Windows, which another check tells

    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            yield "error", str(subject.runs), "another medchatzh is working there", "wait for it, or give another folder with --runs"


@check("本机没有配方所需的 CUDA", "换有 NVIDIA 显卡的机器，或改用 CPU 可用的设置")
def missing_cuda(subject: Subject) -> Iterator[Seen]:
    """The recipe wants what only CUDA has (4 bits, FlashAttention, Liger), or several devices, and there is no GPU."""
    if subject.machine.gpus:
        return
    for stage, config in subject.training.items():
        if config.lora.quantized:
            yield "error", f"{stage}.lora.quantized", "weights in 4 bits need CUDA, and there is none", "leave it out, or take a GPU"
        if config.attention == "flash":
            yield "error", f"{stage}.attention", "FlashAttention needs CUDA, and there is none", f'set {stage}.attention = "auto"'
        if config.kernels == "liger":
            yield "error", f"{stage}.kernels", "Liger's kernels need CUDA, and there is none", f'set {stage}.kernels = "auto"'
        if config.devices > 1:
            what = f"the recipe counts on {config.devices} devices, and there is no GPU here: one CPU would do the work of all"
            yield "warning", f"{stage}.devices", what, f"launch it on {config.devices} GPUs, or set {stage}.devices = 1"


@check("fp16 需要 CUDA", '把 precision 设为 "auto"')
def fp16_on_cpu(subject: Subject) -> Iterator[Seen]:
    """fp16 on a machine without CUDA."""
    for stage, config in subject.training.items():
        if config.precision == "fp16" and not subject.machine.gpus:
            yield "error", f"{stage}.precision", "fp16 needs CUDA, and there is none", f'set {stage}.precision = "auto"'


@check("fp16 配高学习率，损失易成 NaN", '改用 bf16（precision = "auto"），或把学习率降到 1e-4 以下')
def fp16_learning_rate(subject: Subject) -> Iterator[Seen]:
    """fp16 with a learning rate above what is usual for the size, 1e-4 for 7 B (LoRA: ten times that): the commonest way to NaN."""
    for stage, config in subject.training.items():
        bound = max(1e-4, _usual(subject.num_parameters or 7e9)) * (10 if config.lora.rank else 1)
        if config.precision == "fp16" and config.learning_rate > bound:
            what = f"fp16 with a peak of {config.learning_rate:g}: its range ends at 65,504, and the loss easily becomes NaN"
            yield "warning", f"{stage}.learning_rate", what, f'set {stage}.precision = "auto" (bf16), or a peak of at most {bound:.0e}'


@check("底座以 bf16 训练，用 fp16 会溢出", '把 precision 设为 "auto" 或 "bf16"')
def fp16_of_bf16_base(subject: Subject) -> Iterator[Seen]:
    """fp16 for a base that was trained in bf16: activations beyond 65,504 become infinite (Qwen, LLaMA 3)."""
    if not subject.base:
        return
    stored = str(subject.base.config.get("torch_dtype") or subject.base.config.get("dtype") or "")
    for stage, config in subject.training.items():
        if config.precision == "fp16" and stored.endswith("bfloat16"):
            what = f"fp16, and {subject.base.path} is stored in bfloat16, whose range is far wider"
            yield "warning", f"{stage}.precision", what, f'set {stage}.precision = "bf16"'


@check("本机不支持 bf16 加速", '把 precision 设为 "auto"')
def slow_bf16(subject: Subject) -> Iterator[Seen]:
    """bf16 is asked for, and neither the GPUs (before Ampere) nor the processor have it: it is imitated, and slow."""
    machine = subject.machine
    has = all(gpu.has_bf16 for gpu in machine.gpus) if machine.gpus else machine.has_cpu_bf16
    for stage, config in subject.training.items():
        if config.precision == "bf16" and not has:
            what = "this machine has no bf16 arithmetic of its own: it is imitated, slower than fp32"
            yield "warning", f"{stage}.precision", what, f'set {stage}.precision = "auto"'


@check("设置互相矛盾", "按提示改其中一项")
def contradictions(subject: Subject) -> Iterator[Seen]:
    """Settings that cannot work together: fp16 under FSDP2, 4-bit weights that are sharded, LoRA on a model from scratch."""
    for stage, config in subject.training.items():
        if config.precision == "fp16" and config.sharding == "fsdp2":
            remedy = f'set {stage}.precision = "bf16", or sharding = "zero2"'
            yield "error", f"{stage}.sharding", "FSDP2 has no scaled loss, which fp16 needs", remedy
        if config.lora.quantized and config.sharding != "none":
            yield "error", f"{stage}.sharding", "weights in 4 bits cannot be sharded", f'set {stage}.sharding = "none"'
    pretrain = subject.recipe.pretrain
    if "pretrain" in subject.training and pretrain.lora.rank and not pretrain.base:
        what = "LoRA leaves the weights as they are, and those of a model from scratch are random"
        yield "error", "pretrain.lora.rank", what, "set pretrain.base to a checkpoint, or rank = 0"


@check("配方需要的可选软件包未安装", "按提示 pip install")
def missing_extras(subject: Subject) -> Iterator[Seen]:
    """The recipe uses a package that is not installed: deepspeed, peft, bitsandbytes, flash-attn, liger-kernel, tensorboard."""
    for stage, config in subject.training.items():
        wanted = {
            f"{stage}.sharding": {"deepspeed": "'medchatzh[deepspeed]'"} if config.sharding.startswith("zero") else {},
            f"{stage}.lora.rank": {"peft": "'medchatzh[lora]'"} if config.lora.rank else {},
            f"{stage}.lora.quantized": {"bitsandbytes": "'medchatzh[qlora]'"} if config.lora.quantized else {},
            f"{stage}.attention": {"flash-attn": "flash-attn --no-build-isolation"} if config.attention == "flash" else {},
            f"{stage}.kernels": {"liger-kernel": "liger-kernel"} if config.kernels == "liger" else {},
            f"{stage}.tensorboard": {"tensorboard": "'medchatzh[watch]'"} if config.tensorboard else {},
        }
        for setting, packages in wanted.items():
            for package, how in install(subject.machine, packages):
                yield "error", setting, f"needs {package}, which is not installed", how


@check("进程数与配方的设备数不合", "用 medchatzh launch 按配方的设备数启动")
def processes(subject: Subject) -> Iterator[Seen]:
    """More processes or GPUs than a step has rows (rankings) for, so that some idle; sharding with one process alone; no way to talk."""
    machine = subject.machine
    for stage, config in subject.training.items():
        world = machine.world(config.devices)
        if idle := config.idle(world):
            what = f"{world} processes for a step of {config.units_a_step} {config.unit}: {idle:.0%} of their places stay empty"
            yield "warning", f"{stage}.devices", what, f"make {config.unit} × accumulation × devices a multiple of {world}"
        if not machine.num_processes and machine.gpus and len(machine.gpus) != config.devices:
            what = f"the recipe counts on {config.devices} devices, and here are {len(machine.gpus)} GPUs: the same steps, in another time"
            yield "note", f"{stage}.devices", what, f"medchatzh launch --devices {len(machine.gpus)}"
        if config.sharding != "none" and world == 1:
            what = f"{config.sharding} shares out between processes, and here is one device"
            remedy = f'start it with medchatzh launch --devices N, or set {stage}.sharding = "none"'
            yield "warning", f"{stage}.sharding", what, remedy
        backend = "nccl" if machine.gpus else "gloo"
        if (config.devices > 1 or world > 1) and machine.has("torch") and backend not in machine.backends:
            what = f"torch was built without {backend}, through which processes talk"
            yield "error", f"{stage}.devices", what, "install an official build of torch"


@check("学习率对这个规模的模型太高", "按提示降低学习率")
def high_learning_rate(subject: Subject) -> Iterator[Seen]:
    """A peak at which a model of this size diverges: more than four times the rate of arXiv:2001.08361 (D.6); LoRA forty times."""
    for stage, config, usual in _rates(subject):
        bound = usual * HIGH * (10 if config.lora.rank else 1)
        if config.learning_rate > bound:
            what = f"{config.learning_rate:g} for {_size(subject)} parameters: training is likely to diverge"
            yield "warning", f"{stage}.learning_rate", what, f"at most {bound:.0e}; about {usual / 2:.0e} is usual"


@check("学习率对这个规模的模型太低", "按提示提高学习率")
def low_learning_rate(subject: Subject) -> Iterator[Seen]:
    """A peak at which a model of this size learns next to nothing: below a twentieth of that rate from scratch, or, from a trained model,
    below 5e-5 at 1 M parameters and as much less as the root of the size is greater."""
    for stage, config, usual in _rates(subject):
        is_scratch = stage == "pretrain" and not subject.recipe.pretrain.base
        bound = usual / 20 if is_scratch else 5e-5 * math.sqrt(1e6 / subject.num_parameters)
        if config.learning_rate < bound:
            what = f"{config.learning_rate:g} for {_size(subject)} parameters: they hardly move (the paper's rates are for 7 B)"
            yield "warning", f"{stage}.learning_rate", what, f"at least {bound:.0e}; {5 * bound:.0e} is a start"


def _rates(subject: Subject) -> Iterator[tuple[str, Optimization, float]]:
    """(stage, settings, the usual rate), where the size of the model is known."""
    if size := subject.num_parameters:
        yield from ((stage, config, _usual(size)) for stage, config in subject.training.items())


def _usual(num_parameters: float) -> float:
    """Peak for a model of this size, by arXiv:2001.08361, D.6; its line meets zero at 12 B."""
    return max(2e-5, 0.003239 - 0.0001395 * math.log(num_parameters))


def _size(subject: Subject) -> str:
    size = subject.num_parameters
    return f"{size / 1e9:.1f} B" if size >= 1e9 else f"{size / 1e6:.1f} M" if size >= 1e5 else f"{size:,}"


@check("预热占了大半训练", "把 warmup 降到 0.1 以下")
def long_warmup(subject: Subject) -> Iterator[Seen]:
    """The rate rises for half of the run or more: the peak is hardly used."""
    for stage, config in subject.training.items():
        if config.warmup >= 0.5:
            what = f"the rate rises over {config.warmup:.0%} of the steps"
            yield "warning", f"{stage}.warmup", what, f"set {stage}.warmup = 0.05 (a share of the steps, not a number of them)"


@check("步数太少，学不到东西", "减小 rows × accumulation × devices，或增加轮数与数据")
def few_steps(subject: Subject) -> Iterator[Seen]:
    """Fewer than ten optimizer steps: the whole run is warm-up and a few updates."""
    for stage, config in subject.training.items():
        if 0 < (steps := estimate.num_steps(subject, stage)) < 10:
            what = f"about {steps} steps in all"
            remedy = f"max_steps is {config.max_steps}" if config.max_steps else "fewer rows or accumulation, more epochs or data"
            yield "warning", f"{stage}.{'max_steps' if config.max_steps else 'rows'}", what, remedy


@check("轮数太多，会死记硬背", "大模型 1 至 3 轮足够；从头训练不超过 16 轮")
def many_epochs(subject: Subject) -> Iterator[Seen]:
    """More passes over the data than pay: 16 (arXiv:2305.16264), or 5 for a model of 100 M parameters or more, which learns it by heart."""
    for stage, config in subject.training.items():
        bound = 5 if subject.num_parameters >= 1e8 or not subject.num_parameters else 16
        if config.epochs > bound and not config.max_steps:
            what = f"{config.epochs:g} epochs; beyond {bound} a model of this size learns its data by heart"
            yield "warning", f"{stage}.epochs", what, f"set {stage}.epochs = {3 if bound == 5 else bound}, and watch the validation loss"


@check("存档间隔太长，中断损失大", "按提示减小 save_steps")
def rare_states(subject: Subject) -> Iterator[Seen]:
    """So many steps between two resumable states that a kill costs hours."""
    for stage, config in subject.training.items():
        seconds = estimate.seconds_a_step(subject, config)
        lost = min(config.save_steps, estimate.num_steps(subject, stage)) * seconds / 3600
        if lost > _HOURS:
            what = f"{config.save_steps} steps between states are about {lost:.0f} hours here, which a kill would cost"
            yield "warning", f"{stage}.save_steps", what, f"set {stage}.save_steps = {max(1, int(1800 / seconds))} (half an hour)"


@check("显存（内存）不够", "用 LoRA、ZeRO-3/FSDP2、梯度检查点，或减小 rows、row_tokens")
def out_of_memory(subject: Subject) -> Iterator[Seen]:
    """Weights, gradients and AdamW's states do not fit a device, or not with the activations of a micro batch."""
    machine = subject.machine
    if not machine.memory_bytes:
        return
    here = min(gpu.memory_bytes for gpu in machine.gpus) if machine.gpus else machine.memory_bytes
    device = machine.gpus[0].name if machine.gpus else "the memory here"
    for stage, config in subject.training.items():
        states, activations = estimate.device_bytes(subject, config)
        remedy = "lora.rank = 16, sharding over more devices, gradient_checkpointing = true, or smaller rows and row_tokens"
        told = f"{_size(subject)} parameters: states {states / GB:.1f} GB, activations at least {activations / GB:.1f} GB"
        if states > here:
            yield "error", f"{stage}", f"{told}; {device} has {here / GB:.1f} GB", remedy
        elif states + activations > 0.95 * here:
            yield "warning", f"{stage}.rows", f"{told}; {device} has {here / GB:.1f} GB", remedy


@check("磁盘放不下检查点与存档", "腾出空间，或换磁盘（--runs）")
def full_disk(subject: Subject) -> Iterator[Seen]:
    """The disk has no room for the checkpoints of all stages and the resumable states."""
    place = next(path for path in (subject.runs.absolute(), *subject.runs.absolute().parents) if path.exists())
    free, needed = shutil.disk_usage(place).free, estimate.disk_bytes(subject)
    if needed > free:
        what = f"{needed / GB:.1f} GB of checkpoints and states, and {free / GB:.1f} GB are free"
        yield "error", str(place), what, "make room, lower keep_states, or give another disk with --runs"


@check("上下文超过模型的最大位置数", "减小 row_tokens")
def positions(subject: Subject) -> Iterator[Seen]:
    """Rows, or a question and its answer, are longer than the positions that the model knows."""
    most = int(subject.shape.get("max_position_embeddings") or 0)
    if not most:
        return
    for stage, config in subject.training.items():
        if config.row_tokens > most:
            what = f"{config.row_tokens} tokens, and the model knows {most} positions: what lies beyond is noise to it"
            yield "warning", f"{stage}.row_tokens", what, f"set {stage}.row_tokens = {most} or less"
    if (wanted := subject.recipe.generate.decoding.max_new_tokens) >= most:
        what = f"{wanted} new tokens leave no room for a question in {most} positions"
        yield "error", "generate.decoding.max_new_tokens", what, f"set it to {most // 2} or less"


@check("没有留出验证数据", "把 validation_share / held_out 设为 0.02 左右")
def nothing_held_out(subject: Subject) -> Iterator[Seen]:
    """Nothing is held out to measure on: whether the model learns or memorises cannot be told."""
    shares = {"mix.validation_share": subject.recipe.mix.validation_share} if "sft" in subject.training else {}
    held_out = {f"{stage}.held_out": getattr(config, "held_out", 1.0) for stage, config in subject.training.items()}
    for setting, share in (shares | held_out).items():
        if not share:
            yield "warning", setting, "0: no data is left to measure on", f"set {setting} = 0.02"


@check("只学医疗指令，会遗忘通用能力", "在 sft.pools 中加入 general（约一成即可）")
def forgetting(subject: Subject) -> Iterator[Seen]:
    """A trained base learns medical instructions alone, and forgets how to do the rest."""
    if subject.recipe.pretrain.base and "sft" in subject.training and subject.recipe.sft.pools == ("medical",):
        what = "medical instructions alone: what the base could do else is likely to go"
        yield "note", "sft.pools", what, 'add "general"; a tenth of the mix is often enough (mix.general_share = 0.1)'
