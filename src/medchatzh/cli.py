"""The command table. A stage is imported only when called: `medchatzh --help` takes a fraction of a second."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from medchatzh import __version__, doctor, forecast, label, launch

COMMANDS = {
    "run": "run a whole recipe: 从原始数据到报告",
    "ingest": "read raw files of many formats and encodings: 读取原始文件",
    "curate": "clean and filter the records, with a reason for every drop: 清洗指令",
    "books": "books → chapters: 古籍分章",
    "tokenizer": "train a tokenizer, or adopt one: 训练分词器",
    "pretrain": "continue pre-training on the books: 继续预训练",
    "reward": "train the reward model on rankings: 训练奖励模型",
    "score": "score the medical records and drop the low ones: 奖励过滤",
    "mix": "sources in proportion, shuffled, split by question, exported: 混合与导出",
    "sft": "fine-tune on the instructions: 指令微调",
    "dpo": "learn from the rankings directly, optional: 直接偏好优化",
    "generate": "answer the benchmark's questions: 生成回答",
    "evaluate": "metrics, floors and intervals: 评测",
    "report": "one HTML file and Markdown: 报告",
    "chat": "chat with the trained model in the terminal: 对话",
    "papers": "read exam papers (C-Eval, CMMLU …), optional: 读取试卷",
    "exam": "multiple-choice exams by option likelihood, optional: 考试",
    "judge": "pairwise verdicts of a language model, optional: 大模型评审",
    "compare": "score files of predictions, no recipe and no model needed: 给预测文件打分",
    "benchmark": "sizes and categories of a benchmark (table 2): 评测集概况",
    "label": "make preference rankings of one's own: 偏好标注",
    "convert": "a published Baichuan checkpoint → plain LLaMA: 转换检查点",
    "export": "a finished checkpoint → a folder to hand to others: 导出模型",
    "plan": "what training will take, before it is launched: 训练前估算",
    "launch": "the torchrun command of a recipe: 多卡启动",
    "doctor": "find what will fail before it costs hours: 体检",
    "explain": "what happened to a record, stage by stage, and why: 说明一条记录的去留",
    "claims": "check the paper's statements: 核查论文陈述",
}

_MODULES = {"label": label, "plan": forecast, "launch": launch, "doctor": doctor}
"""Commands that bring their own arguments and their own `main`."""


def parser() -> argparse.ArgumentParser:
    """The whole command line; the reference in docs/cli.md is made from it."""
    root = argparse.ArgumentParser(
        prog="medchatzh",
        description="Chinese medical dialogue models, from raw records to an evaluated model. 中文医疗对话模型工具链。",
    )
    root.add_argument("--version", action="version", version=f"medchatzh {__version__}")
    commands = root.add_subparsers(dest="command", metavar="COMMAND", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override one setting (repeatable)")
    shared.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where run folders lie (default: runs)")
    shared.add_argument("--threads", type=_count, default=0, metavar="N", help="threads for numerical work (default: one a core)")
    shared.add_argument("--workers", type=_count, default=os.cpu_count() or 1, metavar="N", help="processes for text work (one a core)")
    shared.add_argument(
        "--executor",
        choices=("processes", "ray"),
        default="processes",
        help="what runs text work: processes here, or a Ray cluster (extra [ray])",
    )
    own = {"convert": _add_convert, "export": _add_export, "explain": _add_explain}
    own |= {"compare": _add_compare, "benchmark": _add_benchmark, "claims": _add_claims}
    own |= {name: module.add_arguments for name, module in _MODULES.items()}
    for name, help_text in COMMANDS.items():
        if name in own:
            own[name](commands.add_parser(name, help=help_text, description=help_text))
            continue
        command = commands.add_parser(name, help=help_text, description=help_text, parents=[shared])
        also = {"chat": ", or a checkpoint folder", "generate": "; none with --questions"}.get(name, "")
        command.add_argument("recipe", type=Path, metavar="RECIPE", nargs="?" if name == "generate" else None, help="a TOML file" + also)
        if name == "chat":
            command.add_argument("--question", default="", metavar="TEXT", help="ask this, print the answer, leave")
        elif name != "run":
            command.add_argument("--arm", default="", metavar="NAME", help="the step of this ablation arm, or (generate) of this system")
            command.add_argument(
                "--input",
                action="append",
                default=[],
                metavar="LABEL=DIR",
                help="take this input from a folder instead of running the stage that makes it (repeatable; needs --out)",
            )
            command.add_argument("--out", type=Path, metavar="DIR", help="write this stage's output to that new folder")
        if name == "generate":
            _add_system(command)
        if name == "report":
            command.add_argument("--force", action="store_true", help="rank scores of different signatures too, marked ‡")
    return root


def _add_system(command: argparse.ArgumentParser) -> None:
    alone = command.add_argument_group("without a recipe", "one system answers a file's questions (--set: generate.KEY, endpoint.KEY)")
    alone.add_argument("--questions", type=Path, metavar="PATH", help="a benchmark: file, folder of files, questions.jsonl; needs --out")
    alone.add_argument(
        "--system", default="", metavar="NAME", help="a baseline (bentsao, huatuogpt, chatglm-med, gpt-3.5-turbo, medchatzh), or any name"
    )
    alone.add_argument(
        "--variant", choices=("official", "paper"), default="official", help="as the baseline's authors run it, or the paper's script"
    )
    alone.add_argument("--model", default="", metavar="DIR", help="its checkpoint, or the base's")
    alone.add_argument("--delta", action="append", default=[], metavar="DIR", help="a difference to add to the base (repeatable, in order)")
    alone.add_argument("--adapter", default="", metavar="DIR", help="a LoRA adapter to merge into the base")
    alone.add_argument("--endpoint", default="", metavar="URL", help="an OpenAI-compatible server in place of --model")
    alone.add_argument("--endpoint-model", default="", metavar="NAME", help="the model as that server names it")


def _add_convert(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", type=Path, metavar="FOLDER", help="the checkpoint as it was published")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")


def _add_export(command: argparse.ArgumentParser) -> None:
    command.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a checkpoint folder, or the folder of its stage")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    command.add_argument("--dtype", choices=("bf16", "fp16", "fp32"), default="bf16", help="of the weights (default: bf16)")


def _add_explain(command: argparse.ArgumentParser) -> None:
    command.add_argument("recipe", type=Path, metavar="RUN", help="a recipe, or a run folder such as runs/quickstart")
    command.add_argument("query", metavar="ID|FILE:LINE|TEXT", help="a record; or a text to judge as an answer (- reads it from stdin)")
    command.add_argument("--question", default="", metavar="TEXT", help="the question that the text answers")
    command.add_argument("--pool", choices=("medical", "general"), default="medical", help="whose thresholds judge the text")
    command.add_argument("--arm", default="", metavar="NAME", help="the folders of this ablation arm")
    command.add_argument("--verbose", action="store_true", help="list the rules that were passed, too")
    command.add_argument("--json", action="store_true", help="for machines")
    command.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override one setting of the recipe")
    command.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where run folders lie (default: runs)")


def _add_compare(command: argparse.ArgumentParser) -> None:
    command.add_argument("benchmark", type=Path, metavar="BENCHMARK", help="its file, the folder of its files, or a run's questions.jsonl")
    command.add_argument("files", nargs="+", metavar="NAME=FILE", help="a system, its answers (JSON lines, CSV …); the first is compared")
    command.add_argument("--name", default="", help="the benchmark's name in tables (default: its file's)")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="where scores and report go")
    command.add_argument("--seed", type=_count, default=0, metavar="N", help="of resampling (default: 0)")
    command.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="a setting of evaluate, report, generate")


def _add_benchmark(command: argparse.ArgumentParser) -> None:
    command.add_argument("path", type=Path, metavar="PATH", help="its file, the folder of its files, or a run's questions.jsonl")
    command.add_argument("--name", default="", help="webMedQA, cMedQA2, huatuo-26M, CMtMedQA: shown so only where the sizes are its own")


def _add_claims(command: argparse.ArgumentParser) -> None:
    command.add_argument("--benchmark", type=Path, metavar="PATH", help="a benchmark to measure on: file, folder of files, questions.jsonl")
    command.add_argument("--run", type=Path, metavar="DIR", help="a finished run to measure on, such as runs/quickstart")
    command.add_argument("--json", action="store_true", help="for machines")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Exit status: 0 done, 1 an error told in one line, 130 interrupted (run the same command to go on)."""
    options = parser().parse_args(arguments)
    try:
        return _dispatch(options)
    except (ValueError, OSError) as error:
        is_full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        remedy = "; 磁盘已满，腾出空间后再执行同一命令 / the disk is full: make room and give the same command again" if is_full else ""
        print(f"medchatzh: {error}{remedy}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nmedchatzh: interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def _dispatch(options: argparse.Namespace) -> int:
    if options.command == "chat":
        return _chat(options)
    if options.command == "convert":
        from medchatzh.convert import convert

        convert(options.folder, options.out)
        print(options.out)
        return 0
    if options.command == "export":
        from medchatzh.models.export import export

        print(f"{options.out}: {export(options.checkpoint, options.out, options.dtype):,} parameters")
        return 0
    if options.command in _MODULES:
        return _MODULES[options.command].main(options)
    if options.command == "explain":
        return _explain(options)
    if options.command == "compare":
        from medchatzh.compare import compare
        from medchatzh.run import Context

        files = dict(_labelled(text, "NAME=FILE") for text in options.files)
        if len(files) < len(options.files):
            raise ValueError("two of the files have the same name; give each system its own")
        made = compare(options.benchmark, options.name, files, options.out, options.set, Context(seed=options.seed))
        print(made / "report.html")
        return 0
    if options.command == "benchmark":
        from medchatzh.benchmarks import page
        from medchatzh.ingest.benchmark import read_questions

        print(page(read_questions(options.path, options.name or options.path.name)), end="")
        return 0
    if options.command == "claims":
        from medchatzh.claims import claims

        print(claims(options.benchmark, options.run, as_json=options.json), end="")
        return 0
    if options.command == "generate" and (options.questions or options.system or not options.recipe):
        return _answer(options)
    from medchatzh.pipeline import Plan
    from medchatzh.run import Context

    forced = ["report.force=true"] if getattr(options, "force", False) else []
    plan = Plan(options.recipe, [*options.set, *forced], options.runs)
    context = Context(
        seed=plan.seed, workers=options.workers, executor=options.executor, threads=options.threads, cache=options.runs / ".cache"
    )
    helps = int(os.environ.get("RANK", "0")) > 0  # under torchrun, a process other than the first
    if options.command == "run" and helps:
        plan.assist(plan.step_of("report"), {}, None, context)
        return 0
    if options.command == "run":
        plan.run(context=context)
        print(plan.summary())
        return 0
    work = plan.step_of(options.command, options.arm)
    given = dict(_labelled(text, "LABEL=DIR, for example --input curate=my_folder") for text in options.input)
    if helps:
        plan.assist(work, given, options.out, context)
    elif options.out:
        print(plan.run_alone(work, given, options.out, context))
    elif options.input:
        raise ValueError("--input needs --out: what is made from other inputs must not stand in the recipe's own folders")
    else:
        print(plan.run(work.name, context))
    return 0


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return int(text)


def _labelled(text: str, form: str) -> tuple[str, Path]:
    label, equals, path = text.partition("=")
    if not equals:
        raise ValueError(f"{text}: write {form}")
    return label, Path(path)


def _answer(options: argparse.Namespace) -> int:
    if options.recipe or options.arm or options.input or not (options.questions and options.system and options.out):
        raise ValueError("generate: give a RECIPE, or without one --questions PATH, --system NAME and --out DIR")
    from medchatzh import generate, recipe
    from medchatzh.generate import alone, systems
    from medchatzh.ingest.benchmark import some_questions
    from medchatzh.models.published import baselines
    from medchatzh.run import Context

    changes = recipe.override({}, options.set)
    if foreign := [section for section in changes if section not in ("generate", "endpoint")]:
        raise ValueError(f"--set {foreign[0]}…: without a recipe only generate.* and endpoint.* can be set")
    config = recipe.convert(changes.get("generate", {}), generate.Config, "--set generate")
    table = {"name": options.system, "model": options.model, "deltas": options.delta, "adapter": options.adapter}
    if options.system in baselines.NAMES or options.variant == "paper":
        table |= {"baseline": options.system, "variant": options.variant}
    else:
        known = ", ".join(baselines.NAMES)
        print(f"medchatzh: {options.system} is no baseline, and asked in its own way (baselines: {known})", file=sys.stderr)
    table["endpoint"] = changes.get("endpoint", {}) | {"base_url": options.endpoint, "model": options.endpoint_model}
    given = recipe.convert(table, systems.Config, "generate")
    system = generate.System.of(config, system=given.name, kind=given.kind, given=given)
    context = Context(workers=options.workers, executor=options.executor, threads=options.threads, cache=options.runs / ".cache")
    print(alone.answer(system, some_questions(options.questions, options.questions.stem), options.out, options.runs, context))
    return 0


def _chat(options: argparse.Namespace) -> int:
    from medchatzh import chat, recipe

    checkpoint = options.recipe
    if checkpoint.is_dir():
        table = recipe.override({}, options.set)
        if foreign := [section for section in table if section != "chat"]:
            raise ValueError(f"--set {foreign[0]}…: with a checkpoint folder only chat.* can be set")
        config = recipe.convert(table.get("chat", {}), chat.Config, "--set chat")
    else:
        from medchatzh.pipeline import Plan
        from medchatzh.run import Context

        plan = Plan(options.recipe, options.set, options.runs)
        config = plan.recipe.chat
        checkpoint = plan.run(plan.last(), Context(seed=plan.seed, workers=options.workers, threads=options.threads)) / "checkpoint"
    chat.run(checkpoint, config, options.question, options.threads)
    return 0


def _explain(options: argparse.Namespace) -> int:
    from medchatzh.explain import explain, show

    query = sys.stdin.read() if options.query == "-" else options.query
    told = explain(
        options.recipe,
        query,
        is_text=options.query == "-" or bool(options.question),
        question=options.question,
        pool=options.pool,
        arm=options.arm,
        verbose=options.verbose,
        overrides=options.set,
        runs=options.runs,
    )
    print(show.as_json(told) if options.json else show.text(told))
    return 0
