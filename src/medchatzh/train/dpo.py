"""Direct preference optimization (arXiv:2305.18290) on the rankings of the reward model, without one: an optional stage after SFT.

The answer's implicit reward, β × (its log-probability − what that was before), takes the place of a reward model's score in the same
loss over all pairs of each ranking. The log-probabilities from before are worked out once, so that one model is in memory and not two.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medchatzh import models
from medchatzh.models.packing import Batch, Examples, Ints, assemble, tensors
from medchatzh.records import Preference, hold_out, read
from medchatzh.run import SCRATCH, Context, Progress, Result, write_atomically
from medchatzh.train import loop
from medchatzh.train.processes import Processes, join
from medchatzh.train.reward import RankingBatches, Ranks, accuracy, encode, over_rankings

if TYPE_CHECKING:
    import torch

VERSION = 1
LIBRARIES = ("torch", "transformers", "numpy", "deepspeed", "peft")
TOGETHER = True


class Config(Ranks, frozen=True, kw_only=True):
    learning_rate: float = 5e-5
    """A tenth of SFT's and less: the answers are known already, only their order is to change."""
    epochs: float = 0.0
    """0 leaves the stage out: the paper has none."""
    held_out: float = 0.1
    """By `group`: one case's answers are never on both sides."""
    beta: float = 0.1
    """How dear it is to move away from the model before (the paper of DPO: 0.1 to 0.5)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta <= 0:
            raise ValueError(f"beta must be positive, not {self.beta}")


def log_probabilities(model: models.Model, batch: Batch) -> torch.Tensor:
    """[N] summed log-probability (nats) of each example's supervised tokens. Logits are in memory by the 1,024 tokens, and again in the
    backward pass."""
    import torch
    from torch.nn.functional import cross_entropy
    from torch.utils.checkpoint import checkpoint

    head = model.get_output_embeddings()

    def part(hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return -cross_entropy(head(hidden).float(), targets, reduction="none")

    hidden = model.model(**tensors(batch, model.device), use_cache=False).last_hidden_state
    targets = torch.from_numpy(batch.targets).to(hidden.device)
    owner = torch.full(targets.shape, -1, device=hidden.device)
    for number, (row, start, stop) in enumerate(batch.spans.tolist()):
        owner[row, start:stop] = number
    supervised = targets >= 0
    pieces = zip(hidden[supervised].split(1024), targets[supervised].split(1024), strict=True)
    logs = torch.cat([checkpoint(part, *piece, use_reentrant=False) for piece in pieces])
    return torch.zeros(len(batch.spans), device=hidden.device).index_add(0, owner[supervised], logs)


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: Context) -> Result:
    """Train the model of `sft` on `ingest/preferences.jsonl`; writes `checkpoint/` and `metrics.jsonl`, reports held-out pair accuracy
    by source."""
    processes = join(context.threads)
    base = inputs["sft"] / "checkpoint"
    tokenizer, template = models.load_tokenizer(base)
    preferences = list(read(inputs["ingest"] / "preferences.jsonl", Preference))
    if not preferences:
        raise ValueError("dpo: no preferences; add a source of format 'rankings' or 'pairs' to ingest.sources")
    trained, held_out = hold_out(preferences, config.held_out, key=lambda preference: preference.group or preference.id)
    encoded = encode(trained, tokenizer, template, config.row_tokens)
    if not encoded.ids:
        fits = f"dpo: no ranking fits dpo.row_tokens = {config.row_tokens} outside the held-out share"
        raise ValueError(f"{fits}; raise it, or lower held_out")
    batches = RankingBatches(encoded, config, pad_id=tokenizer.pad_token_id, seed=context.seed)

    def make(quantized: bool) -> models.Model:
        model = models.load_causal(base, quantized=quantized)
        models.check_vocabulary(model, tokenizer, base)
        return model

    before = _reference(make, encoded.examples, config, tokenizer.pad_token_id, out / SCRATCH, processes)

    def implicit(model: models.Model, batch: Batch) -> torch.Tensor:
        import torch

        return config.beta * (log_probabilities(model, batch) - torch.from_numpy(before[batch.examples]).to(model.device))

    loss = over_rankings(implicit, encoded, config.margin)
    model, facts = loop.train(make, batches, loss, config, out, context, "dpo", encoded.names)
    if not processes.is_first:
        return Result()
    models.save(model, tokenizer, template, out / "checkpoint")
    facts |= {
        "num_answers_too_long": encoded.num_too_long,
        "held_out": _measure(make, model, held_out, config, tokenizer, template, context.seed),
    }
    dropped = loop.dropped(held_out=len(held_out), too_long=len(trained) - len(encoded.ids))
    return Result(num_in=len(preferences), num_out=len(encoded.ids), dropped=dropped, facts=facts)


def _scores(model: models.Model, examples: Examples, chosen: Ints, config: Config, pad_id: int) -> np.ndarray:
    """[len(chosen)] log-probabilities under a model that does not learn."""
    import torch

    loop.prepare(model, config)
    torch.nn.Module.to(model, models.device()).eval()
    found = np.zeros(len(chosen), np.float32)
    size = config.rankings * 4
    with torch.inference_mode(), models.autocast(config.precision), Progress("reference", total=len(chosen), unit="answers") as progress:
        for start in range(0, len(chosen), size):
            rows = loop.rows_of(examples, chosen[start : start + size], config)
            batch = assemble(examples, rows, pad_id, loop.width(config))
            place = {number: start + at for at, number in enumerate(chosen[start : start + size].tolist())}
            found[[place[number] for number in batch.examples.tolist()]] = log_probabilities(model, batch).float().cpu().numpy()
            progress.add(len(batch.examples))
    return found


def _reference(make: loop.Make, examples: Examples, config: Config, pad_id: int, scratch: Path, processes: Processes) -> np.ndarray:
    """[N] log-probabilities of all answers before training. Each process works out a share; after a kill they are there."""

    def file(rank: int) -> Path:
        return scratch / f"reference-{rank}-of-{processes.size}.npy"

    if not file(processes.rank).exists():
        share = _scores(make(False), examples, np.arange(processes.rank, len(examples), processes.size), config, pad_id)
        write_atomically(file(processes.rank), share.tobytes())
    processes.wait()
    whole = np.zeros(len(examples), np.float32)
    for rank in range(processes.size):
        whole[rank :: processes.size] = np.frombuffer(file(rank).read_bytes(), np.float32)
    return whole


def _measure(
    make: loop.Make, model: models.Model, held_out: list[Preference], config: Config, tokenizer: Any, template: Any, seed: int
) -> dict[str, Any]:
    """Pair accuracy on rankings that were held out, by source: of the implicit reward, and of the log-probability before ("before")."""
    whole = [each for each in held_out if not encode([each], tokenizer, template, config.row_tokens).num_too_long]
    encoded = encode(whole, tokenizer, template, config.row_tokens)
    by_id = {preference.id: preference for preference in whole}
    everything = np.arange(len(encoded.examples))
    before, after = (_scores(each, encoded.examples, everything, config, tokenizer.pad_token_id) for each in (make(False), model))
    cuts = np.flatnonzero(np.diff(encoded.rankings)) + 1
    found: dict[str, Any] = {}
    kept = [by_id[name] for name in encoded.ids]
    for source in ["all", *sorted({preference.source for preference in kept})]:
        chosen = [at for at, preference in enumerate(kept) if source in ("all", preference.source)]
        if not chosen:
            continue
        figures = {}
        for name, values in (("model", after - before), ("before", before)):
            split = np.split(values, cuts)
            figures[name] = accuracy([split[at] for at in chosen], [kept[at] for at in chosen], seed)
        found[source] = figures
    return found
