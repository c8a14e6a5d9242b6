"""A recipe → the steps of the pipeline. The one place that knows all stages and how they depend on each other.

raw files → ingest → curate ─┬─ books → tokenizer → pretrain → reward → score → sft → generate → judge → evaluate → report
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from medchatzh import books, chat, curate, evaluate, generate, ingest, report, score, tokenizer
from medchatzh import recipe as recipes
from medchatzh.recipe import Settings
from medchatzh.run import MANIFEST, Context, Digests, Manifest, Step, execute, lock, read_manifest, step
from medchatzh.train import pretrain, reward, sft

FLOORS = ("canned", "random")
BEFORE_SFT = "before_sft"


class Run(Settings, frozen=True, kw_only=True):
    name: str = ""
    """Folder under `runs/`; the recipe's file name where empty."""
    seed: int = 0
    """Of everything random: data order, initial weights, splits, samples, resampling."""
    main: str = "medchatzh"
    """Name of the trained system in tables."""


class Data(Settings, frozen=True, kw_only=True):
    root: str
    """Folder of the raw files. `medchatzh:samples` are the records inside the package."""


class Recipe(Settings, frozen=True, kw_only=True):
    """A whole recipe: a table a stage, and `arms` (name → changes to the recipe) for ablations."""

    data: Data
    ingest: ingest.Config
    run: Run = Run()
    curate: curate.Config = curate.Config()
    books: books.Config = books.Config()
    tokenizer: tokenizer.Config = tokenizer.Config()
    pretrain: pretrain.Config = pretrain.Config()
    reward: reward.Config = reward.Config()
    score: score.Config = score.Config()
    sft: sft.Config = sft.Config()
    generate: generate.Config = generate.Config()
    evaluate: evaluate.Config = evaluate.Config()
    report: report.Config = report.Config()
    chat: chat.Config = chat.Config()
    arms: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    """Ablations: `[arms.no_medical.sft] pools = ["general"]` trains and evaluates the same recipe with that change."""


