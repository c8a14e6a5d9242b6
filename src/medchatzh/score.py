"""Score stage: the reward model reads every medical record (and drops the low ones) or every prediction (and judges).

A score is worked out once for a text and a model: it goes to a cache that outlives the run, and the stage's files are made from the cache.
So another threshold scores nothing, more records only what is new, and a killed run goes on, all with the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from medchatzh import models
from medchatzh.models import reward
from medchatzh.models.cache import RewardCache, as_keys, content_key
from medchatzh.models.calibration import Calibration, read_calibration
from medchatzh.recipe import Settings
from medchatzh.records import Dialogue, Prediction, Question, Reject, Score, Turn, read
from medchatzh.run import SCRATCH, Context, Manifest, Progress, Result, read_manifest
from medchatzh.shards import started_ray

VERSION = 4
LIBRARIES = ("torch", "transformers", "numpy")
CHUNK = 4096
"""Dialogues that are sorted by length together, and lost by a kill. Their last, half-empty batches are about 6 % of the work."""
_PATIENCE_S = 600.0
"""How long the first process waits for the others' scores to grow before it works them out itself; loading 13 GB may take minutes."""

Chunk = tuple[np.ndarray, list[tuple[Turn, ...]]]
"""Keys [N] and turns of N dialogues."""


