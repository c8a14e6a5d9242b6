"""THE training loop. Pre-training, reward model and SFT give it batches and a loss; it gives them a trained model.

The loss of a step is the sum over its micro batches divided by all they supervise, so 8 × 1 rows train as 1 × 8.
Resuming goes on from the last state: weights, optimizer, random numbers; the data's position is the step's number.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np

from medchatzh import models
from medchatzh.models.packing import Batch, Examples, assemble, pack, tensors
from medchatzh.prompt import IGNORE_INDEX
from medchatzh.run import SCRATCH, Context, Progress
from medchatzh.train.optimization import Optimization

if TYPE_CHECKING:
    import torch

METRICS = "metrics.jsonl"


class Batches(Protocol):
    """Micro batches by step number, a pure function of it."""

    steps_per_epoch: int

    def step(self, number: int) -> list[Batch]: ...


class Epochs:
    """Packed micro batches by step, a pure function of (seed, step): resuming needs no data state but the step's number."""

    def __init__(self, examples: Examples, config: Optimization, *, pad_id: int, seed: int) -> None:
        self._examples, self._config, self._pad_id, self._seed = examples, config, pad_id, seed
        self._rows_a_step = config.rows * config.accumulation
        self._epoch = -1
        self._packed: list[list[int]] = []
        # The number of rows differs a little between epochs (another order packs otherwise); the first one sets the length.
        self.steps_per_epoch = max(1, -(-len(self._rows_of(0)) // self._rows_a_step))

    def _rows_of(self, epoch: int) -> list[list[int]]:
        if epoch != self._epoch:
            order = np.random.default_rng((self._seed, epoch)).permutation(len(self._examples))
            self._packed, self._epoch = pack(self._examples.lengths, order, self._config.row_tokens), epoch
        return self._packed

    def step(self, number: int) -> list[Batch]:
        """The micro batches of optimizer step `number` (from 0)."""
        epoch, within = divmod(number, self.steps_per_epoch)
        packed = self._rows_of(epoch)
        size, micro = self._rows_a_step, self._config.rows
        last = within == self.steps_per_epoch - 1
        rows = packed[within * size :] if last else packed[within * size : (within + 1) * size]
        rows = rows or packed[-size:]
        return [
            assemble(self._examples, rows[start : start + micro], self._config.row_tokens, self._pad_id)
            for start in range(0, len(rows), micro)
        ]


Loss = Callable[[models.Model, Batch], "torch.Tensor"]
"""(model, micro batch) → the *sum* of the loss over what the micro batch supervises, a scalar."""


def rate(config: Optimization, step: int, num_steps: int) -> float:
    """Learning rate of a step (from 0)."""
    warm = max(1, round(config.warmup * num_steps))
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    if config.schedule == "constant":
        return config.learning_rate
    progress = (step - warm) / max(1, num_steps - warm)
    return config.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))


def train(
    model: models.Model,
    batches: Batches,
    loss: Loss,
    weight: Callable[[Batch], float],
    config: Optimization,
    out: Path,
    context: Context,
    label: str,
) -> dict[str, Any]:
    """Train in place; returns facts for the manifest. `weight` counts what a micro batch supervises (tokens, rankings).

    Writes `metrics.jsonl` (a line a step). States lie in the scratch folder, the last one too: a kill after the last step costs nothing.
    ValueError where the loss is no longer a number.
    """
    import torch

    models.set_threads(context.threads)
    device = models.device()
    model.train()
    torch.nn.Module.to(model, device)
    decayed = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.dim() > 1]
    plain = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
    num_steps = config.num_steps(batches.steps_per_epoch)
    torch.manual_seed(context.seed)
    done, log = restore(model, optimizer, out / SCRATCH)
    with Progress(label, total=num_steps, unit="steps", initial=done) as progress:
        for step in range(done, num_steps):
            micro_batches = batches.step(step)
            total = sum(weight(batch) for batch in micro_batches)
            learning_rate = rate(config, step, num_steps)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            step_loss = 0.0
            for batch in micro_batches:
                with models.autocast(config.precision):
                    part = loss(model, batch) / max(total, 1e-9)
                part.backward()
                step_loss += float(part.detach())
            if not math.isfinite(step_loss):
                raise ValueError(
                    f"{label}: the loss is {step_loss} at step {step}; lower learning_rate (now {config.learning_rate:g}) or raise warmup"
                )
            norm = float(torch.nn.utils.clip_grad_norm_(decayed + plain, config.max_grad_norm))
            optimizer.step()
            optimizer.zero_grad()
            log.append(
                {
                    "step": step + 1,
                    "loss": round(step_loss, 6),
                    "learning_rate": learning_rate,
                    "grad_norm": round(norm, 5),
                    "tokens": sum(batch.input_ids.size for batch in micro_batches),
                }
            )
            progress.add(loss=f"{step_loss:.3f}")
            if (step + 1) % config.save_steps == 0 or step + 1 == num_steps:
                save_state(model, optimizer, log, out / SCRATCH, step + 1)
    write_log(log, out / METRICS)
    facts = {
        "num_parameters": models.num_parameters(model),
        "num_steps": num_steps,
        "num_tokens": sum(entry["tokens"] for entry in log),
    }
    if log:
        facts["loss_first"] = log[0]["loss"]
        facts["loss_last"] = round(sum(entry["loss"] for entry in log[-20:]) / len(log[-20:]), 4)
    return facts


