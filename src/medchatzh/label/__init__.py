"""`medchatzh label`: preference rankings of one's own. The paper's reward model stands on 3,000 self-labelled ones (section 3.2).

`sample` writes questions for systems to answer, `prepare` makes a folder of ranking tasks, `rank` asks a labeller (terminal or page),
`report` measures agreement, `export` writes rankings that a recipe reads as a source of preferences.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

__all__ = ["add_arguments", "main"]


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The five steps, as commands below `medchatzh label`. Imports nothing but argparse."""
    steps = command.add_subparsers(dest="step", metavar="STEP", required=True)
    sample = steps.add_parser(
        "sample",
        help="write questions for systems to answer: 抽题",
        description="抽题，给各系统作答 / questions for systems to answer",
    )
    sample.add_argument("--out", type=Path, required=True, metavar="FILE", help="the new file, for generate --questions and for prepare")
    prepare = steps.add_parser(
        "prepare", help="make a folder of ranking tasks: 准备标注题", description="准备标注题 / make a folder of ranking tasks"
    )
    prepare.add_argument(
        "--answers", nargs="+", action="extend", default=[], metavar="NAME=FILE", help="a system, its predictions (JSON lines, CSV …)"
    )
    prepare.add_argument("--out", type=Path, required=True, metavar="DIR", help="the new folder")
    prepare.add_argument(
        "--labellers", nargs="+", action="extend", required=True, metavar="NAME", help="who ranks, for example wang 李医生"
    )
    prepare.add_argument(
        "--answers-per-task", type=int, default=4, metavar="K", help="at most so many answers to a question, 2 to 9 (default: 4)"
    )
    prepare.add_argument(
        "--overlap", type=float, default=0.2, metavar="SHARE", help="share of tasks that every labeller ranks (default: 0.2)"
    )
    for step in (sample, prepare):
        step.add_argument(
            "questions", type=Path, metavar="QUESTIONS", help="records in any form that ingest reads, or the folder of a run or a stage"
        )
        step.add_argument(
            "--num-tasks", type=int, default=100, metavar="N", help="questions to sample, each category its share (default: 100)"
        )
        step.add_argument(
            "--without",
            type=Path,
            nargs="+",
            action="extend",
            default=[],
            metavar="PATH",
            help="leave out what is labelled in these folders, or asked in these files",
        )
        step.add_argument("--seed", type=int, default=0, metavar="N", help="of sampling and of orders (default: 0)")
    rank = steps.add_parser(
        "rank", help="rank answers, in the terminal or a page: 标注", description="标注 / rank answers; every verdict is saved at once"
    )
    rank.add_argument("--labeller", required=True, metavar="NAME", help="who ranks, as named to prepare")
    rank.add_argument("--page", action="store_true", help="in a browser on this machine, instead of the terminal")
    rank.add_argument("--port", type=_port, metavar="N", help="of the page (default: a free one)")
    report = steps.add_parser("report", help="progress and agreement: 进度与一致性", description="进度与一致性 / progress and agreement")
    report.add_argument("--json", action="store_true", help="for machines, with every shared task")
    export = steps.add_parser(
        "export", help="write the preferences: 导出偏好", description="导出偏好 / write rankings, a source of format 'rankings'"
    )
    export.add_argument("--out", type=Path, required=True, metavar="FILE", help="preferences.jsonl; what is set aside goes beside it")
    export.add_argument(
        "--min-agreement",
        type=float,
        default=0.0,
        metavar="X",
        help="set aside what labellers agree on no better, -1 to 1 (default: 0, chance)",
    )
    for step in (rank, report, export):
        step.add_argument("folder", type=Path, metavar="DIR", help="a folder that prepare made")


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 0 to 65535")
    return int(text)


def main(options: argparse.Namespace) -> int:
    """Run a step. ValueError or OSError tells what is wrong."""
    if options.step == "sample":
        from medchatzh.label.prepare import sample

        number = sample(options.questions, options.out, options.num_tasks, options.seed, options.without)
        print(f"{options.out}: {number:,} 个问题 / questions; medchatzh generate --questions {options.out} --system NAME --out DIR")
    elif options.step == "prepare":
        _prepare(options)
    elif options.step == "rank":
        _rank(options)
    elif options.step == "report":
        import msgspec

        from medchatzh.label.report import markdown, report

        found = report(options.folder)
        print(msgspec.json.format(msgspec.json.encode(found)).decode() if options.json else markdown(found))
    else:
        from medchatzh.label.export import beside, export

        done = export(options.folder, options.out, options.min_agreement)
        print(f"{options.out}: {done.num_written:,} 个排序 / rankings")
        if done.set_aside:
            told = ", ".join(f"{reason} {count:,}" for reason, count in done.set_aside.items())
            print(f"{beside(options.out)}: {sum(done.set_aside.values()):,} 个搁置 / set aside ({told})")
        if done.num_waiting or done.num_partly:
            print(f"还没有人答 / without a verdict: {done.num_waiting:,}；还差人答 / some labellers missing: {done.num_partly:,}")
    return 0


def _prepare(options: argparse.Namespace) -> None:
    from medchatzh.label.prepare import Config, prepare, told

    config = Config(
        labellers=tuple(options.labellers),
        num_tasks=options.num_tasks,
        answers_per_task=options.answers_per_task,
        overlap=options.overlap,
        seed=options.seed,
    )
    print(told(prepare(options.questions, _named(options.answers), options.out, config, options.without), options.out))


def _named(texts: Sequence[str]) -> dict[str, Path]:
    """NAME=FILE → name, file."""
    found: dict[str, Path] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise ValueError(f"--answers {text}: write NAME=FILE, a system and the file of its answers")
        if name in found:
            raise ValueError(f"--answers {text}: {name} is there twice; give each system its own name")
        found[name] = Path(path)
    return found


def _rank(options: argparse.Namespace) -> None:
    if options.page:
        from medchatzh.label.server import serve

        serve(options.folder, options.labeller, options.port or 0)
    elif options.port is not None:
        raise ValueError("--port is the page's; add --page")
    else:
        from medchatzh.label.terminal import run

        run(options.folder, options.labeller)
