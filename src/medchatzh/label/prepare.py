"""Makes a labelling folder: samples questions by category, picks candidates, and says who ranks what."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from medchatzh.ingest.benchmark import exchange_of
from medchatzh.label.gather import Asked, Gathered, gather, listed, records_of
from medchatzh.label.tasks import LABELLING, MAX_ANSWERS, TASKS, VERDICTS, Candidate, Labelling, Task, draw, key_of, load, same_question
from medchatzh.label.verdicts import read_verdicts
from medchatzh.recipe import Settings
from medchatzh.records import write
from medchatzh.run import PARTIAL


class Config(Settings, frozen=True, kw_only=True):
    labellers: tuple[str, ...]
    num_tasks: int = 100
    answers_per_task: int = 4
    """A ranking of K answers gives up to K(K − 1)/2 pairs; InstructGPT (section 3.5) showed labellers 4 to 9."""
    overlap: float = 0.2
    """Share of tasks that every labeller ranks, so that agreement can be measured; the others are dealt out."""
    seed: int = 0

    def __post_init__(self) -> None:
        Labelling(seed=self.seed, labellers=self.labellers)
        if self.num_tasks < 1:
            raise ValueError(f"--num-tasks {self.num_tasks}: give 1 or more")
        if not 2 <= self.answers_per_task <= MAX_ANSWERS:
            raise ValueError(f"--answers-per-task {self.answers_per_task}: give 2 to {MAX_ANSWERS}")
        if not 0 <= self.overlap <= 1:
            raise ValueError(f"--overlap {self.overlap}: give a share, 0 to 1")


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """What `prepare` tells."""

    gathered: Gathered
    labellers: tuple[str, ...]
    tasks: tuple[Task, ...]
    num_eligible: int
    """Questions with two different answers or more."""
    num_done_before: int
    """Questions left out for `without`."""


def prepare(path: Path, answers: Mapping[str, Path], out: Path, config: Config, without: Sequence[Path] = ()) -> Prepared:
    """Write a labelling folder at `out`, which must not be there yet. The same inputs give the same bytes.

    `without` names earlier labelling folders, whose labelled questions are left out, or files of records, all of whose are.
    """
    if out.exists():
        raise ValueError(
            f"{out}: is there already, and tasks never change; give a new folder (--without {out} leaves out what is labelled)"
        )
    gathered = gather(path, answers)
    done = {question for one in without for question in labelled(one)}
    fresh = {question: asked for question, asked in gathered.asked.items() if question not in done}
    eligible = {question: asked for question, asked in fresh.items() if len(asked.answers) > 1}
    if not eligible:
        raise ValueError(
            f"{path}: none of {len(fresh):,} questions has two different answers; add systems' answers to them: --answers NAME=FILE"
        )
    chosen = stratified(eligible, config.num_tasks, config.seed)
    tasks = tuple(_task(asked, number, config) for number, asked in enumerate(chosen))
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / VERDICTS).mkdir(parents=True)
    write(partial / TASKS, tasks)
    (partial / LABELLING).write_bytes(
        msgspec.json.format(msgspec.json.encode(Labelling(seed=config.seed, labellers=config.labellers))) + b"\n"
    )
    partial.rename(out)
    return Prepared(
        gathered=gathered,
        labellers=config.labellers,
        tasks=tasks,
        num_eligible=len(eligible),
        num_done_before=len(gathered.asked) - len(fresh),
    )


def sample(path: Path, out: Path, num_tasks: int, seed: int, without: Sequence[Path] = ()) -> int:
    """Write the records of a sample of questions, each category its share, to the new file `out`: for systems to answer, and then for
    `prepare`. Returns the number of questions."""
    if num_tasks < 1:
        raise ValueError(f"--num-tasks {num_tasks}: give 1 or more")
    if out.exists():
        raise ValueError(f"{out}: is there already; give a new file (--without {out} leaves out what it asks)")
    done = {question for one in without for question in labelled(one)}
    fresh = {question: asked for question, asked in gather(path, {}).asked.items() if question not in done}
    chosen = {same_question(asked.question.turns) for asked in stratified(fresh, num_tasks, seed)}
    if not chosen:
        raise ValueError(f"{path}: nothing is left of it --without these; give more questions")
    records = [record for record in records_of(path) if (prompt := exchange_of(record)[0]) and same_question(prompt) in chosen]
    if len(kinds := {type(record).__name__ for record in records}) > 1:
        raise ValueError(f"{path}: holds records of several kinds ({', '.join(sorted(kinds))}); give one file of it")
    aside = out.with_name(out.name + PARTIAL)
    write(aside, records)
    aside.rename(out)
    return len(chosen)


def labelled(path: Path) -> Iterable[str]:
    """`same_question` of what need not be asked again: a labelling folder's questions with a verdict, or all of a file of records."""
    if (path / LABELLING).is_file():
        labelling, tasks = load(path)
        known = {task for name in labelling.labellers for task in read_verdicts(path, name, tasks)}
        return [same_question(task.prompt) for task in tasks if task.key in known]
    return [same_question(prompt) for prompt, _ in map(exchange_of, records_of(path)) if prompt]


