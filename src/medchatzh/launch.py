"""`medchatzh launch`: the torchrun command that runs a recipe on several devices, printed or executed.

Every process that torchrun starts runs the same `medchatzh run RECIPE`: the first does all stages, the others join it in training and
scoring.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from medchatzh import recipe as recipes

PORT = 29500
"""torchrun's own default."""
_TRAINING = ("pretrain", "reward", "sft", "dpo")


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of `medchatzh launch`."""
    command.add_argument("recipe", type=Path, metavar="RECIPE", help="a TOML file")
    command.add_argument("--devices", type=_positive, required=True, metavar="N", help="processes a node, one a device")
    command.add_argument(
        "--nodes", type=_positive, default=1, metavar="N", help="machines, with the run folder on a file system they share"
    )
    command.add_argument("--node-rank", type=int, metavar="K", help="which of them this is, from 0 (with --run)")
    command.add_argument("--master-addr", default="", metavar="HOST[:PORT]", help=f"the first of them (port {PORT} if none is given)")
    command.add_argument("--stage", default="", metavar="NAME", help="stop after this stage, such as sft (default: the whole recipe)")
    command.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override one setting (repeatable)")
    command.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where run folders lie (default: runs)")
    command.add_argument("--run", action="store_true", help="execute the command instead of printing it")


def main(options: argparse.Namespace) -> int:
    """Print a line a node, with remarks on standard error; or, with --run, become that command."""
    from medchatzh.pipeline import Recipe

    recipe = recipes.convert(recipes.override(recipes.load_toml(options.recipe), options.set), Recipe, str(options.recipe))
    if options.stage and options.stage not in Recipe.__struct_fields__:
        raise ValueError(f"--stage {options.stage}: no stage; write one such as sft, or leave it out")
    if options.nodes > 1 and not options.master_addr:
        raise ValueError(f"--nodes {options.nodes}: give --master-addr HOST, the first machine's name or address")
    _, _, port = options.master_addr.partition(":")
    if ":" in options.master_addr and not (port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(f"--master-addr {options.master_addr}: write HOST or HOST:PORT, the port from 1 to 65535")
    if options.node_rank is not None and not 0 <= options.node_rank < options.nodes:
        raise ValueError(f"--node-rank {options.node_rank}: the nodes are numbered 0 to {options.nodes - 1}")
    for remark in _remarks(recipe, options):
        print(f"medchatzh: {remark}", file=sys.stderr)
    here = options.node_rank if options.node_rank is not None else 0
    if not options.run:
        for rank in range(options.nodes) if options.node_rank is None else [here]:
            print(shlex.join(["python", *arguments(options, rank)]))
        return 0
    if options.nodes > 1 and options.node_rank is None:
        raise ValueError("--run on several nodes: say on each which one it is, with --node-rank")
    _check_devices(options.devices)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *arguments(options, here)])


def arguments(options: argparse.Namespace, node_rank: int) -> list[str]:
    """What follows `python` on a node."""
    if options.nodes == 1:
        meeting = ["--standalone"]
    else:
        host = options.master_addr if ":" in options.master_addr else f"{options.master_addr}:{PORT}"
        meeting = ["--nnodes", str(options.nodes), "--node-rank", str(node_rank)]
        meeting += ["--rdzv-backend", "c10d", "--rdzv-endpoint", host, "--rdzv-id", options.recipe.stem]
    settings = [word for setting in options.set for word in ("--set", setting)]
    runs = ["--runs", str(options.runs)] if options.runs != Path("runs") else []
    work = ["-m", "medchatzh", options.stage or "run", str(options.recipe), *settings, *runs]
    return ["-m", "torch.distributed.run", *meeting, "--nproc-per-node", str(options.devices), *work]


def _remarks(recipe: object, options: argparse.Namespace) -> Iterator[str]:
    """What is worth knowing before the start."""
    processes = options.devices * options.nodes
    others: dict[int, list[str]] = {}
    for stage in _TRAINING:
        config = getattr(recipe, stage)
        if config.epochs and config.devices != processes:
            others.setdefault(config.devices, []).append(stage)
        if config.epochs and (idle := config.idle(processes)):
            yield (
                f"{stage}: 每步 {config.units_a_step} 份分给 {processes} 个进程，{idle:.0%} 空着；使 {config.unit} × accumulation × devices"
                f" 为 {processes} 的倍数 / a step of {config.units_a_step} {config.unit} leaves {idle:.0%} of {processes} processes idle:"
                f" make {config.unit} × accumulation × devices a multiple of {processes}"
            )
    for devices, stages in others.items():
        yield (
            f"{', '.join(stages)}: 配方按 {devices} 卡计，现有 {processes} 个进程；全局批不变，只是切法不同"
            f" / the recipe counts for {devices} devices, here are {processes} processes: the same global batch, cut otherwise"
        )
    if options.nodes > 1:
        runs = options.runs.resolve()
        yield f"{runs}: 各节点须共享此目录与数据 / this folder, and the data, must be the same for all nodes (a shared file system)"


def _check_devices(wanted: int) -> None:
    """ValueError where there are fewer GPUs than processes; without any they meet on the CPU."""
    from medchatzh import models

    models.require_torch()
    import torch

    found = torch.cuda.device_count()
    if found and found < wanted:
        raise ValueError(f"--devices {wanted}: only {found} CUDA devices here; give --devices {found}")
    if not found:
        print("medchatzh: 没有 CUDA 设备，各进程用 CPU（gloo） / no CUDA device: the processes work on the CPU (gloo)", file=sys.stderr)


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)
