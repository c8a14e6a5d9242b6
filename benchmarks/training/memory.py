"""Memory that `medchatzh plan` predicts for training on a CPU, against what training takes.

    python benchmarks/training/memory.py [--only 12M,30M]

Each run trains in a process of its own, one thread, four steps of `medchatzh.train.loop` with its last state saved, on examples of random
tokens, 75 to 224 each. Before it a tiny model is trained, so that all libraries are in memory. Measured is the highest resident set since
then (VmHWM of /proc/self/status, reset by clear_refs) less the resident set at that point. The forecast knows the settings alone.
Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import gc
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from medchatzh import models
from medchatzh.models.packing import Examples
from medchatzh.run import SCRATCH, Context
from medchatzh.train.optimization import Optimization

VOCABULARY, MEAN_TOKENS, STEPS = 8000, 150, 4


class Case(NamedTuple):
    architecture: models.Architecture
    config: Optimization
    is_fitted: bool
    """`CPU_BYTES` and `CPU_LAYERS` of `forecast/memory.py` were chosen to suit these runs; the others test them."""


def case(
    hidden: int, layers: int, heads: int, inner: int, rows: int, row_tokens: int, *, fitted: bool = False, tie: bool = True, **more: Any
) -> Case:
    shape = models.Architecture(
        hidden_size=hidden, num_layers=layers, num_heads=heads, intermediate_size=inner, tie_embeddings=tie, max_positions=4096
    )
    return Case(shape, Optimization(rows=rows, row_tokens=row_tokens, max_steps=STEPS, precision="bf16", **more), fitted)


CASES = {
    "12M": case(384, 5, 6, 1024, 8, 512, fitted=True),
    "30M": case(512, 8, 8, 1408, 8, 512, fitted=True),
    "110M": case(768, 14, 12, 2048, 4, 512, fitted=True, tie=False),
    "110M, gradient checkpointing": case(768, 14, 12, 2048, 4, 512, fitted=True, tie=False, gradient_checkpointing=True),
    "12M, 16 × 512": case(384, 5, 6, 1024, 16, 512, fitted=True),
    "12M, accumulation 4": case(384, 5, 6, 1024, 4, 256, fitted=True, accumulation=4),
    "30M, gradient checkpointing": case(512, 8, 8, 1408, 8, 512, fitted=True, gradient_checkpointing=True),
    "110M, 2 × 1,024": case(768, 14, 12, 2048, 2, 1024, fitted=True, tie=False),
    "17M, untied, 6 × 512": case(448, 4, 7, 1216, 6, 512, tie=False),
    "50M, 5 × 512": case(640, 9, 10, 1728, 5, 512),
    "110M, accumulation 2": case(768, 14, 12, 2048, 3, 512, tie=False, accumulation=2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="names of runs, separated by ';'")
    parser.add_argument("--out", type=Path, help="write the page there too (benchmarks/results/memory.md is the one that is kept)")
    parser.add_argument("--train", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        print(json.dumps(measured(CASES[options.train])))
        return
    rows = []
    for name in options.only.split(";") if options.only else CASES:
        command = [sys.executable, __file__, "--train", name]
        output = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, check=True, text=True).stdout
        rows.append((name, json.loads(output.splitlines()[-1]), predicted(CASES[name])))
        print(
            f"{name}: {rows[-1][1]['peak'] / 1e6:,.0f} MB measured, {sum(rows[-1][2].values()) / 1e6:,.0f} MB predicted",
            file=sys.stderr,
            flush=True,
        )
    print(page(rows))
    if options.out:
        options.out.write_text(page(rows), "utf-8")


def predicted(one: Case) -> dict[str, float]:
    """Part → bytes, from settings alone."""
    from medchatzh.forecast import devices, shapes
    from medchatzh.forecast.amounts import Amount
    from medchatzh.forecast.memory import parts
    from medchatzh.forecast.stage import micro_batch

    shape = shapes.count(shapes.of_architecture(one.architecture, VOCABULARY), "benchmark")
    found = Amount(100, 100 * MEAN_TOKENS, 1, MEAN_TOKENS, 1.0, 0.0, "")
    micro = micro_batch(shape, one.config, found, devices.cpu())
    return parts(shape, one.config, shape.num_parameters, micro, processes=1, is_cuda=False, half=True)


def measured(one: Case) -> dict[str, float]:
    """{"baseline", "peak"} in bytes, the peak above the baseline."""
    tiny = models.Architecture(hidden_size=64, num_layers=2, num_heads=2, intermediate_size=128)
    train(Case(tiny, Optimization(rows=1, row_tokens=256, max_steps=2, precision="bf16"), False))
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    baseline = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    train(one)
    return {"baseline": baseline, "peak": resident("VmHWM") - baseline}


def train(one: Case) -> None:
    from transformers import LlamaForCausalLM

    from medchatzh.forecast.shapes import of_architecture
    from medchatzh.train import loop

    rng = np.random.default_rng(0)
    num_examples = one.config.units_a_step * one.config.row_tokens * (STEPS + 1) // MEAN_TOKENS
    offsets = np.concatenate([[0], np.cumsum(rng.integers(MEAN_TOKENS // 2, MEAN_TOKENS * 3 // 2, num_examples))])
    examples = Examples(rng.integers(3, VOCABULARY, offsets[-1]).astype(np.int32), np.ones(offsets[-1], bool), offsets)
    batches = loop.Epochs(examples, one.config, pad_id=0, seed=1)
    config = of_architecture(one.architecture, VOCABULARY)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / SCRATCH).mkdir()
        context = Context(seed=1, threads=1)
        loss = loop.causal(one.config)
        loop.train(lambda _: LlamaForCausalLM(config), batches, loss, one.config, Path(folder), context, "memory", lambda _: [])


def resident(key: str) -> float:
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def page(rows: list[tuple[str, dict[str, float], dict[str, float]]]) -> str:
    import torch
    import transformers

    assert __doc__
    kinds = list(dict.fromkeys(part for *_, parts in rows for part in parts if any(each[2].get(part) for each in rows)))
    lines = ["# Memory of training, predicted and measured", "", "    python benchmarks/training/memory.py", ""]
    lines += [" ".join(__doc__.split("\n\n", 2)[2].split()), ""]
    lines += [f"| run | {' | '.join(kinds)} | predicted, MB | measured, MB | difference |", f"|---|{'---:|' * (len(kinds) + 3)}"]
    for name, found, parts in rows:
        total = sum(parts.values())
        mark = "" if CASES[name].is_fitted else " †"
        shown = " | ".join(f"{parts.get(kind, 0) / 1e6:,.0f}" for kind in kinds)
        lines.append(f"| {name}{mark} | {shown} | {total / 1e6:,.0f} | {found['peak'] / 1e6:,.0f} | {total / found['peak'] - 1:+.1%} |")
    lines += ["", "† Not among the runs that the two figures under `runtime` were fitted to (`CPU_BYTES`, `CPU_LAYERS`)."]
    baseline = np.mean([found["baseline"] for _, found, _ in rows]) / 1e6
    lines += ["", f"The process itself, before, took {baseline:,.0f} MB: Python, torch, transformers, numba."]
    made = f"{datetime.date.today()}. {platform.machine()}, one thread, Python {platform.python_version()}, torch {torch.__version__}"
    lines += ["", f"{made}, transformers {transformers.__version__}, glibc {platform.libc_ver()[1]}.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