def stratified(questions: Mapping[str, Asked], num_tasks: int, seed: int) -> list[Asked]:
    """A sample in which each category has its share, to the nearest whole number. A larger one begins with a smaller one."""
    drawn = sorted(questions, key=lambda question: draw(seed, question))
    sizes = Counter(asked.question.category for asked in questions.values())
    places: Counter[str] = Counter()
    order: list[tuple[float, bytes, str]] = []
    for question in drawn:
        category = questions[question].question.category
        order.append(((places[category] + 0.5) / sizes[category], draw(seed, "category", category), question))
        places[category] += 1
    return [questions[question] for _, _, question in sorted(order)[:num_tasks]]


def _task(asked: Asked, number: int, config: Config) -> Task:
    """The sample's task of that number. Every 1/overlap-th goes to all labellers, so that the overlap is stratified as the sample is."""
    prompt = asked.question.turns
    question = same_question(prompt)
    drawn = sorted(asked.candidates(), key=lambda candidate: draw(config.seed, question, candidate.text))[: config.answers_per_task]
    candidates: tuple[Candidate, ...] = tuple(drawn)
    num_shared = int((number + 1) * config.overlap + 1e-9)  # 100 × 0.29 is a little less than 29
    shared = num_shared > int(number * config.overlap + 1e-9)
    dealt = config.labellers[(number - num_shared) % len(config.labellers)]
    place = {name: getattr(asked.question, name) for name in ("id", "source", "origin", "category")}
    return Task(
        **place,
        key=key_of(prompt, [candidate.text for candidate in candidates]),
        prompt=prompt,
        candidates=candidates,
        labellers=config.labellers if shared else (dealt,),
    )


def told(prepared: Prepared, out: Path) -> str:
    """What `prepare` did, for people."""
    gathered, tasks = prepared.gathered, prepared.tasks
    lines = [f"读到 / read: {gathered.num_records:,} 条记录 / records, {len(gathered.asked):,} 个不同的问题 / different questions"]
    if gathered.unusable:
        lines.append(f"  不是问题 / not questions: {listed(gathered.unusable)}")
    for system, rows in gathered.systems.items():
        others = rows - Counter(joined=rows["joined"])
        lines.append(f"  {system}: {rows['joined']:,} 个回答 / answers" + (f" ({listed(others)})" if others else ""))
    if prepared.num_done_before:
        lines.append(f"已标注而略去 / left out, labelled before: {prepared.num_done_before:,}")
    lines.append(f"可排序的问题 / questions with two answers or more: {prepared.num_eligible:,}")
    sources = Counter(source for task in tasks for candidate in task.candidates for source in candidate.sources)
    lines.append(f"抽取 / sampled: {len(tasks):,} 题 / tasks; {listed(sources)}")
    lines.append(f"各类 / by category: {listed(Counter(task.category for task in tasks))}")
    own = Counter({name: sum(name in task.labellers for task in tasks) for name in prepared.labellers})
    shared = sum(task.labellers == prepared.labellers for task in tasks)
    lines.append(f"分给 / dealt: {listed(own)}; 共同 / by all: {shared:,}")
    if gathered.is_benchmark:
        lines.append("注意：这些是评测题，用它们的排序训练的奖励模型不能再用于评测。")
        lines.append("Mind: these are a benchmark's questions; a reward model trained on their rankings has seen the test.")
    return "\n".join([*lines, f"{out}: medchatzh label rank {out} --labeller {prepared.labellers[0]} [--page]"])
