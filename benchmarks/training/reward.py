"""How good a reward model is: held-out pairs in the right order against the longer answer, calibration, planted defects.

    python benchmarks/training/reward.py RUNS --base CHECKPOINT --recipe recipes/public-data.toml

RUNS holds an `ingest-…` and a `curate-…` folder of `recipes/public-data.toml`, CHECKPOINT is a causal model (a `pretrain-…` or `sft-…`
folder's `checkpoint`). The cases of one source are dealt into folds, anew for each seed; a model learns from all but one fold and is
measured on that one, so that every case is held out once a seed. What is learnt of dialogues is learnt once a seed, from those that the
measurement of defects never sees. Intervals (95 %) resample cases, with all their pairs and seeds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from medchatzh import models
from medchatzh import recipe as recipes
from medchatzh.metrics.statistics import clustered_interval
from medchatzh.models.calibration import Ranked, reliability
from medchatzh.records import Dialogue, Preference, hold_out, normalize, read
from medchatzh.run import SCRATCH, Context
from medchatzh.train import reward

UNSEEN = 0.1
"""Share of the dialogues that defects are measured on."""


def folder_of(runs: Path, stage: str) -> Path:
    """The newest folder of a stage."""
    found = sorted(runs.glob(f"{stage}-*/manifest.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise SystemExit(f"{runs}: no finished {stage} there; run recipes/public-data.toml first")
    return found[-1].parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--recipe", type=Path, help="whose [reward] to take; --set changes it")
    parser.add_argument("--source", default="disc")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="settings of [reward]")
    options = parser.parse_args()
    table = recipes.load_toml(options.recipe).get("reward", {}) if options.recipe else {"row_tokens": 1536, "rankings": 4}
    config = recipes.convert(recipes.override(table, options.set), reward.Config, "--set")
    nothing = {"instruct": reward.Instruct(), "defects": ()}
    of_dialogues = msgspec.structs.replace(config, defects=tuple(each for each in config.defects if each.of == "dialogues"))
    of_rankings = msgspec.structs.replace(config, **nothing | {"defects": config.defects[len(of_dialogues.defects) :]})
    if any(each.of == "dialogues" for each in of_rankings.defects):
        raise SystemExit("lessons of dialogues must come before those of rankings: they are learnt once for all folds")
    ingest, curate = (folder_of(options.runs, stage) for stage in ("ingest", "curate"))
    cases = [each for each in read(ingest / "preferences.jsonl", Preference) if each.source == options.source]
    dialogues = [each for pool in ("medical", "general") for each in read(curate / f"{pool}.jsonl", Dialogue)]
    known, unseen = hold_out(dialogues, UNSEEN, key=lambda dialogue: normalize(dialogue.question))

    by_seed: list[reward.Hits] = []
    taught_only: list[reward.Hits] = []
    errors, chances, temperatures = [], [], []
    planted: dict[str, list[float]] = {}
    since = time.process_time()
    facts: dict[str, Any] = {}
    for seed in range(options.seeds):
        context = Context(seed=seed, threads=options.threads)
        with tempfile.TemporaryDirectory() as name:
            base = reward.prepare(of_dialogues, known, [], options.base, Path(name), context)
            tokenizer, template = models.load_tokenizer(base)
            order = np.random.default_rng(seed).permutation(len(cases))
            of_seed: reward.Hits = {}
            judged: list[Ranked] = []
            for fold in range(options.folds):
                held_out = [cases[number] for number in order[fold :: options.folds]]
                groups = {each.group for each in held_out}
                learnt = [each for each in cases if each.group not in groups]
                out = Path(name) / f"fold-{fold}"
                (out / SCRATCH).mkdir(parents=True)
                started = reward.prepare(of_rankings, [], learnt, base, out, context)
                model, facts = reward.fit(config, started, reward.encode(learnt, tokenizer, template, config.row_tokens), out, context)
                scores = reward.scores_of(model, held_out, tokenizer, template, config)
                of_seed |= reward.hits(scores, held_out)
                judged += map(reward.ranked, held_out, scores)
                print(f"seed {seed}, fold {fold}: {np.mean([hit for group in groups for hit in of_seed[group]]):.3f}", file=sys.stderr)
            for kind, found in reward.ordering(model, unseen, tokenizer, template, config, seed).items():  # of the last fold's model
                planted.setdefault(kind + ("" if found["taught"] else " (never taught)"), []).append(found["accuracy"])
            if config.takes_dialogues:
                before = models.load_reward(base)
                taught_only.append(reward.hits(reward.scores_of(before, cases, tokenizer, template, config), cases))
        by_seed.append(of_seed)
        calibrated = reliability(judged, seed)
        assert calibrated, "there are many cases"
        errors.append(calibrated.ece)
        chances.append(calibrated.ece_by_chance)
        temperatures.append(calibrated.temperature)

    longer = reward.hits(reward.lengths_of(cases), cases)
    length = pooled([longer] * options.seeds)
    print(f"{len(cases)} cases, {sum(map(len, longer.values()))} pairs, {options.folds} folds, {options.seeds} seeds;", end=" ")
    print(f"{facts['num_parameters']:,} parameters, {facts['num_steps']} steps a fold, {time.process_time() - since:,.0f} CPU-s in all\n")
    print("| judge | pairs right | 95 % | above the longer answer | 95 % |\n|---|---|---|---|---|")
    judges = {"reward model": pooled(by_seed)}
    if taught_only:
        judges["before it learnt any ranking"] = pooled(taught_only)
    for label, found in judges.items():
        print(row(label, list(found.values()), [[a - b for a, b in zip(found[group], length[group], strict=True)] for group in found]))
    print(row("the longer answer", list(longer.values()), None))
    each = ", ".join(f"{np.mean([hit for values in found.values() for hit in values]):.3f}" for found in by_seed)
    print(f"\nBy seed: {each}. ECE after calibration, by seed: {', '.join(f'{error:.3f}' for error in errors)}", end=" ")
    print(f"(a model whose every probability is true: {np.mean(chances):.3f} on so many pairs).")
    print("\n| planted defect | answers above it | by seed |\n|---|---|---|")
    for kind, shares in planted.items():
        print(f"| {kind} | {np.mean(shares):.1%} | {', '.join(f'{share:.1%}' for share in shares)} |")
    taught = [np.mean(shares) for kind, shares in planted.items() if "never" not in kind]
    print(f"| mean of those taught | {np.mean(taught):.1%} | |")


def pooled(by_seed: list[reward.Hits]) -> reward.Hits:
    """The pairs of all seeds by case."""
    return {group: [value for seed in by_seed for value in seed[group]] for group in by_seed[0]}


def row(label: str, pairs: list[list[float]], differences: list[list[float]] | None) -> str:
    """A line of the table: share and difference, each with its interval over cases."""
    mean, low, high, _ = clustered_interval(pairs)
    line = f"| {label} | {mean:.3f} | {low:.3f} to {high:.3f} |"
    if differences is None:
        return line + " | |"
    mean, low, high, _ = clustered_interval(differences)
    return f"{line} {mean:+.3f} | {low:+.3f} to {high:+.3f} |"


if __name__ == "__main__":
    main()