def write_log(log: list[dict[str, Any]], path: Path) -> None:
    path.write_bytes(b"".join(msgspec.json.encode(entry) + b"\n" for entry in log))


def save_state(model: models.Model, optimizer: torch.optim.Optimizer, log: list[dict[str, Any]], scratch: Path, step: int) -> None:
    """Write `state-<step>` aside, rename it, then drop the older ones: a full disk or a kill leaves the last good one."""
    import torch
    from safetensors.torch import save_file

    aside = scratch / "aside"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    tensors = {f"model.{name}": parameter.detach() for name, parameter in model.named_parameters()}
    for number, parameter in enumerate(_parameters(optimizer)):
        tensors |= {f"optimizer.{number}.{key}": value for key, value in optimizer.state[parameter].items()}
    tensors["random"] = torch.get_rng_state()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, aside / "state.safetensors")
    write_log(log, aside / METRICS)
    older = list(scratch.glob("state-*"))
    aside.replace(scratch / f"state-{step}")
    for state in older:
        shutil.rmtree(state)


def restore(model: models.Model, optimizer: torch.optim.Optimizer, scratch: Path) -> tuple[int, list[dict[str, Any]]]:
    """Load the newest state, if any; returns (steps done, their log)."""
    import torch
    from safetensors.torch import load_file

    states = {int(state.name.removeprefix("state-")): state for state in scratch.glob("state-*")}
    if not states:
        return 0, []
    step = max(states)
    tensors = load_file(states[step] / "state.safetensors", device=str(model.device))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.data.copy_(tensors[f"model.{name}"])
    for number, parameter in enumerate(_parameters(optimizer)):
        prefix = f"optimizer.{number}."
        optimizer.state[parameter] = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    torch.set_rng_state(tensors["random"].cpu())
    lines = (states[step] / METRICS).read_bytes().splitlines()
    return step, [msgspec.json.decode(line) for line in lines]


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def causal_loss(model: models.Model, batch: Batch) -> torch.Tensor:
    """Summed cross-entropy over the supervised positions. The head runs on those alone: in SFT half the positions are questions."""
    import torch

    targets = torch.from_numpy(batch.targets).to(model.device)
    hidden = model.model(**tensors(batch, model.device), use_cache=False).last_hidden_state
    supervised = targets != IGNORE_INDEX
    logits = model.lm_head(hidden[supervised])
    return torch.nn.functional.cross_entropy(logits.float(), targets[supervised], reduction="sum")


def held_out_loss(model: models.Model, held_out: Examples, pad_id: int, config: Optimization) -> float:
    """Cross-entropy a supervised token on held-out examples, in nats; NaN where there are none."""
    import torch

    model.eval()
    total, count = 0.0, 0
    packed = pack(held_out.lengths, range(len(held_out)), config.row_tokens)
    with torch.inference_mode(), models.autocast(config.precision):
        for start in range(0, len(packed), config.rows):
            batch = assemble(held_out, packed[start : start + config.rows], config.row_tokens, pad_id)
            total += float(causal_loss(model, batch))
            count += batch.num_targets
    return total / count if count else math.nan


def counts(**dropped: int) -> dict[str, int]:
    """Drops by reason, those that happened."""
    return {reason: count for reason, count in dropped.items() if count}


def rounded(value: float) -> float | None:
    """A figure for the manifest; None where there was nothing to measure."""
    return round(value, 4) if math.isfinite(value) else None
