"""Score stage: the reward model reads every medical record (and drops the low ones) or every prediction (and judges)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medchatzh import models, prompt
from medchatzh.models.packing import collect
from medchatzh.recipe import Settings
from medchatzh.records import Dialogue, Prediction, Reject, Score, Turn, read, write
from medchatzh.run import Context, Result, read_manifest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VERSION = 2
LIBRARIES = ("torch", "transformers", "numpy")


class Config(Settings, frozen=True, kw_only=True):
    threshold: float = 0.5
    """Records that score below it are dropped. The paper: 0.5, on an unbounded regression score."""
    kind: Literal["absolute", "quantile"] = "absolute"
    """`absolute`: the score itself; `quantile`: the share of records to drop, for a reward model whose scale means nothing."""
    max_tokens: int = 1024
    """A longer dialogue is scored in runs of whole exchanges, and has their mean."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"

    def __post_init__(self) -> None:
        if self.kind == "quantile" and not 0 <= self.threshold < 1:
            raise ValueError("threshold: a quantile lies from 0 to below 1 (0.2 drops the lowest fifth)")


def score_dialogues(
    dialogues: Sequence[Sequence[Turn]],
    model: models.Model,
    tokenizer: PreTrainedTokenizerBase,
    template: prompt.Template,
    config: Config,
) -> np.ndarray:
    """[len(dialogues)] rewards; NaN for a dialogue none of whose exchanges fits `max_tokens`."""
    from medchatzh.models.reward import score

    windows: list[prompt.Encoded] = []
    owner: list[int] = []
    for number, turns in enumerate(dialogues):
        fitting, _ = prompt.split_to_fit(turns, tokenizer, template, config.max_tokens)
        windows += fitting
        owner += [number] * len(fitting)
    values = score(model, collect(windows), tokenizer.pad_token_id, precision=config.precision)
    counts = np.bincount(owner, minlength=len(dialogues))
    totals = np.bincount(owner, weights=values, minlength=len(dialogues))
    return np.divide(totals, counts, out=np.full(len(dialogues), np.nan), where=counts > 0)


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: Context) -> Result:
    """With the input `curate`: filter its medical records. With inputs `generate@…`: judge predictions, drop nothing.

    Writes scores.jsonl; when filtering also medical.jsonl and rejects.jsonl.
    """
    models.require_torch()
    checkpoint = inputs["reward"] / "checkpoint"
    models.set_threads(context.threads)
    tokenizer, template = models.load_tokenizer(checkpoint)
    model = models.load_reward(checkpoint)
    models.check_vocabulary(model, tokenizer, checkpoint)
    model.to(models.device())
    fingerprint = read_manifest(inputs["reward"]).fingerprint
    if "curate" in inputs:
        dialogues = list(read(inputs["curate"] / "medical.jsonl", Dialogue))
        values = score_dialogues([dialogue.turns for dialogue in dialogues], model, tokenizer, template, config)
        return filter_records(dialogues, values, config, out, fingerprint)
    predictions = [
        prediction
        for label, folder in inputs.items()
        if label.startswith("generate@")
        for prediction in read(folder / "predictions.jsonl", Prediction)
    ]
    turns = [(Turn("user", prediction.question), Turn("assistant", prediction.answer)) for prediction in predictions]
    values = score_dialogues(turns, model, tokenizer, template, config)
    scored = [(prediction, value) for prediction, value in zip(predictions, values, strict=True) if np.isfinite(value)]
    num_out = write(out / "scores.jsonl", (_score(prediction, value, prediction.system) for prediction, value in scored))
    dropped = {"too_long": len(predictions) - num_out} if num_out < len(predictions) else {}
    return Result(num_in=len(predictions), num_out=num_out, dropped=dropped, facts={"reward_fingerprint": fingerprint})


def filter_records(dialogues: Sequence[Dialogue], values: np.ndarray, config: Config, out: Path, fingerprint: str) -> Result:
    """Keep what reaches the threshold; write the kept, the rejects with their score, and all scores."""
    finite = values[np.isfinite(values)]
    threshold = config.threshold
    if config.kind == "quantile":
        threshold = float(np.quantile(finite, config.threshold)) if len(finite) else 0.0
    if len(values) and not (values >= threshold).any():
        raise ValueError(
            f"score: nothing reaches score.threshold = {config.threshold:g} ({config.kind}) within score.max_tokens = {config.max_tokens};"
            + (f" the scores run from {finite.min():.3f} to {finite.max():.3f}" if len(finite) else " no dialogue fits")
        )
    rejects: list[Reject] = []
    kept: list[Dialogue] = []
    for dialogue, value in zip(dialogues, values, strict=True):
        if value >= threshold:
            kept.append(dialogue)
            continue
        scored = bool(np.isfinite(value))
        rejects.append(
            Reject(
                id=dialogue.id,
                source=dialogue.source,
                origin=dialogue.origin,
                category=dialogue.category,
                stage="score",
                reason="low_reward" if scored else "too_long",
                detail=f"{value:.4f} < {threshold:.4f}" if scored else f"more than {config.max_tokens} tokens",
                record=dialogue,
            )
        )
    write(out / "medical.jsonl", kept)
    write(out / "rejects.jsonl", rejects)
    write(out / "scores.jsonl", (_score(dialogue, value) for dialogue, value in zip(dialogues, values, strict=True) if np.isfinite(value)))
    dropped = Counter(reject.reason for reject in rejects)
    return Result(num_in=len(dialogues), num_out=len(kept), dropped=dropped, facts=_facts(finite, threshold, config, fingerprint))


def _score(record: Dialogue | Prediction, value: float, system: str = "") -> Score:
    return Score(id=record.id, source=record.source, category=record.category, system=system, metric="reward", value=round(float(value), 5))


def _facts(finite: np.ndarray, threshold: float, config: Config, fingerprint: str) -> dict[str, Any]:
    facts: dict[str, Any] = {"threshold": round(threshold, 5), "kind": config.kind, "reward_fingerprint": fingerprint}
    if len(finite):
        shares = np.linspace(0, 1, 21)
        quantiles = np.quantile(finite, shares)
        facts["quantiles"] = [round(float(value), 4) for value in quantiles]
        facts["retention"] = [[round(float(value), 4), round(float((finite >= value).mean()), 4)] for value in quantiles]
    return facts
