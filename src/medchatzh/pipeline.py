"""A recipe → the steps of the pipeline. The one place that knows all stages and how they depend on each other.

raw files → ingest → curate ─┬─ books → tokenizer → pretrain → reward → score → mix → sft → generate → judge → evaluate → report

An arm (ablation), another seed and another judge are the same steps with something changed: `stage@arm`, `stage@arm#seed`, `reward@judge`.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from medchatzh import ablations, books, chat, curate, evaluate, exam, generate, ingest, judge, mix, models, report, score, tokenizer
from medchatzh import recipe as recipes
from medchatzh.curate import overlap
from medchatzh.generate import systems
from medchatzh.ingest import papers, predictions
from medchatzh.recipe import Settings
from medchatzh.run import MANIFEST, PARTIAL, Context, Digests, Manifest, Step, execute, lock, read_manifest, step
from medchatzh.train import dpo, needs, pretrain, reward, sft
from medchatzh.train.optimization import Optimization

FLOORS = ("canned", "random", "retrieved", "human")
BEFORE_SFT = "before_sft"
BEFORE_DPO = "before_dpo"
_OWN = (BEFORE_SFT, BEFORE_DPO, *FLOORS)
"""Names of systems that no recipe may give to its own."""
ARM_TABLES = ("ingest", "curate", "books", "tokenizer", "pretrain", "reward", "score", "mix", "sft", "dpo", "generate")
"""What an arm may change. All arms share the data folder, the seed, the judge and the evaluation, else they could not be compared."""


class Run(Settings, frozen=True, kw_only=True):
    name: str = ""
    """Folder under `runs/`; the recipe's file name where empty."""
    seed: int = 0
    """Of everything random: data order, initial weights, splits, samples, resampling."""
    main: str = "medchatzh"
    """Name of the trained system in tables."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}; write a number from 0 to {2**32 - 1}")
        if self.name in (".", "..") or "/" in self.name or "\\" in self.name:
            raise ValueError(f"name is {self.name!r}; write a plain folder name, and give its place with --runs")


class Data(Settings, frozen=True, kw_only=True):
    root: str
    """Folder of the raw files. `medchatzh:samples` are the records inside the package."""


class Recipe(Settings, frozen=True, kw_only=True):
    """A whole recipe: a table a stage, and `arms` (name → changes to the recipe) for ablations."""

    data: Data
    ingest: ingest.Config = ingest.Config()
    run: Run = Run()
    curate: curate.Config = curate.Config()
    books: books.Config = books.Config()
    tokenizer: tokenizer.Config = tokenizer.Config()
    pretrain: pretrain.Config = pretrain.Config()
    reward: reward.Config = reward.Config()
    score: score.Config = score.Config()
    mix: mix.Config = mix.Config()
    sft: sft.Config = sft.Config()
    dpo: dpo.Config = dpo.Config()
    generate: generate.Config = generate.Config()
    evaluate: evaluate.Config = evaluate.Config()
    judge: judge.Config = judge.Config()
    papers: papers.Config = papers.Config()
    exam: exam.Config = exam.Config()
    report: report.Config = report.Config()
    overlap: overlap.Config = overlap.Config()
    predictions: tuple[predictions.Config, ...] = ()
    """Systems whose answers were made elsewhere, each from a file."""
    systems: tuple[systems.Config, ...] = ()
    """Systems that are not trained here: baselines by name, checkpoints, models behind a server."""
    chat: chat.Config = chat.Config()
    ablation: ablations.Config = ablations.Config()
    arms: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    """Ablations: `[arms.no_medical.sft] pools = ["general"]` trains and evaluates the same recipe with that change."""
    judges: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    """Reward models that judge beside the one that filtered the records, and so is no independent judge: `[judges.second] seed = 44` trains
    `[reward]` again with another seed; `base` and `epochs = 0` take a finished one (ours, or Ziya-LLaMA-7B-Reward). Name → changes to
    `[reward]`, and `seed`."""


class Plan:
    """The steps of a recipe, by name and in order. Steps that agree in everything share a folder, and so run once."""

    def __init__(self, path: Path, overrides: Sequence[str] = (), runs: Path = Path("runs")) -> None:
        """Read and check the recipe, its arms, and its raw files; nothing runs. ValueError says what is wrong and where."""
        table = recipes.override(recipes.load_toml(path), overrides)
        self.recipe = recipes.convert(table, Recipe, str(path))
        self._holds_exams_only = not self.recipe.ingest.sources and bool(self.recipe.papers.sources and self.recipe.exam.checkpoints)
        if not self.recipe.ingest.sources and not self._holds_exams_only:
            wanted = "; or, to hold an exam alone, name a checkpoint in exam.checkpoints" if self.recipe.papers.sources else ""
            raise ValueError(f"{path}: ingest.sources: is empty; add at least one [[ingest.sources]] with name and path{wanted}")
        if self.recipe.run.main in _OWN:
            raise ValueError(f"{path}: run.main: {self.recipe.run.main!r} is the name of another system; choose another")
        try:
            asked = self.recipe.ablation.arms(self.recipe.curate.rules) | self.recipe.arms
        except ValueError as error:
            raise ValueError(f"{path}: ablation.{error}") from None
        taken = {self.recipe.run.main, *_OWN, *asked}
        others = [("predictions", file.name) for file in self.recipe.predictions]
        others += [("systems", given.name) for given in self.recipe.systems]
        for place, name in others:
            if name in taken:
                raise ValueError(f"{path}: {place}: {name!r} is the name of another system; choose another")
            taken.add(name)
        self.arms: dict[str, Recipe] = {}
        for name, changes in asked.items():
            if name in (self.recipe.run.main, *_OWN) or not name.isidentifier():
                raise ValueError(f"{path}: arms.{name}: choose another name, of letters, digits and _")
            if fixed := [table for table in changes if table in Recipe.__struct_fields__ and table not in ARM_TABLES]:
                raise ValueError(f"{path}: arms.{name}.{fixed[0]}: is the same for all arms; an arm may change {', '.join(ARM_TABLES)}")
            self.arms[name] = recipes.convert(recipes.merge(table, changes), Recipe, f"{path}: arms.{name}")
        self.judges: dict[str, tuple[int, reward.Config]] = {}
        for name, changes in self.recipe.judges.items():
            place, own = f"{path}: judges.{name}", dict(changes)
            if not name.isidentifier():
                raise ValueError(f"{place}: choose another name, of letters, digits and _")
            seed = recipes.convert({"seed": own.pop("seed", self.recipe.run.seed)}, Run, place).seed
            table_of_reward = recipes.merge(table.get("reward", {}), own)
            self.judges[name] = seed, recipes.convert(table_of_reward, reward.Config, place)
        if not self.recipe.report.command:
            command = _command(path, overrides)
            self.recipe = msgspec.structs.replace(self.recipe, report=msgspec.structs.replace(self.recipe.report, command=command))
        everyone = (self.recipe, *self.arms.values())
        self._disagreements = [(stage, f"{path}: {what}") for changed in everyone for stage, what in _disagreements(changed)]
        self.root = recipes.resolve_root(self.recipe.data.root, path).resolve()
        self.runs = runs / (self.recipe.run.name or path.stem)
        if file := next((each for each in (self.runs, *self.runs.parents) if each.is_file()), None):
            raise ValueError(f"--runs {runs}: {file} is a file; give a folder")
        self.seed = self.recipe.run.seed
        self.steps: dict[str, Step] = {}
        self._digests = Digests(self.runs / ".digests.json")
        self._build()
        if not int(os.environ.get("RANK", "0")):  # of torchrun's processes only the first one writes in the run folder
            self._digests.save()

    def _build(self) -> None:
        if self._holds_exams_only:
            self._add_exam({})
            self._add("report", "report", self.recipe.report, {"exam": "exam"}, optional_inputs=True)
            return
        main, seen = self.recipe.run.main, {"ingest": "ingest"}
        self._train("", self.recipe)
        for arm, changed in self.arms.items():
            self._train(f"@{arm}", changed)
        systems = {main: self.last(), BEFORE_SFT: "pretrain"} | ({BEFORE_DPO: "sft"} if self.recipe.dpo.epochs else {})
        systems |= {arm: self.last(arm) for arm in self.arms}
        for seed in self.recipe.ablation.seeds if self.arms else ():
            for name, changed in {main: self.recipe, **self.arms}.items():
                system = f"{name}{evaluate.SEED_MARK}{seed}"
                self._train(f"@{system}", changed, seed)
                systems[system] = self.last(system)
        for system, model in systems.items():
            self._add(f"generate@{system}", "generate", self._system(system, "checkpoint"), seen | {"model": model}, resumable=True)
        for floor in FLOORS:
            known = {"score": "score"} if floor in ("random", "retrieved") else {}
            self._add(f"generate@{floor}", "generate", self._system(floor, floor), seen | known)
        for file in self.recipe.predictions:
            self._add_file(file, seen)
        for given in self.recipe.systems:
            asked = generate.System.of(self.recipe.generate, system=given.name, kind=given.kind, given=given)
            self._add(f"generate@{given.name}", "generate", asked, seen, files=given.files(), resumable=True)
        names = (*systems, *FLOORS, *(file.name for file in self.recipe.predictions), *(given.name for given in self.recipe.systems))
        answered = {f"generate@{system}": f"generate@{system}" for system in names}
        self._add("overlap", "curate.overlap", self.recipe.overlap, seen | {"mix": "mix"})
        self._add("score@judge", "score", self.recipe.score, seen | {"reward": "reward"} | answered, resumable=True)
        judged = {"judge": "score@judge"} | answered
        for name, (seed, config) in self.judges.items():
            files = _checkpoint_files(f"judges.{name}.base", config.base) if config.base else {}
            known = {label: label for label in _rewards_inputs(config)}
            self._add(f"reward@{name}", "train.reward", config, known, seed, files=files, resumable=True)
            self._add(f"score@judge_{name}", "score", self.recipe.score, seen | {"reward": f"reward@{name}"} | answered, resumable=True)
            judged[f"judge@{name}"] = f"score@judge_{name}"
        known = seen | {"score": "score", "overlap": "overlap"}
        self._add("evaluate", "evaluate", self.recipe.evaluate, known | judged, optional_inputs=True)
        if self.recipe.judge.endpoint.base_url:
            compared = {label: target for label, target in answered.items() if evaluate.SEED_MARK not in label}
            self._add("judge", "judge", self.recipe.judge, seen | compared, resumable=True, optional_inputs=True)
            judged["pairwise"] = "judge"
        if self.recipe.papers.sources:
            self._add_exam({system: model for system, model in systems.items() if evaluate.SEED_MARK not in system})
            judged["exam"] = "exam"
        before_sft = ("ingest", "curate", "books", "tokenizer", "pretrain", "reward", "score", "mix")
        trained = ("sft", "dpo") if self.recipe.dpo.epochs else ("sft",)
        shown = (*before_sft, *trained, *(f"sft@{arm}" for arm in self.arms))
        told = {label: label for label in shown} | {"overlap": "overlap", "evaluate": "evaluate"}
        told |= {label: target for label, target in judged.items() if evaluate.SEED_MARK not in label}
        self._add("report", "report", self.recipe.report, told, optional_inputs=True)

    def _add_exam(self, systems: Mapping[str, str]) -> None:
        if taken := [name for name in self.recipe.exam.checkpoints if name in systems]:
            raise ValueError(f"exam.checkpoints: {taken[0]!r} is the name of another system; choose another")
        exams, files = papers.placed(self.recipe.papers, self.root)
        self._add("papers", "ingest.papers", exams, {}, files=files, takes_files=True)
        outside = {
            f"{name}/{file}": path
            for name, folder in self.recipe.exam.checkpoints.items()
            for file, path in _checkpoint_files(f"exam.checkpoints.{name}", folder).items()
        }
        known = {"papers": "papers"} | {f"model@{system}": model for system, model in systems.items()}
        self._add("exam", "exam", self.recipe.exam, known, files=outside, resumable=True, optional_inputs=True)

    def _add_file(self, file: predictions.Config, seen: Mapping[str, str]) -> None:
        path = Path(file.path).expanduser()
        if not path.is_file():
            raise ValueError(f"predictions.{file.name}: {path}: no such file")
        more = {"path": path.name, "max_questions": self.recipe.generate.max_questions}
        config = predictions.System(**msgspec.structs.asdict(file) | more)
        self._add(f"generate@{file.name}", "ingest.predictions", config, seen, files={path.name: path}, takes_files=True)

    def _train(self, arm: str, changed: Recipe, seed: int | None = None) -> None:
        """The chain from raw files to an SFT checkpoint under one recipe. `arm` is '' or '@name'; `seed` the run's where None."""

        def add(stage: str, module: str, *inputs: str, outside: str = "", **more: Any) -> None:
            config = getattr(changed, stage)
            files = _checkpoint_files(f"{stage}.{outside}", getattr(config, outside)) if outside else {}
            more = {"files": files} | more
            self._add(f"{stage}{arm}", module, config, {label: f"{label}{arm}" for label in inputs}, seed, **more)

        add("ingest", "ingest", files=ingest.raw_files(changed.ingest, self.root), takes_files=True, resumable=True)
        add("curate", "curate", "ingest", files=changed.curate.files(), resumable=True)
        add("books", "books", "ingest", resumable=True)
        add("tokenizer", "tokenizer", "curate", "books", outside="path")
        add("pretrain", "train.pretrain", "books", "tokenizer", outside="base", resumable=True)
        add("reward", "train.reward", *_rewards_inputs(changed.reward), outside="base", resumable=True)
        judges = () if changed.score.kind == "none" else ("reward",)
        add("score", "score", *judges, "curate", resumable=True)
        add("mix", "mix", "ingest", "curate", "score", resumable=True)
        add("sft", "train.sft", "pretrain", "mix", resumable=True)
        if changed.dpo.epochs:
            add("dpo", "train.dpo", "ingest", "sft", resumable=True)

    def _system(self, name: str, kind: Any) -> generate.System:
        changed = self.arms.get(name.partition(evaluate.SEED_MARK)[0], self.recipe)
        return generate.System(**msgspec.structs.asdict(changed.generate), system=name, kind=kind)

    def last(self, system: str = "") -> str:
        """The step that makes the model of an arm or seed (`arm`, `arm#seed`): SFT, or DPO where the recipe has it."""
        changed = self.arms.get(system.partition(evaluate.SEED_MARK)[0], self.recipe)
        return ("dpo" if changed.dpo.epochs else "sft") + (f"@{system}" if system else "")

    def _add(self, name: str, module: str, config: Any, inputs: Mapping[str, str], seed: int | None = None, **more: Any) -> None:
        linked = {label: self.steps[target] for label, target in inputs.items()}
        self.steps[name] = step(
            self.seed if seed is None else seed, self._digests, name=name, module=module, config=config, inputs=linked, **more
        )

    def folder(self, name: str) -> Path:
        return self.runs / self.steps[name].folder_name

    def until(self, stage: str) -> list[Step]:
        """The steps that a stage needs, itself last, in order: one step (`sft`, `sft@no_medical`) or all of a stage (`generate`).

        ValueError for a stage that is none, and for settings that cannot work together.
        """
        targets = [self.steps[stage]] if stage in self.steps else [found for found in self.steps.values() if found.stage == stage]
        if not targets:
            why = "; the recipe has no ingest.sources, and holds exams only" if self._holds_exams_only else ""
            raise ValueError(f"unknown stage {stage!r}; known: {', '.join(self.steps)}{why}")
        needed: set[str] = set()

        def visit(one: Step) -> None:
            needed.add(one.name)
            for inner in one.inputs.values():
                visit(inner)

        for target in targets:
            visit(target)
        steps = [found for name, found in self.steps.items() if name in needed]
        self._check(steps)
        return steps

    def _check(self, steps: Sequence[Step]) -> None:
        """ValueError for settings that cannot work together, where one of these steps would find out: better now than later."""
        for stage, what in self._disagreements:
            if stage in {work.stage for work in steps}:
                raise ValueError(what)

    def run(self, stage: str = "report", context: Context | None = None) -> Path:
        """Run what is not done yet, up to `stage`; returns its folder. One process at a time a run folder."""
        steps = self.until(stage)
        self._run(steps, context or Context(seed=self.seed))
        return self.folder(steps[-1].name)

    def step_of(self, stage: str, arm: str = "") -> Step:
        """The step that a stage's name means: its own, or that of an arm or system (`generate` alone means the main system's)."""
        for name in (f"{stage}@{arm}",) if arm else (stage, f"{stage}@{self.recipe.run.main}"):
            if name in self.steps:
                return self.steps[name]
        if stage == "dpo" and not arm:
            raise ValueError("dpo: the recipe has none; set dpo.epochs, 1 for example")
        if stage in ("papers", "exam") and not arm:
            raise ValueError(f"{stage}: no exam to hold; add one to [[papers.sources]]")
        if stage == "judge" and not arm:
            raise ValueError("judge: no language model to ask; set judge.endpoint.base_url and judge.endpoint.model")
        if self._holds_exams_only:
            raise ValueError(f"{stage}: the recipe has no ingest.sources, and holds exams only: papers, exam, report")
        known = [name.partition("@")[2] for name in self.steps if name.startswith(f"{stage}@")]
        raise ValueError(f"{stage} has no arm or system {arm!r}; known: {', '.join(known) or 'none'}")

    def run_alone(self, work: Step, given: Mapping[str, Path], out: Path, context: Context | None = None) -> Path:
        """Run one step into `out`, some or all of its inputs taken from the given folders.

        The others are made as usual; but evaluate and report, once given anything, make do with that, and need no model.
        """
        for label, path in given.items():
            if label not in work.inputs and not (work.optional_inputs and label.startswith("generate@")):
                raise ValueError(f"--input {label}: {work.name} reads {', '.join(work.inputs) or 'raw files only'}")
            if not path.is_dir():
                raise ValueError(f"--input {label}: {path} is not a folder")
        if out.exists():
            raise ValueError(f"{out}: exists already; give --out another folder")
        self._check([work])
        _check_machine([work])
        context = context or Context(seed=self.seed)
        only_given = work.optional_inputs and bool(given)
        for label, inner in work.inputs.items():
            if label not in given and not only_given:
                self._run(self.until(inner.name), context)
        with lock(out.parent):
            return execute(work, self.runs, context, out=out, given=given, only_given=only_given)

    def assist(self, work: Step, given: Mapping[str, Path], out: Path | None, context: Context) -> None:
        """Under torchrun, a process other than the first: take part in what is done together (training, scoring), wait for the rest."""
        before = {step.name: step for label, inner in work.inputs.items() if label not in given for step in self.until(inner.name)}
        for one in (*before.values(), work):
            last = one.name == work.name
            folder = out if last and out else self.runs / one.folder_name
            partial = folder.with_name(folder.name + PARTIAL)
            taken = given if last else {}
            folders = {label: self.runs / inner.folder_name for label, inner in one.inputs.items() if label not in taken}
            for needed in folders.values():
                _wait_for(needed / MANIFEST)
            module = import_module(f"medchatzh.{one.module}")
            inputs = {label: path.resolve() for label, path in (folders | dict(taken)).items()}
            alone = msgspec.structs.replace(context, seed=one.seed)
            if not any((place / MANIFEST).exists() for place in (folder, partial)):
                if getattr(module, "TOGETHER", False):
                    module.run(one.config, inputs, partial.resolve(), alone)
                elif hasattr(module, "assist"):
                    module.assist(one.config, inputs, alone)
            _wait_for(folder / MANIFEST)

    def _run(self, steps: Sequence[Step], context: Context) -> None:
        waiting = [work for work in steps if not (self.runs / work.folder_name / MANIFEST).exists()]
        if not waiting:
            return  # and take no lock: one may chat with a finished model while another run works in the same folder
        _check_machine(waiting)
        with lock(self.runs):
            for number, work in enumerate(steps, 1):
                done = (self.runs / work.folder_name / MANIFEST).exists()
                if not done:
                    print(f"[{number}/{len(steps)}] {work.name}", flush=True)
                manifest = read_manifest(execute(work, self.runs, context))
                if work.stage == "ingest":
                    _check_kinds(manifest, {later.stage for later in steps})
                if not done:
                    print(f"      {_told(manifest)}", flush=True)

    def summary(self) -> str:
        """What the run made and where, for the end of `medchatzh run`."""
        if self._holds_exams_only:
            return f"{self.runs.name}: done\n  report     {self.folder('report') / 'report.html'}"
        last = self.last()
        found = {name: read_manifest(self.folder(name)) for name in ("ingest", "curate", "books", "reward", "score", "mix", last)}
        held_out = found["reward"].facts.get("held_out", {}).get("all")
        folders = {self.folder(name) for name in self.steps}
        seconds = sum(read_manifest(folder).seconds for folder in folders)
        lines = [
            f"{self.runs.name}: done, {seconds / 60:.1f} minutes of work in {len(folders)} stage folders under {self.runs}",
            f"  records    {found['ingest'].num_in:,} raw rows → {found['curate'].num_out:,} curated → {found['score'].num_out:,} medical"
            f" → {found['mix'].facts['num_train']:,} to train on: {self.folder('mix')}",
            f"  books      {found['books'].num_out:,} chapters",
            f"  model      {found[last].facts['num_parameters']:,} parameters: {self.folder(last) / 'checkpoint'}",
        ]
        if held_out:
            model, length = held_out["model"], held_out["length"]
            lines.append(
                f"  reward     held-out pairs right {model['accuracy']:.1%} ({model['low']:.1%} to {model['high']:.1%});"
                f" the longer answer: {length['accuracy']:.1%}"
            )
        lines += [f"  report     {self.folder('report') / 'report.html'}", f"             {self.folder('report') / 'report.md'}"]
        return "\n".join(lines)


