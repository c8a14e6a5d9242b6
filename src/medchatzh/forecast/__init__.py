"""`medchatzh plan`: what a recipe's training will take on given devices, before it is launched.

Parameters are exact; tokens are counted, estimated or assumed, and it says which; FLOPs and memory follow from the code in `train/`; hours
from a stated efficiency.
"""

from __future__ import annotations

import argparse
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from medchatzh import recipe as recipes

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from medchatzh.forecast.amounts import Amount, Stage
    from medchatzh.forecast.stage import Forecast, Ground, Warned
    from medchatzh.pipeline import Plan, Recipe


_STAGES = ("pretrain", "reward", "sft", "dpo")


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of `medchatzh plan`."""
    command.add_argument("recipe", type=Path, metavar="RECIPE", help="a TOML file")
    command.add_argument(
        "--device", default="cpu", metavar="NAME", help="a800-80g, a100-80g, h100-80g, h200-141g, rtx-4090 …; default: cpu"
    )
    command.add_argument("--devices", type=_positive, default=1, metavar="N", help="devices of a node (default: 1)")
    command.add_argument("--nodes", type=_positive, default=1, metavar="N", help="machines (default: 1)")
    command.add_argument("--stage", action="append", choices=_STAGES, help="only this one (repeatable)")
    command.add_argument(
        "--base-config", default="", metavar="NAME|FILE", help="the base's shape without its weights: baichuan-7b, config.json …"
    )
    command.add_argument("--efficiency", type=float, default=0, metavar="SHARE", help="of the peak rate (default: the device's)")
    command.add_argument("--memory-gb", type=float, metavar="GIB", help="memory of a device")
    command.add_argument("--tflops", type=float, metavar="N", help="peak rate of a device: bf16 or fp16, dense")
    command.add_argument("--tokens", action="append", default=[], metavar="STAGE=N", help="tokens an epoch, where there is no data yet")
    command.add_argument("--json", action="store_true", help="for machines")
    command.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override one setting (repeatable)")
    command.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where run folders lie (default: runs)")


def main(options: argparse.Namespace) -> int:
    """Print the forecast. Exit status 1 where a stage will not run as it stands."""
    from medchatzh.forecast import devices, show
    from medchatzh.forecast.stage import Ground

    for name in ("memory_gb", "tflops"):
        if (given := getattr(options, name)) is not None and not 0 < given < math.inf:
            raise ValueError(f"--{name.replace('_', '-')} {given:g}: a number above 0")
    device = devices.find(options.device, options.memory_gb or 0, options.tflops or 0)
    if options.efficiency and not 0 < options.efficiency <= 1:
        raise ValueError(f"--efficiency {options.efficiency}: a share from 0 to 1")
    ground = Ground(device=device, devices=options.devices, nodes=options.nodes, efficiency=options.efficiency or device.efficiency)
    made, notes = plan(
        options.recipe, ground, options.stage or (), options.set, options.runs, base=options.base_config, tokens=_tokens(options.tokens)
    )
    if options.json:
        shown = {"device": device._asdict(), "devices": ground.devices, "nodes": ground.nodes, "stages": made, "notes": notes}
        print(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())
    else:
        print(show.text(made, ground, notes))
    return int(any(warned.level == "error" for one in made for warned in one.warnings))


def plan(
    path: Path,
    ground: Ground,
    stages: Sequence[Stage] = (),
    overrides: Sequence[str] = (),
    runs: Path = Path("runs"),
    *,
    base: str = "",
    tokens: dict[str, int] | None = None,
) -> tuple[list[Forecast], list[str]]:
    """(the forecast of each training stage, notes on what it rests on). Nothing is run, and raw files need not be there."""
    from medchatzh.forecast import advice
    from medchatzh.forecast.amounts import STAGES
    from medchatzh.forecast.stage import forecast
    from medchatzh.pipeline import Recipe

    recipe = recipes.convert(recipes.override(recipes.load_toml(path), overrides), Recipe, str(path))
    folders, notes = _folders(path, overrides, runs)
    free = shutil.disk_usage(advice.existing(runs)).free
    made: list[Forecast] = []
    for stage in STAGES:
        chosen = getattr(recipe, stage)
        if stage not in (stages or STAGES) or not chosen.epochs or (stage == "reward" and recipe.score.kind == "none"):
            continue
        model, name = _model(stage, recipe, folders, base)
        positions = getattr(model.get_text_config(), "max_position_embeddings", 0) or 0
        told: list[Warned] = []
        for lesson, config, found in _lessons(stage, chosen, recipe, folders, tokens or {}):

            def again(
                changed: Any, stage: Stage = stage, model: Any = model, name: str = name, found: Any = found, lesson: str = lesson
            ) -> Forecast:
                return forecast(stage, changed, model, name, found, ground, lesson)

            one = again(config)
            one.warnings = [each for each in advice.warnings(one, config, ground, positions, free, again) if each not in told]
            told += one.warnings
            made.append(one)
    return made, notes


def _lessons(stage: Stage, config: Any, recipe: Recipe, folders: Plan | None, tokens: dict[str, int]) -> Iterator[tuple[str, Any, Amount]]:
    """(name, settings, amount) of each run of the loop that a stage is: itself, '', and before it what the reward model learns first."""
    from medchatzh.forecast import amounts

    if stage == "reward":
        if config.instruct.steps:
            yield "instruct", config.tuning(), amounts.amount("sft", recipe, folders, config.tuning())
        for number, lesson in enumerate(config.defects, 1):
            teaching = msgspec.structs.replace(config.teaching(lesson), held_out=0)
            yield f"defects-{number}", teaching, amounts.of_lesson(lesson, folders, teaching)
    yield "", config, amounts.amount(stage, recipe, folders, config, tokens.get(stage, 0))


def _folders(path: Path, overrides: Sequence[str], runs: Path) -> tuple[Plan | None, list[str]]:
    """The recipe's run folders, where its raw files (whose hashes name them) are there."""
    from medchatzh.pipeline import Plan

    try:
        return Plan(path, overrides, runs), []
    except ValueError as error:
        return None, [f"没有运行目录，数据量为假设 / no run folders, amounts are assumed: {error}"]


