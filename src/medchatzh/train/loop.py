"""THE training loop. Pre-training, reward model, SFT and DPO give it batches and a loss; it gives them a trained model.

The loss of a step is the sum over its micro batches, on all processes, divided by all they supervise: 8 × 1 rows train as 1 × 8, and two
processes as one. Batches and random numbers are pure functions of seed and step, so a resumed run needs no data state: what it goes on
from are weights, optimizer and the number of the step.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np

from medchatzh import models
from medchatzh.models import packing
from medchatzh.models.packing import Batch, Examples, Ints, assemble, pack
from medchatzh.run import SCRATCH, Context, write_atomically
from medchatzh.train.optimization import Optimization, deal
from medchatzh.train.processes import Processes, join
from medchatzh.train.state import METRICS, restore, save, write_log

if TYPE_CHECKING:
    import torch

    from medchatzh.train.engines import Engine, Loss


class Batches(Protocol):
    """What is learnt in which step, as a pure function of the step's number. A unit is what stays together: a row, a ranking, a pair."""

    steps_per_epoch: int
    units: int
    """Units a micro batch at most."""

    def step(self, number: int) -> Sequence[Ints]:
        """The units of optimizer step `number` (from 0), over all processes: the numbers of each one's examples."""
        ...

    def assemble(self, units: Sequence[Ints]) -> Batch: ...

    def weight(self, units: Sequence[Ints]) -> float:
        """What units supervise, in what the loss is a sum over: tokens, rankings, pairs."""
        ...

    def num_tokens(self, units: Sequence[Ints]) -> int:
        """Tokens of the units' examples, without padding."""
        ...