class Plan:
    """The steps of a recipe, by name and in order. Steps that agree in everything share a folder, and so run once."""

    def __init__(self, path: Path, overrides: Sequence[str] = (), runs: Path = Path("runs")) -> None:
        """Read and check the recipe, its arms, and its raw files; nothing runs. ValueError says what is wrong and where."""
        table = recipes.override(recipes.load_toml(path), overrides)
        self.recipe = recipes.convert(table, Recipe, str(path))
        self.arms: dict[str, Recipe] = {}
        for name, changes in self.recipe.arms.items():
            if name in (self.recipe.run.main, BEFORE_SFT, *FLOORS) or not name.isidentifier():
                raise ValueError(f"{path}: arms.{name}: choose another name, of letters, digits and _")
            self.arms[name] = recipes.convert(recipes.merge(table, changes), Recipe, f"{path}: arms.{name}")
        self.root = recipes.resolve_root(self.recipe.data.root, path)
        self.runs = runs / (self.recipe.run.name or path.stem)
        self.seed = self.recipe.run.seed
        self.steps: dict[str, Step] = {}
        self._digests = Digests(self.runs / ".digests.json")
        self._build()
        self._digests.save()

    def _build(self) -> None:
        main = self.recipe.run.main
        self._train("", self.recipe)
        for arm, changed in self.arms.items():
            self._train(f"@{arm}", changed)
        systems = {main: "sft", BEFORE_SFT: "pretrain"} | {arm: f"sft@{arm}" for arm in self.arms}
        for system, model in systems.items():
            config = self._generate_config(system)
            self._add(f"generate@{system}", "generate", config, {"ingest": "ingest", "model": model}, resumable=True)
        for floor in FLOORS:
            self._add(f"generate@{floor}", "generate", self._generate_config(floor), {"ingest": "ingest", "score": "score"})
        predictions = {f"generate@{system}": f"generate@{system}" for system in (*systems, *FLOORS)}
        self._add("score@judge", "score", self.recipe.score, {"reward": "reward"} | predictions)
        self._add("evaluate", "evaluate", self.recipe.evaluate, {"ingest": "ingest", "judge": "score@judge"} | predictions)
        shown = ("ingest", "curate", "books", "tokenizer", "pretrain", "reward", "score", "sft", *(f"sft@{arm}" for arm in self.arms))
        inputs = {label: label for label in shown} | {"judge": "score@judge", "evaluate": "evaluate"} | predictions
        self._add("report", "report", self.recipe.report, inputs)

    def _train(self, arm: str, changed: Recipe) -> None:
        """The chain from raw files to an SFT checkpoint under one recipe."""
        a = arm
        files = ingest.raw_files(changed.ingest, self.root)
        self._add(f"ingest{a}", "ingest", changed.ingest, {}, files=files, root=self.root)
        self._add(f"curate{a}", "curate", changed.curate, {"ingest": f"ingest{a}"})
        self._add(f"books{a}", "books", changed.books, {"ingest": f"ingest{a}"})
        self._add(f"tokenizer{a}", "tokenizer", changed.tokenizer, {"curate": f"curate{a}", "books": f"books{a}"})
        corpus = {"books": f"books{a}", "tokenizer": f"tokenizer{a}"}
        self._add(f"pretrain{a}", "train.pretrain", changed.pretrain, corpus, resumable=True)
        self._add(f"reward{a}", "train.reward", changed.reward, {"ingest": f"ingest{a}", "pretrain": f"pretrain{a}"}, resumable=True)
        self._add(f"score{a}", "score", changed.score, {"reward": f"reward{a}", "curate": f"curate{a}"})
        instructions = {"pretrain": f"pretrain{a}", "curate": f"curate{a}", "score": f"score{a}"}
        self._add(f"sft{a}", "train.sft", changed.sft, instructions, resumable=True)

    def _generate_config(self, system: str) -> generate.Config:
        changed = self.arms.get(system, self.recipe).generate
        kind = system if system in FLOORS else "checkpoint"
        return msgspec.structs.replace(changed, system=system, kind=kind)

    def _add(self, name: str, module: str, config: Any, inputs: Mapping[str, str], **more: Any) -> None:
        linked = {label: self.steps[target] for label, target in inputs.items()}
        self.steps[name] = step(self.seed, self._digests, name=name, module=module, config=config, inputs=linked, **more)

    def folder(self, name: str) -> Path:
        return self.runs / self.steps[name].folder_name

    def until(self, stage: str) -> list[Step]:
        """The steps that a stage needs, itself last, in order: one step (`sft`, `sft@no_medical`) or all of a stage (`generate`)."""
        targets = [self.steps[stage]] if stage in self.steps else [found for found in self.steps.values() if found.stage == stage]
        if not targets:
            raise ValueError(f"unknown stage {stage!r}; known: {', '.join(self.steps)}")
        needed: set[str] = set()

        def visit(one: Step) -> None:
            needed.add(one.name)
            for inner in one.inputs.values():
                visit(inner)

        for target in targets:
            visit(target)
        return [found for name, found in self.steps.items() if name in needed]

    def run(self, stage: str = "report", context: Context | None = None) -> Path:
        """Run what is not done yet, up to `stage`; returns its folder. One process at a time a run folder."""
        steps = self.until(stage)
        self._run(steps, context or Context(seed=self.seed))
        return self.folder(steps[-1].name)

    def run_alone(self, stage: str, inputs: Mapping[str, Path], out: Path, context: Context | None = None) -> Path:
        """Run one stage into `out`, some or all of its inputs taken from the given folders; the others are made as usual."""
        work = self.until(stage)[-1]
        if unknown := [label for label in inputs if label not in work.inputs]:
            raise ValueError(f"--input {unknown[0]}: {work.name} reads {', '.join(work.inputs) or 'raw files only'}")
        if missing := [path for path in inputs.values() if not path.is_dir()]:
            raise ValueError(f"--input: {missing[0]} is not a folder")
        if out.exists():
            raise ValueError(f"{out}: exists already; give --out another folder")
        context = context or Context(seed=self.seed)
        for label, inner in work.inputs.items():
            if label not in inputs:
                self._run(self.until(inner.name), context)
        return execute(work, self.runs, context, out=out, inputs=inputs)

    def _run(self, steps: Sequence[Step], context: Context) -> None:
        with lock(self.runs):
            for number, work in enumerate(steps, 1):
                if (self.runs / work.folder_name / MANIFEST).exists():
                    continue
                print(f"[{number}/{len(steps)}] {work.name}", flush=True)
                manifest = read_manifest(execute(work, self.runs, context))
                if work.stage == "ingest":
                    _check_kinds(manifest, {later.stage for later in steps})
                dropped = sorted(manifest.dropped.items(), key=lambda item: -item[1])
                reasons = ", ".join(f"{reason} {count:,}" for reason, count in dropped[:6]) + (", …" if len(dropped) > 6 else "")
                left_out = f" (left out: {reasons})" if reasons else ""
                print(f"      {manifest.num_in:,} in, {manifest.num_out:,} out{left_out} · {manifest.seconds:.1f} s", flush=True)

    def summary(self) -> str:
        """What the run made and where, for the end of `medchatzh run`."""
        found = {name: read_manifest(self.folder(name)) for name in ("ingest", "curate", "books", "reward", "score", "sft")}
        held_out = found["reward"].facts.get("held_out", {}).get("all")
        folders = {self.folder(name) for name in self.steps}
        seconds = sum(read_manifest(folder).seconds for folder in folders)
        lines = [
            f"{self.runs.name}: done, {seconds / 60:.1f} minutes of work in {len(folders)} stage folders under {self.runs}",
            f"  records    {found['ingest'].num_in:,} raw rows → {found['curate'].num_out:,} curated → {found['score'].num_out:,} medical",
            f"  books      {found['books'].num_out:,} chapters",
            f"  model      {found['sft'].facts['num_parameters']:,} parameters: {self.folder('sft') / 'checkpoint'}",
        ]
        if held_out:
            model, length = held_out["model"], held_out["length"]
            lines.append(
                f"  reward     held-out pairs right {model['accuracy']:.1%} ({model['low']:.1%} to {model['high']:.1%});"
                f" the longer answer: {length['accuracy']:.1%}"
            )
        lines += [f"  report     {self.folder('report') / 'report.html'}", f"             {self.folder('report') / 'report.md'}"]
        return "\n".join(lines)


def _check_kinds(manifest: Manifest, stages: set[str]) -> None:
    """ValueError where the raw files hold nothing of a kind that a later stage needs: better now than after the pre-training."""
    needed = {"books": "book", "reward": "preference", "curate": "dialogue", "generate": "question"}
    formats = {"book": "book", "preference": "rankings", "dialogue": "alpaca", "question": "webmedqa"}
    for stage, kind in needed.items():
        if stage in stages and not manifest.facts[f"num_{kind}s"]:
            raise ValueError(
                f"ingest found no {kind}s, which the stage {stage!r} needs: add a source (format {formats[kind]!r}, say)"
                f" to ingest.sources, or look at rejects.jsonl for why its rows were set aside"
            )
