"""Useful tokens a CPU-second of training, against HF Trainer and TRL, and the share of the machine's matrix rate.

    make .bench/training && python benchmarks/training/speed.py MIX.jsonl --peers .bench/training/bin/python

MIX.jsonl holds dialogues (a run's `mix-…/train.jsonl`). Everybody trains the same model on the same examples, with the same rows a batch
and one thread, in a process of its own, in turn. Useful tokens are those of the examples: no padding. CPU-seconds, because machines are
busy; the first steps are not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WARM, STEPS = 3, 15
ROWS, ROW_TOKENS = 8, 256
SHAPES = {
    "12 M": {"hidden_size": 384, "num_layers": 6, "num_heads": 6, "intermediate_size": 1024},
    "110 M": {"hidden_size": 768, "num_layers": 14, "num_heads": 12, "intermediate_size": 2048, "tie_embeddings": False},
}
WAYS = {
    "ours": "medchatzh (packed, isolated, bf16)",
    "hf-fp32": "HF Trainer, fp32, padded (as MedicalGPT)",
    "hf-bf16": "HF Trainer, bf16, padded",
    "trl-wrapped": "TRL, packed `wrapped`, bf16 (no isolation)",
    "trl-bfd": "TRL's defaults: `bfd`, bf16, checkpointing",
}


def prepare(mix: Path, shape: str, folder: Path) -> None:
    """A tokenizer, a random model and the examples of at most a row."""
    import numpy as np

    from medchatzh import models, prompt, tokenizer
    from medchatzh.models.packing import collect
    from medchatzh.records import Dialogue, read

    dialogues = list(read(mix, Dialogue))
    config = tokenizer.Config(vocab_size=8000)
    tokenizer.save(tokenizer.train((turn.content for each in dialogues for turn in each.turns), config), config, folder)
    loaded, template = models.load_tokenizer(folder)
    models.save(models.new_causal(models.Architecture(**SHAPES[shape]), loaded, seed=0), loaded, template, folder)
    encoded = [window for each in dialogues for window in prompt.split_to_fit(each.turns, loaded, template, ROW_TOKENS)[0]]
    examples = collect(encoded)
    np.savez(folder / "examples.npz", input_ids=examples.input_ids, labels=examples.labels, offsets=examples.offsets)
    print(f"{len(examples):,} examples, {examples.num_tokens / len(examples):.0f} tokens on average, {shape}", file=sys.stderr)


def ours(folder: Path, threads: int, full: bool) -> dict[str, float]:
    """Train by the loop; with `full` on rows full to the last token, and the matrix rate measured before and after."""
    import numpy as np
    import torch

    from medchatzh import models
    from medchatzh.models.packing import collect
    from medchatzh.run import Context
    from medchatzh.train import loop
    from medchatzh.train.optimization import Optimization

    stored = dict(np.load(folder / "examples.npz"))  # read once: a view of an array read anew would keep all of it
    if full:
        ids = stored["input_ids"][: len(stored["input_ids"]) // ROW_TOKENS * ROW_TOKENS].reshape(-1, ROW_TOKENS)
        examples = collect((row, row) for row in ids)
    else:
        bounds = zip(stored["offsets"], stored["offsets"][1:], strict=False)
        examples = collect((stored["input_ids"][a:b], stored["labels"][a:b]) for a, b in bounds)
    config = Optimization(
        rows=ROWS * (3 if full else 1), row_tokens=ROW_TOKENS, max_steps=STEPS, epochs=99, precision="bf16", save_steps=1000
    )
    batches = loop.Epochs(examples, config, pad_id=0, seed=0)
    clock = {}
    step = batches.step

    def counted(number: int) -> list:
        clock[number] = time.process_time()
        return step(number)

    batches.step = counted  # type: ignore[method-assign]
    torch.set_num_threads(threads)
    rates = [matrix_rate()] if full else []
    context = Context(seed=0, threads=threads)
    model, _ = loop.train(
        lambda _: models.load_causal(folder), batches, loop.causal(config), config, _scratch(folder), context, "ours", lambda _: []
    )
    # The last step is left out: the state is written in it.
    used = clock[STEPS - 1] - clock[WARM]
    tokens = sum(batches.num_tokens(step(number)) for number in range(WARM, STEPS - 1))
    found = {"way": "ours", "tokens": tokens, "cpu_s": used, "peak_mb": _peak_mb()}
    if full:
        rates.append(matrix_rate())
        found |= {"share": tokens / used * flops_a_token(model) / statistics.mean(rates), "matrix_rate": statistics.mean(rates)}
    return found


def _scratch(folder: Path) -> Path:
    from medchatzh.run import SCRATCH

    out = Path(tempfile.mkdtemp(dir=folder))
    (out / SCRATCH).mkdir()
    return out


def matrix_rate() -> float:
    """bf16 floating-point operations a CPU-second of a product of 2,048² matrices: the median of nine runs of four."""
    import torch

    left, right = (torch.randn(2048, 2048).bfloat16() for _ in range(2))
    rates = []
    for _ in range(9):
        started = time.process_time()
        for _ in range(4):
            left @ right
        rates.append(4 * 2 * 2048**3 / (time.process_time() - started))
    return statistics.median(rates)


def flops_a_token(model) -> float:
    """6 a weight of a matrix, the head's too, and 12 × layers × width × tokens for attention (PaLM, appendix B; half of that is above
    the diagonal)."""
    config = model.config
    embeddings = model.get_input_embeddings().weight.numel()
    tied = config.tie_word_embeddings
    matrices = sum(each.numel() for each in model.parameters() if each.dim() > 1) - (0 if tied else embeddings)
    return 6 * matrices + 12 * config.num_hidden_layers * config.hidden_size * ROW_TOKENS


def _peak_mb() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one(way: str, folder: Path, options: argparse.Namespace, full: bool = False) -> dict[str, float]:
    """One contender in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if way == "ours":
        command = [sys.executable, __file__, str(options.mix), "--child", str(folder), "--threads", str(options.threads)]
        command += ["--full"] if full else []
    else:
        numbers = map(str, (ROWS, ROW_TOKENS, STEPS, WARM, options.threads))
        command = [str(options.peers), str(Path(__file__).with_name("peers.py")), way, str(folder), *numbers]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{way}: {done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mix", type=Path)
    parser.add_argument("--peers", type=Path, help="Python of an environment with TRL; without it only ours runs")
    parser.add_argument("--shape", choices=SHAPES, default="12 M")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--full", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(ours(options.child, options.threads, options.full)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(options.mix, options.shape, folder)
        ways = list(WAYS) if options.peers else ["ours"]
        found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        shares = []
        for _ in range(options.rounds):
            for way in ways:
                found[way].append(one(way, folder, options))
                print(way, found[way][-1], file=sys.stderr)
            shares.append(one("ours", folder, options, full=True))
            print("share", shares[-1], file=sys.stderr)
    speeds = {way: statistics.median(each["tokens"] / each["cpu_s"] for each in rounds) for way, rounds in found.items()}
    print(f"{options.shape}, {options.rounds} rounds, {options.threads} thread(s)\n")
    print("| who | useful tokens a CPU-second | ours is | peak MB |\n|---|---|---|---|")
    for way, speed in speeds.items():
        peak = max(each["peak_mb"] for each in found[way])
        print(f"| {WAYS[way]} | {speed:,.0f} | {speeds['ours'] / speed:.2f} × | {peak:,.0f} |")
    share = statistics.median(each["share"] for each in shares)
    rate = statistics.median(each["matrix_rate"] for each in shares)
    print(f"\nOn full rows of {ROW_TOKENS}: {share:.2f} of the bf16 2048² matrix rate ({rate / 1e9:.0f} GFLOP/s).")


if __name__ == "__main__":
    main()