def _model(stage: Stage, recipe: Recipe, folders: Plan | None, base: str) -> tuple[PreTrainedConfig, str]:
    """(configuration, what to call it) of the model that a stage trains."""
    from medchatzh.forecast import shapes

    own = recipe.reward.base if stage == "reward" else ""
    folder = Path(own or recipe.pretrain.base).expanduser()
    if (own or recipe.pretrain.base) and (folder / "config.json").is_file():
        return shapes.config_of(folder), folder.name
    if base:
        return shapes.config_of(base), base
    if own or recipe.pretrain.base:
        if folder.name.lower() in shapes.KNOWN:
            return shapes.config_of(folder.name), f"{folder.name} (内置形状 built-in shape; {folder} 不在此处 is not here)"
        raise ValueError(
            f"{stage}.base: {folder} is not here; give its config.json with --base-config, or one of {', '.join(shapes.KNOWN)}"
        )
    done = folders.folder("pretrain") / "checkpoint" if folders else None
    if done and (done / "config.json").is_file():
        return shapes.config_of(done), "pretrain/checkpoint"
    return shapes.of_architecture(recipe.pretrain.architecture, recipe.tokenizer.vocab_size), "pretrain.architecture"


def _tokens(given: Sequence[str]) -> dict[str, int]:
    found = {}
    for text in given:
        stage, _, number = text.partition("=")
        try:
            found[stage] = int(float(number))
        except (ValueError, OverflowError):
            found[stage] = 0
        if stage not in _STAGES or found[stage] < 1:
            raise ValueError(f"--tokens {text}: write STAGE=N, for example --tokens sft=4e8")
    return found


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)
