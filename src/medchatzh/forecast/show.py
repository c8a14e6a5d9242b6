"""A forecast as text, Chinese beside English."""

from __future__ import annotations

from collections.abc import Sequence
from unicodedata import east_asian_width

from medchatzh.forecast.devices import GIB
from medchatzh.forecast.stage import Forecast, Ground

_PARTS = {
    "weights": "权重 weights",
    "gradients": "梯度 gradients",
    "optimizer": "优化器状态 optimizer states",
    "activations": "激活 activations",
    "copies": "16 位副本 16-bit copies",
    "head": "词表损失 logits and loss",
    "buffers": "通信与聚合 gathered, buckets",
    "runtime": "运行时与碎片 runtime, fragments",
}
_STAGES = {"pretrain": "继续预训练 pretrain", "reward": "奖励模型 reward", "sft": "指令微调 sft", "dpo": "偏好优化 dpo"}


def text(made: Sequence[Forecast], ground: Ground, notes: Sequence[str]) -> str:
    """What `medchatzh plan` prints."""
    device = ground.device
    nodes = f" × {ground.nodes} 节点 nodes" if ground.nodes > 1 else ""
    lines = [
        f"{device.name} × {ground.devices}{nodes}: {device.tflops:g} TFLOP/s (16 位 16-bit), {device.memory_gib:.0f} GiB;"
        f" 效率 efficiency {ground.efficiency:.0%}",
        f"  {device.source}",
        *(f"  {note}" for note in notes),
    ]
    for one in made:
        lines += ["", *_stage(one)]
    hours = sum(one.hours for one in made)
    disk = sum(sum(one.disk_bytes.values()) for one in made)
    lines += ["", f"合计 total: {_hours(hours)}, {ground.processes * hours:,.1f} 卡时 device hours, {disk / 1e9:,.1f} GB 磁盘 disk"]
    return "\n".join(lines)


def _stage(made: Forecast) -> list[str]:
    unit = "组 rankings" if made.stage in ("reward", "dpo") and made.lesson != "instruct" else "行 rows"
    lesson = f": {made.lesson}" if made.lesson else ""
    share = f" ({made.num_trained / made.num_parameters:.2%})" if made.num_trained != made.num_parameters else ""
    lines = [
        f"== {_STAGES[made.stage]}{lesson}",
        _row("模型 model", f"{made.model}: {made.num_parameters:,} 参数 parameters"),
        _row("训练 trained", f"{made.num_trained:,}{share}"),
        _row("数据 data", f"{made.num_examples:,} 例 examples, {made.num_tokens:,} 词元 tokens, {made.num_units:,} {unit} (每轮 an epoch)"),
        _row("", made.basis),
        _row(
            "步 steps",
            f"{made.num_steps:,} × {made.units_a_step} {unit}; 每卡 {made.micro_batches} 微批 micro batches; 共 {made.num_trained_tokens:,}"
            " 词元 tokens in all",
        ),
        _row("计算 work", f"{made.flops:.2e} FLOP → {_hours(made.hours)}"),
        _row("显存 memory", f"{made.peak_bytes / GIB:.2f} / {made.device_bytes / GIB:.0f} GiB 每卡 a device {'✓' if made.fits else '✗'}"),
    ]
    lines += [_row("", f"{size / GIB:10.2f}  {_PARTS[part]}") for part, size in made.memory_bytes.items() if size >= 0.005 * GIB]
    if made.host_bytes:
        lines.append(
            _row("主存 host", f"{made.host_bytes / GIB:.0f} GiB 每节点 a node: 每个进程先以 fp32 读入 each process reads fp32 weights")
        )
    disk = ", ".join(f"{name} {size / 1e9:,.1f}" for name, size in made.disk_bytes.items() if size)
    lines.append(_row("磁盘 disk", f"{sum(made.disk_bytes.values()) / 1e9:,.1f} GB: {disk}"))
    for warned in made.warnings:
        mark = "✗ 错误 error" if warned.level == "error" else "! 注意 warning"
        lines.append(f"  {mark}: {warned.text}")
        if warned.remedy:
            lines.append(f"      → {warned.remedy}")
    return lines


def _row(label: str, value: str) -> str:
    width = sum(2 if east_asian_width(char) in "WF" else 1 for char in label)
    return f"  {label}{' ' * (16 - width)}{value}"


def _hours(hours: float) -> str:
    if hours < 1:
        return f"{hours * 60:.1f} 分钟 minutes"
    return f"{hours:,.1f} 小时 hours" if hours < 72 else f"{hours / 24:,.1f} 天 days"
