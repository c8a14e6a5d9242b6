"""CPU time a token: our engine, transformers one prompt at a time (as the paper's script does), transformers with padded batches of 32.

    python benchmarks/generation/speed.py [--rounds 3] [--only engine,transformers-1,transformers-32]

A LLaMA of 12 million random weights in fp32, one thread. 64 prompts of 16 to 256 random tokens, 128 new tokens each, the paper's decoding
(greedy, repetition penalty 1.2) but that no answer ends early. In each round every system runs in a process of its own, in turn forwards
and backwards; the median counts. CPU seconds are those of reading the prompts and decoding, after the model is loaded (told apart) and
one short answer decoded. Every answer is compared with that of transformers to the prompt alone.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

NUM_PROMPTS, NEW_TOKENS, VOCABULARY = 64, 128, 4000
BASE = "transformers-1"
SYSTEMS = {
    "engine": "our engine, 64 slots",
    "transformers-1": "transformers, one prompt at a time",
    "transformers-32": "transformers, padded batches of 32",
}
Ids = list[int]


class Run(NamedTuple):
    load_s: float
    cpu_s: float
    wall_s: float
    memory_mb: float
    answers: list[Ids]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(SYSTEMS))
    parser.add_argument(
        "--out",
        type=Path,
        help="write the result there, with how it was made: benchmarks/results/generation.md for instance (default: print it alone)",
    )
    parser.add_argument("--run", nargs=2, metavar=("SYSTEM", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        system, folder = options.run
        print(json.dumps(run(system, Path(folder))))
        return
    names = options.only.split(",")
    runs: dict[str, list[Run]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as work:
        num_parameters = make(Path(work))
        for number in range(options.rounds):
            for name in names if number % 2 == 0 else reversed(names):
                command = [sys.executable, __file__, "--run", name, work]
                told = subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}).stdout
                runs[name].append(Run(*json.loads(told)))
                print(f"{name}: {runs[name][-1].cpu_s:.2f} CPU-s", file=sys.stderr)
    text = "\n".join([*table(runs), "", conditions(num_parameters, options.rounds), "", f"    python {' '.join(sys.argv)}", ""])
    if options.out:
        options.out.write_text(f"# Generation\n\n{explained()}\n\n{text}")
    print(text)


def make(folder: Path) -> int:
    """A checkpoint of random weights; returns its parameters."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape: dict[str, Any] = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 6}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, tie_word_embeddings=True, **shape))
    model.save_pretrained(folder)
    return model.num_parameters()


def prompts() -> list[Ids]:
    random = np.random.default_rng(0)
    return [random.integers(3, VOCABULARY, length).tolist() for length in random.integers(16, 257, NUM_PROMPTS)]


def run(system: str, folder: Path) -> Run:
    """Load the checkpoint and answer all prompts with one system, in this process."""
    import torch

    from medchatzh import models

    models.require_torch()
    torch.set_num_threads(1)
    started = time.process_time()
    model = models.load_causal(folder).eval()
    answer = _Engine(model) if system == "engine" else _Transformers(model, int(system.rpartition("-")[2]))
    answer([[5] * 20], 4)
    load_s = time.process_time() - started
    wall, cpu = time.perf_counter(), time.process_time()
    answers = answer(prompts(), NEW_TOKENS)
    cpu_s, wall_s = time.process_time() - cpu, time.perf_counter() - wall
    return Run(load_s, cpu_s, wall_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, answers)


class _Engine:
    def __init__(self, model: Any) -> None:
        from medchatzh.models.decoding.batching import Batcher

        self._batcher = Batcher(model, _NoText(), 64)

    def __call__(self, asked: Sequence[Ids], num_new: int) -> list[Ids]:
        from medchatzh.models.decoding.batching import Request
        from medchatzh.models.decoding.sampling import Decoding

        decoding = Decoding(max_new_tokens=num_new, min_new_tokens=num_new)
        found = self._batcher.decode(Request(input_ids=ids, decoding=decoding) for ids in asked)
        answers = {number: generation.ids for number, generation in found}
        return [answers[number] for number in range(len(asked))]


class _NoText:
    """In place of a tokenizer: transformers' `generate` makes no text either."""

    eos_token_id = 2

    def decode(self, ids: Ids, skip_special_tokens: bool) -> str:
        return ""


class _Transformers:
    def __init__(self, model: Any, batch_size: int) -> None:
        self._model = model
        self._batch_size = batch_size

    def __call__(self, asked: Sequence[Ids], num_new: int) -> list[Ids]:
        import torch

        answers: list[Ids] = []
        for start in range(0, len(asked), self._batch_size):
            batch = asked[start : start + self._batch_size]
            width = max(map(len, batch))
            input_ids = torch.tensor([[0] * (width - len(ids)) + ids for ids in batch])
            mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in batch])
            limits = {"max_new_tokens": num_new, "min_new_tokens": num_new, "eos_token_id": 2, "pad_token_id": 0}
            with torch.inference_mode():
                output = self._model.generate(input_ids=input_ids, attention_mask=mask, do_sample=False, repetition_penalty=1.2, **limits)
            answers += output[:, width:].tolist()
        return answers


def table(runs: Mapping[str, Sequence[Run]]) -> list[str]:
    base = statistics.median(run.cpu_s for run in runs[BASE]) if BASE in runs else None
    lines = [
        "| system | CPU-ms a token | times faster | tokens/s | same answers | loading, CPU-s | memory, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, several in runs.items():
        cpu_s, wall_s, load_s = (
            statistics.median(values) for values in zip(*((r.cpu_s, r.wall_s, r.load_s) for r in several), strict=True)
        )
        same = {sum(a == b for a, b in zip(run.answers, runs[BASE][0].answers, strict=True)) for run in several} if base else set()
        lines.append(
            f"| {SYSTEMS[name]} | {cpu_s / NUM_PROMPTS / NEW_TOKENS * 1e3:.3f} | {f'{base / cpu_s:.1f}' if base else ''} |"
            f" {NUM_PROMPTS * NEW_TOKENS / wall_s:,.0f} | {f'{min(same)} of {NUM_PROMPTS}' if same else ''} | {load_s:.1f} |"
            f" {max(run.memory_mb for run in several):,.0f} |"
        )
    return lines


def explained() -> str:
    return " ".join(__doc__.split("\n\n")[2].split())


def conditions(num_parameters: int, rounds: int) -> str:
    import torch
    import transformers

    processor = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?"
    )
    return (
        f"{num_parameters:,} parameters, median of {rounds} rounds, {datetime.date.today()}. {processor}, {os.cpu_count()} cores,"
        f" Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}."
    )


if __name__ == "__main__":
    main()