class Config(Settings, frozen=True, kw_only=True):
    threshold: float = 0.5
    """Records that score below it are dropped. The paper: 0.5, on an unbounded regression score."""
    kind: Literal["absolute", "quantile", "probability", "none"] = "absolute"
    """`none`: keep all medical records unscored, so that a mix needs no reward model; `absolute`: the score itself; `quantile`: the share
    of records to drop, for a reward model whose scale means nothing; `probability`: the chance to be preferred over another answer to
    the same question, calibrated on the held-out rankings."""
    max_tokens: int = 1024
    """A longer dialogue is scored in runs of whole exchanges, and has their mean (reward_score.py of the paper's repository: 1,024)."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"

    def __post_init__(self) -> None:
        if self.kind == "quantile" and not 0 <= self.threshold < 1:
            raise ValueError("threshold: a quantile lies from 0 to below 1 (0.2 drops the lowest fifth)")
        if self.kind == "probability" and not 0 < self.threshold < 1:
            raise ValueError("threshold: a probability lies between 0 and 1 (0.5: as good as the other answer)")


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: Context) -> Result:
    """With the input `curate`: filter its medical records. With inputs `generate@…`: judge predictions, drop nothing;
    `ingest` then gives the turns before a question.

    Writes scores.jsonl; when filtering also medical.jsonl and rejects.jsonl. Under torchrun this is the first process; see `assist`.
    """
    filters = "curate" in inputs
    if filters and config.kind == "none":
        return _unscored(inputs["curate"] / "medical.jsonl", out)
    calibrated = None
    if filters and config.kind == "probability":  # first, so that too few rankings are told before hours of scoring
        calibrated = read_calibration(inputs["reward"], config.threshold, context.seed)
    scoring = _Scoring(config, inputs, context.cache or out / SCRATCH, context)
    keys = scoring.keys()
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))
    scoring.add_missing(keys, share=(0, num_processes))
    if num_processes > 1:
        scoring.wait_for_others(keys)
        scoring.add_missing(keys)
    values, _ = scoring.cache.find(keys)
    if filters:
        return _filter(values, config, calibrated, inputs["curate"] / "medical.jsonl", out, scoring.facts)
    num_out = 0
    with (out / "scores.jsonl").open("wb") as file:
        for prediction, value in zip(_records(inputs), values, strict=True):
            if np.isfinite(value):
                file.write(_line(_score(prediction, value)))
                num_out += 1
    dropped = {"too_long": len(values) - num_out} if num_out < len(values) else {}
    return Result(num_in=len(values), num_out=num_out, dropped=dropped, facts=scoring.facts)


def assist(config: Config, inputs: Mapping[str, Path], context: Context) -> None:
    """Under torchrun, what the other processes do: work out their share of the rewards, and leave them in the cache for the first one.

    The run folders and the cache must lie on a file system that all share.
    """
    if context.cache is None:
        raise ValueError("score: several processes meet in a cache; give the context one")
    if "curate" in inputs and config.kind == "none":
        return
    scoring = _Scoring(config, inputs, context.cache, context)
    scoring.add_missing(scoring.keys(), share=(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])))


class _Scoring:
    """The records of the inputs, the model, and what is known of their scores."""

    def __init__(self, config: Config, inputs: Mapping[str, Path], cache: Path, context: Context) -> None:
        models.require_torch()
        manifest = read_manifest(inputs["reward"])
        checkpoint = _checkpoint_hash(manifest)
        self._inputs, self._context = inputs, context
        self._histories: dict[str, tuple[Turn, ...]] = {}
        if "ingest" in inputs:
            asked = read(inputs["ingest"] / "questions.jsonl", Question)
            self._histories = {question.id: question.history for question in asked if question.history}
        self._settings = reward.ScorerSettings(
            checkpoint=inputs["reward"].resolve() / "checkpoint",
            max_tokens=config.max_tokens,
            precision=config.precision,
            threads=context.threads or max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))),
        )
        arithmetic = reward.arithmetic(config.precision)
        how = hashlib.sha256(f"{config.max_tokens} {arithmetic}".encode()).hexdigest()[:8]
        self.cache = RewardCache(cache / f"rewards-{checkpoint}-{how}")
        self.facts = {"reward_fingerprint": manifest.fingerprint, "reward_checkpoint": checkpoint, "arithmetic": arithmetic}

    def keys(self) -> np.ndarray:
        """[num_records]"""
        return as_keys(content_key(self._turns(record)) for record in _records(self._inputs))

    def add_missing(self, keys: np.ndarray, share: tuple[int, int] = (0, 1)) -> None:
        """Score what the cache lacks, each text once: share i of n, by key, so that processes need not agree on what is missing."""
        self.cache.load()
        wanted = np.zeros(len(keys), bool)
        wanted[np.unique(keys, return_index=True)[1]] = True
        wanted &= ~self.cache.find(keys)[1] & (keys.view("<u8")[::2] % np.uint64(share[1]) == share[0])
        if not wanted.any():
            return
        with Progress("score", total=int(wanted.sum()), unit="records") as progress:
            for chunk_keys, values in self._scored(self._chunks(keys, wanted)):
                self.cache.add(chunk_keys, values)
                progress.add(len(values))
        self.cache.load()

    def _chunks(self, keys: np.ndarray, wanted: np.ndarray) -> Iterator[Chunk]:
        chosen: list[int] = []
        turns: list[tuple[Turn, ...]] = []
        last = int(np.flatnonzero(wanted)[-1])
        for number, record in enumerate(_records(self._inputs)):
            if wanted[number]:
                chosen.append(number)
                turns.append(self._turns(record))
            if turns and (len(turns) == CHUNK or number == last):
                yield keys[chosen], turns
                chosen, turns = [], []

    def _turns(self, record: Dialogue | Prediction) -> tuple[Turn, ...]:
        if isinstance(record, Dialogue):
            return record.turns
        return (*self._histories.get(record.id, ()), Turn("user", record.question), Turn("assistant", record.answer))

    def _scored(self, chunks: Iterator[Chunk]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        if self._context.executor == "ray":
            yield from self._with_ray(chunks)
            return
        scorer = reward.Scorer(self._settings)
        for keys, turns in chunks:
            yield keys, scorer.score(turns)

    def _with_ray(self, chunks: Iterator[Chunk]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """An actor a GPU (where there is none, a worker), each with its own copy of the model; they take chunks as they get free."""
        ray = started_ray(self._context)
        gpus = int(ray.cluster_resources().get("GPU", 0))
        num_actors = gpus or max(1, self._context.workers)
        settings = msgspec.structs.replace(self._settings, threads=self._context.threads or max(1, self._settings.threads // num_actors))
        actor = ray.remote(num_gpus=1 if gpus else 0)(reward.Scorer)
        free = [actor.remote(settings) for _ in range(num_actors)]
        running: dict[Any, tuple[Any, np.ndarray]] = {}
        for keys, turns in chunks:
            worker = free.pop()
            running[worker.score.remote(turns)] = (worker, keys)
            if not free:
                yield from _finished(ray, running, free)
        while running:
            yield from _finished(ray, running, free)

    def wait_for_others(self, keys: np.ndarray) -> None:
        """Until all is known, or nothing new has come for long: then somebody died, and who called this does the rest."""
        num_known, since = -1, time.monotonic()
        while time.monotonic() - since < _PATIENCE_S:
            self.cache.load()
            known = self.cache.find(keys)[1]
            if known.all():
                return
            if known.sum() != num_known:
                num_known, since = known.sum(), time.monotonic()
            time.sleep(1)


def _finished(ray: Any, running: dict[Any, tuple[Any, np.ndarray]], free: list[Any]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    done, _ = ray.wait(list(running))
    for reference in done:
        worker, keys = running.pop(reference)
        free.append(worker)
        yield keys, ray.get(reference)


def _records(inputs: Mapping[str, Path]) -> Iterator[Dialogue | Prediction]:
    if "curate" in inputs:
        yield from read(inputs["curate"] / "medical.jsonl", Dialogue)
        return
    for label, folder in inputs.items():
        if label.startswith("generate@"):
            yield from read(folder / "predictions.jsonl", Prediction)


def _checkpoint_hash(manifest: Manifest) -> str:
    """Of the names and bytes of the checkpoint's files, as the reward stage's manifest has them: weights, tokenizer, template."""
    files = {name: digest for name, digest in manifest.outputs.items() if name.startswith("checkpoint/")}
    return hashlib.sha256(msgspec.json.encode(files, order="deterministic")).hexdigest()[:16]


def _unscored(records: Path, out: Path) -> Result:
    """All records pass."""
    shutil.copyfile(records, out / "medical.jsonl")
    (out / "rejects.jsonl").touch()
    (out / "scores.jsonl").touch()
    with records.open("rb") as file:
        num_records = sum(1 for _ in file)
    return Result(num_in=num_records, num_out=num_records, facts={"kind": "none"})


def _filter(
    values: np.ndarray, config: Config, calibrated: Calibration | None, records: Path, out: Path, facts: Mapping[str, Any]
) -> Result:
    """Keep what reaches the threshold; write the kept, the rejects with their score, and all scores."""
    finite = np.sort(values[np.isfinite(values)])
    threshold, more = find_threshold(config, finite, calibrated)
    if len(values) and not (finite >= threshold).any():
        raise ValueError(
            f"score: nothing reaches score.threshold = {config.threshold:g} ({config.kind}) within score.max_tokens = {config.max_tokens};"
            + (f" the scores run from {finite[0]:.3f} to {finite[-1]:.3f}" if len(finite) else " no dialogue fits")
        )
    dropped: Counter[str] = Counter()
    with ExitStack() as stack:
        kept, rejects, scores = (stack.enter_context((out / f"{name}.jsonl").open("wb")) for name in ("medical", "rejects", "scores"))
        for dialogue, value in zip(read(records, Dialogue), values, strict=True):
            if np.isfinite(value):
                scores.write(_line(_score(dialogue, value)))
            if value >= threshold:
                kept.write(_line(dialogue))
                continue
            scored = bool(np.isfinite(value))
            detail = f"{value:.4f} < {threshold:.4f}" if scored else f"more than {config.max_tokens} tokens"
            reject = Reject.of(dialogue, "score", "low_reward" if scored else "too_long", detail, record=dialogue)
            rejects.write(_line(reject))
            dropped[reject.reason] += 1
    return Result(num_in=len(values), num_out=len(values) - dropped.total(), dropped=dropped, facts={**facts, **more})


def find_threshold(config: Config, finite: np.ndarray, calibrated: Calibration | None) -> tuple[float, dict[str, Any]]:
    """The score that records must reach, and what to tell of it. `finite` holds all scores, sorted.

    Facts: quantiles of the scores (each twentieth), the share kept at each of them, and with a calibration the probability of each.
    """
    threshold = config.threshold
    facts: dict[str, Any] = {}
    shares = np.linspace(0, 1, 21)
    quantiles = np.quantile(finite, shares) if len(finite) else np.zeros(0)
    if config.kind == "quantile":
        threshold = float(np.quantile(finite, config.threshold)) if len(finite) else 0.0
    if calibrated:
        threshold = calibrated.threshold(config.threshold)
        facts["calibration"] = calibrated.facts()
        facts["probabilities"] = [round(float(chance), 4) for chance in calibrated.probability(quantiles)]
    facts |= {"threshold": round(threshold, 5), "kind": config.kind}
    if len(finite):
        facts["quantiles"] = [round(float(value), 4) for value in quantiles]
        facts["retention"] = [[round(float(value), 4), round(float((finite >= value).mean()), 4)] for value in quantiles]
    return threshold, facts


def _score(record: Dialogue | Prediction, value: float) -> Score:
    system = record.system if isinstance(record, Prediction) else ""
    return Score(id=record.id, source=record.source, category=record.category, system=system, metric="reward", value=round(float(value), 5))


_encoder = msgspec.json.Encoder()


def _line(record: msgspec.Struct) -> bytes:
    return _encoder.encode(record) + b"\n"