class Epochs:
    """Packed rows by step."""

    def __init__(self, examples: Examples, config: Optimization, *, pad_id: int, seed: int) -> None:
        self._examples, self._config, self._pad_id, self._seed = examples, config, pad_id, seed
        self.units = config.rows
        self._epoch = -1
        self._packed: list[Ints] = []
        # The number of rows differs a little between epochs (another order packs otherwise); the first one sets the length.
        self.steps_per_epoch = max(1, -(-len(self._rows_of(0)) // config.units_a_step))

    def _rows_of(self, epoch: int) -> list[Ints]:
        if epoch != self._epoch:
            order = np.random.default_rng((self._seed, epoch)).permutation(len(self._examples))
            self._packed = rows_of(self._examples, order, self._config)
            self._epoch = epoch
        return self._packed

    def step(self, number: int) -> list[Ints]:
        epoch, within = divmod(number, self.steps_per_epoch)
        packed = self._rows_of(epoch)
        size = self._config.units_a_step
        last = within == self.steps_per_epoch - 1
        rows = packed[within * size :] if last else packed[within * size : (within + 1) * size]
        return rows or packed[-size:]

    def assemble(self, units: Sequence[Ints]) -> Batch:
        return assemble(self._examples, units, self._pad_id, width(self._config))

    def weight(self, units: Sequence[Ints]) -> float:
        return sum(self._examples.num_targets(row) for row in units)

    def num_tokens(self, units: Sequence[Ints]) -> int:
        return self._examples.num_tokens_of(units)


def rows_of(examples: Examples, order: Sequence[int] | Ints, config: Optimization) -> list[Ints]:
    """Rows of examples, in order: packed, or of one example each."""
    if config.packing:
        return pack(examples.lengths, order, config.row_tokens)
    return [np.asarray([number]) for number in order]


def width(config: Optimization) -> int:
    """Positions of a row in a micro batch; 0 where examples lie in one row, without padding: PyTorch's SDPA with a mask pays for the
    square of that."""
    return config.row_tokens if config.attention == "sdpa" else 0


def rate(config: Optimization, step: int, num_steps: int) -> float:
    """Learning rate of a step (from 0)."""
    warm = max(1, round(config.warmup * num_steps))
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    progress = (step - warm) / max(1, num_steps - warm)
    left = {"constant": 1.0, "linear": 1 - progress, "cosine": 0.5 * (1 + math.cos(math.pi * progress))}[config.schedule]
    return config.learning_rate * (left + (1 - left) * config.final_rate)


Make = Callable[[bool], models.Model]
"""(whether in 4 bits) → the model to train, made anew: the first process may need it twice."""


def train(
    make: Make,
    batches: Batches,
    loss: Loss,
    config: Optimization,
    out: Path,
    context: Context,
    label: str,
    names: Callable[[Ints], list[str]],
    head: str = "",
) -> tuple[models.Model, dict[str, Any]]:
    """(the trained model, in the first process; facts for the manifest). All processes call it alike.

    `names`: example numbers → ids of their records, for the message where training stops. `head`: the module that learns whole beside LoRA.
    Writes `metrics.jsonl` (a line a step). States lie in the scratch folder, the last one too: a kill after the last
    step costs nothing. ValueError where the loss is no longer a number.
    """
    import torch

    from medchatzh.train import lora, needs
    from medchatzh.train.engines import engine
    from medchatzh.train.watch import Watch

    processes = join(context.threads)
    needs.check(config, processes.size)
    model = make(config.lora.quantized)
    if config.lora.rank:
        torch.manual_seed(context.seed)  # in every process the same adapters
        model = lora.attach(model, config.lora, head=head).base_model.model
    prepare(model, config)
    model.train()
    spread = engine(model, loss, config, processes)
    num_steps = config.num_steps(batches.steps_per_epoch)
    processes.wait()
    watch = Watch(label, config, num_steps, restore(spread, out / SCRATCH, processes), out, processes)
    for step in range(len(watch.log), num_steps):
        units = batches.step(step)
        learning_rate = rate(config, step, num_steps)
        # By step and process, not kept in the state: dropout and noise are the same after a kill.
        torch.manual_seed(int(np.random.default_rng((context.seed, step, processes.rank)).integers(2**63)))
        step_loss, positions = _step(spread, batches, units, processes)
        norm = spread.step(learning_rate) if math.isfinite(step_loss) else math.nan
        watch.check(step_loss, norm, learning_rate, lambda: names(np.concatenate(units)))  # noqa: B023  # called at once, or never
        watch.add(step_loss, norm, learning_rate, batches.num_tokens(units), batches.weight(units), positions)
        if (step + 1) % config.save_steps == 0 or step + 1 == num_steps:
            save(spread, watch.log, out / SCRATCH, config.keep_states, processes)
    facts = watch.close()
    weights = spread.weights()
    if processes.is_first:
        write_log(watch.log, out / METRICS)
        del spread
        if config.lora.rank:
            model, facts["lora_merge_difference"] = lora.merged(lambda: make(False), config.lora, weights, out / "adapter", head=head)
        elif config.sharding != "none":
            model = make(False)
            model.load_state_dict(weights, strict=False)
        facts = {"num_parameters": models.num_parameters(model), **facts}
    return model, facts


def prepare(model: models.Model, config: Optimization) -> None:
    """Have the model compute as the settings say."""
    if config.attention == "auto" and not getattr(model.config, "attention_dropout", 0.0):
        from medchatzh.models import attention

        model.set_attn_implementation(attention.NAME)
    elif config.attention == "flash":
        model.set_attn_implementation("flash_attention_2")
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    is_fused = config.kernels == "liger" or (config.kernels == "auto" and models.device().type == "cuda" and find_spec("liger_kernel"))
    if is_fused:
        from liger_kernel.transformers import _apply_liger_kernel_to_instance

        _apply_liger_kernel_to_instance(model=model, cross_entropy=False, fused_linear_cross_entropy=False)


def _step(spread: Engine, batches: Batches, units: Sequence[Ints], processes: Processes) -> tuple[float, int]:
    """(the loss of a step over all processes, positions computed): each takes its share of the units."""
    total = max(batches.weight(units), 1e-9)
    num_micro, size = deal(len(units), batches.units, processes.size)
    parts, positions = [], 0
    for micro in range(num_micro):
        first = (micro * processes.size + processes.rank) * size
        batch = batches.assemble(units[first : first + size])
        positions += batch.input_ids.size
        parts.append(spread.backward(batch, 1 / total, last=micro == num_micro - 1))
    return processes.total(sum(map(float, parts))), round(processes.total(positions))


def causal(config: Optimization) -> Loss:
    """The loss of pre-training and SFT under some settings."""

    def loss(model: models.Model, batch: Batch) -> torch.Tensor:
        from medchatzh.train import losses

        return losses.causal(model, batch, config.neftune_alpha)

    return loss


def held_out_loss(model: models.Model, held_out: Examples, pad_id: int, config: Optimization) -> float:
    """Cross-entropy a supervised token on held-out examples, in nats; NaN where there are none. The model is moved to the device."""
    import torch

    from medchatzh.train.losses import causal

    prepare(model, config)
    torch.nn.Module.to(model, models.device()).eval()
    total, count = 0.0, 0
    rows = rows_of(held_out, range(len(held_out)), config)
    with torch.inference_mode(), models.autocast(config.precision):
        for start in range(0, len(rows), config.rows):
            batch = assemble(held_out, rows[start : start + config.rows], pad_id, width(config))
            total += float(causal(model, batch))
            count += batch.num_targets
    return total / count if count else math.nan


def stored(
    encoded: Iterable[tuple[int, packing.Encoded]], counts: Counter[str], folder: Path, vocab_size: int, processes: Processes
) -> tuple[Examples, Ints]:
    """(examples, the numbers of their records), encoded by the first process and mapped by all; `counts` is what was counted on the way.

    Encoding is done once: after a kill the files are there.
    """
    aside = folder.with_name(folder.name + ".aside")
    if processes.is_first and not folder.exists():
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        packing.store(encoded, aside, vocab_size)
        write_atomically(aside / "counts.json", msgspec.json.encode(counts))
        aside.replace(folder)
    processes.wait()
    counts.clear()
    counts.update(msgspec.json.decode((folder / "counts.json").read_bytes()))
    return packing.load(folder)


def dropped(**reasons: int) -> dict[str, int]:
    """Drops by reason, those that happened."""
    return {reason: count for reason, count in reasons.items() if count}


def rounded(value: float) -> float | None:
    """A figure for the manifest; None where there was nothing to measure."""
    return round(value, 4) if math.isfinite(value) else None