def _wait_for(manifest: Path) -> None:
    while not manifest.exists():
        time.sleep(0.5)


def _disagreements(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """(stage that they would stop, what is wrong) for settings that are each fine but cannot work together."""
    positions = recipe.pretrain.architecture.max_positions
    if not recipe.pretrain.base and recipe.generate.decoding.max_new_tokens >= positions:
        yield (
            "pretrain",
            f"generate.decoding.max_new_tokens = {recipe.generate.decoding.max_new_tokens} leaves no room for a question in"
            f" pretrain.architecture.max_positions = {positions}; lower the one or raise the other",
        )
    if missing := [pool for pool in recipe.sft.pools if pool not in {source.pool for source in recipe.ingest.sources}]:
        yield "sft", f"sft.pools: no source of ingest.sources is of pool {missing[0]!r}; add one, or leave the pool out"
    if not recipe.sft.pools:
        yield "sft", "sft.pools: is empty; write at least one of 'general', 'medical'"
    names = {source.name for source in recipe.ingest.sources}
    for stage, key, by_source in (
        ("curate", "sources", recipe.curate.sources),
        ("mix", "weights", recipe.mix.weights),
        ("mix", "max_by_source", recipe.mix.max_by_source),
    ):
        if unknown := by_source.keys() - names:
            yield stage, f"{stage}.{key}.{min(unknown)}: no such source; known: {', '.join(sorted(names))}"


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


def _rewards_inputs(config: reward.Config) -> tuple[str, ...]:
    return ("ingest", "curate", "pretrain") if config.takes_dialogues else ("ingest", "pretrain")


def _check_machine(steps: Sequence[Step]) -> None:
    """ValueError where one of these steps would train with settings that cannot work here."""
    for work in steps:
        config = work.config
        if isinstance(config, Optimization) and config.epochs:
            models.require_torch()
            try:
                needs.check(config, int(os.environ.get("WORLD_SIZE", "1")))
            except ValueError as error:
                raise ValueError(f"{work.name}.{error}") from None


def _told(manifest: Manifest) -> str:
    """One line about a finished stage."""
    dropped = sorted(manifest.dropped.items(), key=lambda item: -item[1])
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in dropped[:6]) + (", …" if len(dropped) > 6 else "")
    left_out = f" (left out: {reasons})" if reasons else ""
    left_out += "".join(f", {lack}" for lack in predictions.lacks(manifest.facts))
    return f"{manifest.num_in:,} in, {manifest.num_out:,} out{left_out} · {manifest.seconds:.1f} s"


def _checkpoint_files(setting: str, path: str) -> dict[str, Path]:
    """The files of an outside checkpoint, for the fingerprint: other weights in the same folder are another run."""
    if not path:
        return {}
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise ValueError(f"{setting}: {path} is not a folder; give a checkpoint folder, or leave it empty")
    return {f"{folder.name}/{file.name}": file for file in sorted(folder.iterdir()) if file.is_file()}


def _command(path: Path, overrides: Sequence[str]) -> str:
    """The command that makes the report, without the paths of this machine."""
    shown = ["data.root=FOLDER" if override.startswith("data.root=") else override for override in overrides]
    recipe = path.name if path.is_absolute() else str(path)
    return " ".join(["medchatzh run", recipe, *(shlex.join(["--set", override]) for override in shown)])
