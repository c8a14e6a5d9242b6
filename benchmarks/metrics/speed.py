"""Seconds and memory of all text metrics, compiled and in plain Python, beside the libraries whose numbers they are.

    taskset -c 0 python benchmarks/metrics/speed.py --data shared/data [--items 63255] [--peer-items 500] [--rounds 3]

As many items as webMedQA has, five references each, texts of some 150 characters: the beginning of one real answer and the end of
another. Without --data characters are drawn by rank instead. In every item all that the package counts: BLEU-1 to 4, cumulative and each
order alone; GLEU; ROUGE-1, 2 and L as each of the three libraries has them; Distinct-1 and 2; length. Each system runs in a process of its
own, in one thread, after one small batch (which compiles, or loads what was compiled). Of rounds the median counts; CPU seconds are what
to compare, as others may use the machine. The peers are timed on the first items of the same, and their numbers compared.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from medchatzh.metrics import Batch, Bleu, Distinct, Gleu, Length, Rouge, Segmenter
from medchatzh.metrics.metric import Metric

NUM_REFERENCES, CHUNK, SEED = 5, 4096, 1
AS_PEERS = (Bleu(), Gleu(), Rouge())
ALL = (*AS_PEERS, Bleu(weights="ind"), Rouge(library="rouge-chinese"), Rouge(library="rouge"), Distinct(), Length())
WORDS_ITEMS = 500
Items = tuple[list[str], list[list[str]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that holds evaluation/webmedqa_layout")
    parser.add_argument("--items", type=int, default=63_255)
    parser.add_argument("--peer-items", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--out",
        type=Path,
        help="write the result there, with how it was made: benchmarks/results/metrics.md for instance (default: print it alone)",
    )
    parser.add_argument("--run", choices=RUNS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(RUNS[options.run](options)))
        return
    rounds = {name: [measure(name) for _ in range(options.rounds if name in ("all", "as peers") else 1)] for name in RUNS}
    text = "\n".join([*table(options, rounds), "", conditions(), ""])
    arguments = ["DATA" if options.data and Path(one) == options.data else one for one in sys.argv[1:]]
    command = f"    python benchmarks/metrics/speed.py {' '.join(arguments)}".rstrip()
    if options.out:
        options.out.write_text(f"# Metrics\n\n{command}\n\n{' '.join((__doc__ or '').split(chr(10) * 2)[2].split())}\n\n{text}")
    print(text)


def measure(name: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--run", name, *sys.argv[1:]]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**os.environ, **threads}).stdout)
    print(name, found, file=sys.stderr)
    return found


def items(num_items: int, data: Path | None) -> Items:
    """The same for the same number, whoever asks: the first k of n items are those of k."""
    rng = random.Random(SEED)
    if data:
        rows = (data / "evaluation" / "webmedqa_layout").glob("medQA.*.txt")
        answers = sorted({line.split("\t")[4] for path in rows for line in path.read_text("utf-8").splitlines()})
    else:
        hanzi = [chr(number) for number in range(0x4E00, 0x4E00 + 2500)]
        weights = [1 / rank for rank in range(1, 2501)]
        answers = ["".join(rng.choices(hanzi, weights, k=rng.randint(50, 250))) for _ in range(7000)]

    def text() -> str:
        first, second = rng.choice(answers), rng.choice(answers)
        cut = rng.randint(0, min(len(first), len(second)))
        return first[:cut] + second[cut:]

    drawn = [[text() for _ in range(1 + NUM_REFERENCES)] for _ in range(num_items)]
    return [texts[0] for texts in drawn], [texts[1:] for texts in drawn]


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Its result, CPU and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    found = work()
    return found, time.process_time() - cpu, time.perf_counter() - wall


def score(answers: list, references: list, metrics: Sequence[Metric], compiled: bool) -> np.ndarray:
    """All numbers of all items; in parts, as the evaluation does it."""

    def parts() -> Iterator[np.ndarray]:
        for start in range(0, len(answers), CHUNK):
            batch = Batch(answers[start : start + CHUNK], references[start : start + CHUNK], compiled, sets=metrics is ALL)
            yield np.hstack([metric.scores(batch) for metric in metrics])

    return np.concatenate(list(parts()))


def cut(segmenter: Segmenter, drawn: Items) -> Items:
    answers, references = drawn
    return [segmenter.tokens(text) for text in answers], [[segmenter.tokens(text) for text in group] for group in references]  # type: ignore


def run_ours(options: argparse.Namespace, metrics: Sequence[Metric], compiled: bool) -> dict[str, float]:
    answers, references = items(options.items, options.data)
    (answers, references), segment_s, _ = timed(lambda: cut(Segmenter(), (answers, references)))
    _, first_s, _ = timed(lambda: score(answers[:8], references[:8], metrics, compiled))
    scores, cpu_s, wall_s = timed(lambda: score(answers, references, metrics, compiled))
    texts = [*answers, *(text for group in references for text in group)]
    return {
        "cpu_s": cpu_s,
        "wall_s": wall_s,
        "segment_s": segment_s,
        "first_s": first_s,
        "memory_mb": memory_mb(),
        "mean_chars": sum(map(len, texts)) / len(texts),
        "num_numbers": scores.shape[1],
    }


def run_words(options: argparse.Namespace) -> dict[str, float]:
    drawn = items(WORDS_ITEMS, options.data)
    segmenter = Segmenter("jieba")
    segmenter.tokens("多喝水")
    _, cpu_s, _ = timed(lambda: cut(segmenter, drawn))
    return {"cpu_s": cpu_s / WORDS_ITEMS * options.items}


class AsTheyAre:
    def tokenize(self, tokens: list[str]) -> list[str]:
        return tokens


def run_peers(options: argparse.Namespace) -> dict[str, float]:
    from nltk.translate.bleu_score import sentence_bleu
    from nltk.translate.gleu_score import sentence_gleu
    from rouge_score.rouge_scorer import RougeScorer

    warnings.simplefilter("ignore")  # NLTK warns of every order without a match
    answers, references = cut(Segmenter(), items(options.peer_items, options.data))
    pairs = [([list(text) for text in group], list(answer)) for answer, group in zip(answers, references, strict=True)]
    weights = [(1 / order,) * order for order in (1, 2, 3, 4)]
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=AsTheyAre())
    bleu, bleu_s, _ = timed(lambda: [sentence_bleu(group, answer, weights) for group, answer in pairs])
    gleu, gleu_s, _ = timed(lambda: [sentence_gleu(group, answer) for group, answer in pairs])
    rouge, rouge_s, _ = timed(lambda: [scorer.score_multi(group, answer) for group, answer in pairs])
    batch = Batch(answers, references, True)
    theirs = np.column_stack([bleu, gleu, [[kind.fmeasure for kind in found.values()] for found in rouge]])
    ours = np.hstack([metric.scores(batch) for metric in AS_PEERS]) / 100
    return {"bleu_s": bleu_s, "gleu_s": gleu_s, "rouge_s": rouge_s, "difference": float(np.abs(ours - theirs).max())}


RUNS: dict[str, Callable[[argparse.Namespace], dict[str, float]]] = {
    "all": lambda options: run_ours(options, ALL, True),
    "as peers": lambda options: run_ours(options, AS_PEERS, True),
    "plain": lambda options: run_ours(options, ALL, False),
    "words": run_words,
    "peers": run_peers,
}


def memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def table(options: argparse.Namespace, rounds: dict[str, list[dict[str, float]]]) -> Iterator[str]:
    (peers,), (words,) = rounds["peers"], rounds["words"]
    of_all = options.items / options.peer_items
    theirs = {"NLTK BLEU-1 to 4, one call": "bleu_s", "NLTK GLEU": "gleu_s", "rouge-score 1, 2, L": "rouge_s"}
    total = sum(peers[key] for key in theirs.values()) * of_all

    def row(name: str, seconds: float, *others: str) -> str:
        return f"| {name} | {seconds:,.2f} | {1e6 * seconds / options.items:,.1f} | {' | '.join(others)} |"

    def ours(name: str, key: str) -> str:
        cpu_s, wall_s = (statistics.median(one[time] for one in rounds[key]) for time in ("cpu_s", "wall_s"))
        memory = max(one["memory_mb"] for one in rounds[key])
        return row(name.format(rounds[key][0]["num_numbers"]), cpu_s, f"{wall_s:.2f}", f"{total / cpu_s:,.0f}", f"{memory:,.0f}")

    yield f"{options.items:,} items of {NUM_REFERENCES} references, {rounds['all'][0]['mean_chars']:.0f} characters a text on average."
    yield ""
    yield "| system | CPU-s | µs an item | wall-s | times faster | peak memory, MB |"
    yield "|---|---:|---:|---:|---:|---:|"
    yield ours("compiled, all {} numbers an item", "all")
    yield ours("compiled, the {} numbers of the peers", "as peers")
    yield ours("plain Python, all {} numbers", "plain")
    for name, key in theirs.items():
        yield row(name, peers[key] * of_all, "", "", "")
    yield row("the three peers together", total, "", "1", "")
    yield ""
    told = "; ".join(f"{name}: {', '.join(format(one['cpu_s'], '.2f') for one in rounds[name])}" for name in ("all", "as peers"))
    yield (
        f"Peers: measured on {options.peer_items} of the items, {total / of_all:.1f} CPU-s, and scaled; on these the largest difference "
        f"between their numbers and ours (0 to 1) is {peers['difference']:.1g}. CPU-s of the rounds: {told}. Memory holds the texts too. "
        f"Apart: cutting the texts into characters {rounds['all'][0]['segment_s']:.2f} CPU-s, into words by jieba {words['cpu_s']:,.0f} "
        f"CPU-s (measured on {WORDS_ITEMS} items); the first batch, which compiles or loads, "
        f"{max(one['first_s'] for one in rounds['all']):.1f} CPU-s."
    )


def conditions() -> str:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("numpy", "numba", "nltk", "rouge-score", "jieba"))
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    return f"{datetime.date.today()}. {cpu}, one core, Python {platform.python_version()}, {versions}."


if __name__ == "__main__":
    main()
