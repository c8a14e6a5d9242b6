"""`medchatzh compare`: a benchmark and files of predictions → scores and report. No recipe, no model, no torch."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from medchatzh import evaluate, generate, ingest, recipe, report
from medchatzh.ingest import Source, predictions
from medchatzh.ingest import benchmark as ingested
from medchatzh.ingest.benchmark import READY, benchmark_files
from medchatzh.recipe import Settings
from medchatzh.run import Context, Digests, Manifest, Step, execute, lock, read_manifest, step

FLOORS = ("canned", "random", "human")
"""Those that need no training data; `random` gives the answer to another question."""


class Config(Settings, frozen=True, kw_only=True):
    """What `--set` may change."""

    evaluate: evaluate.Config = evaluate.Config()
    report: report.Config = report.Config(title="评测报告 / evaluation")
    generate: generate.Config = generate.Config()
    """`canned`, and `max_questions` for a sample."""


def compare(benchmark: Path, name: str, files: Mapping[str, Path], out: Path, overrides: Sequence[str], context: Context) -> Path:
    """Score each system's file (in the order given, the first is the main one) and the floors; returns the report's folder.

    `name` is the benchmark's in tables. Steps that are done in `out` are not done again. ValueError says what is wrong and where.
    """
    config = recipe.convert(recipe.override({}, overrides), Config, "--set")
    if re.search(r"[\s:/!]", name):
        raise ValueError(f"--name {name}: has spaces or one of :/!, which ids of questions cannot hold; write webMedQA, for example")
    raw = benchmark_files(benchmark)
    if not files:
        raise ValueError("no predictions: add NAME=FILE, a system and the file of its answers")
    for system, path in files.items():
        if not path.is_file():
            raise ValueError(f"{system}: {path}: no such file")
        if system in FLOORS:
            raise ValueError(f"{system}: is the name of a floor; choose another")
    digests = Digests(out / ".digests.json")
    steps: dict[str, Step] = {}

    def add(label: str, module: str, settings: Any, inputs: Sequence[str] = (), **more: Any) -> None:
        linked = {each: steps[each] for each in inputs}
        steps[label] = step(context.seed, digests, name=label, module=module, config=settings, inputs=linked, **more)

    if list(raw) == [READY]:
        add("ingest", "ingest.benchmark", ingested.Config(), files=raw, takes_files=True)
    else:
        source = Source(name=name or benchmark.stem, path="*", benchmark=True)
        add("ingest", "ingest", ingest.Config(sources=(source,)), files=raw, takes_files=True, resumable=True)
    for system, path in files.items():
        settings = predictions.System(name=system, path=path.name, max_questions=config.generate.max_questions)
        add(f"generate@{system}", "ingest.predictions", settings, ["ingest"], files={path.name: path}, takes_files=True)
    for floor in FLOORS:
        fields = msgspec.structs.asdict(config.generate) | {"system": floor, "kind": floor}
        add(f"generate@{floor}", "generate", generate.System(**fields), ["ingest"])
    add("evaluate", "evaluate", config.evaluate, list(steps))
    command = config.report.command or _command(benchmark, name, files, overrides, context.seed)
    add("report", "report", msgspec.structs.replace(config.report, command=command), list(steps))
    with lock(out):
        for label, work in steps.items():
            made = execute(work, out, context)
            if work.takes_files:
                _tell(label.partition("@")[2] or "benchmark", read_manifest(made))
    digests.save()
    return made


def _tell(name: str, manifest: Manifest) -> None:
    """On standard error, what a file's rows came to where not all of them are used, or some question has none."""
    lacks = predictions.lacks(manifest.facts)
    if manifest.dropped or lacks:
        aside = ", ".join(f"{reason} {number:,}" for reason, number in manifest.dropped.items()) or "none"
        told = ", ".join([f"{manifest.num_in:,} rows", f"{manifest.num_out:,} used", *lacks])
        print(f"medchatzh: {name}: {told}; set aside: {aside}", file=sys.stderr)
    if 2 * manifest.facts.get("num_empty", 0) > manifest.num_out:
        print(f"medchatzh: warning: most answers of {name} are empty / 大多数回答为空", file=sys.stderr)


def _command(benchmark: Path, name: str, files: Mapping[str, Path], overrides: Sequence[str], seed: int) -> str:
    """The command that makes the report, without the folders of this machine."""
    words = ["medchatzh", "compare", benchmark.name, *(f"{system}={path.name}" for system, path in files.items()), "--out", "DIR"]
    words += ["--name", name] if name else []
    words += ["--seed", str(seed)] if seed else []
    return shlex.join([*words, *(part for override in overrides for part in ("--set", override))])
