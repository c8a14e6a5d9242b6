"""Do 95 % intervals hold the truth 95 times in 100, and what does a full comparison cost? Prints Markdown.

    taskset -c 0 python benchmarks/statistics/coverage.py runs/…/evaluate-…/scores.jsonl --of "which systems, which questions" \\
        > benchmarks/results/statistics.md

Each column of scores of a real evaluation is taken for the truth: benchmarks of 50, 100 and 700 questions are drawn from it with
replacement, thousands of them, and each gets its interval. So the distributions are as skewed and as full of zeros as they come. Then
the same without the questions to which a system's answer is nearly a reference's copy (ROUGE-L over 50): a score of 100 among ones of 20,
so rare that a small benchmark may hold none, is what no interval can know of.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from medchatzh.metrics.comparison import Column, Comparison, System
from medchatzh.metrics.statistics import mean_intervals, paired_differences, resampled_sums
from medchatzh.records import Prediction, Score, read

NUM_RESAMPLES = 1000
NUM_BENCHMARKS = 2000
COPY = ("strict/ROUGE-L", 50.0)
SIZES = (50, 100, 700)
# 63,255 questions in 23 categories, as the paper's table 2 groups them: two over 10,000, two over 5,000, seven over 1,000, the smallest 30.
CATEGORIES = (17500, 13000, 7200, 6100, 4200, 3300, 2600, 2100, 1700, 1300, 1100, 880, 640, 470, 340, 250, 180, 130, 95, 65, 45, 30, 30)
METRICS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "GLEU", "ROUGE-1", "ROUGE-2", "ROUGE-L")

if TYPE_CHECKING:
    from medchatzh.metrics.statistics import Floats

    Ends = tuple[Floats, Floats]


def alternatives(values: Floats, seed: int) -> dict[str, Ends]:
    """Low and high ends by column of (n, M) values: the intervals that `metrics.statistics` does not use, or not alone."""
    n = len(values)
    means = values.mean(axis=0)
    distances = values - means
    variances = (distances**2).mean(axis=0)
    firsts, seconds = np.hsplit(resampled_sums(np.hstack([distances, distances**2]), NUM_RESAMPLES, seed) / n, 2)
    tails = [0.025, 0.975]
    low, high = means + np.quantile(firsts, tails, axis=0, method="weibull")
    error = {50: 2.00958, 100: 1.98422, 700: 1.96336}[n] * np.sqrt(variances / (n - 1))
    spreads = np.sqrt((n * np.maximum(seconds - firsts**2, 0) + variances) / (n + 1))
    with np.errstate(invalid="ignore"):
        down, up = np.quantile(firsts / spreads, tails[::-1], axis=0, method="weibull") * np.sqrt(variances)
    return {
        "percentile": (low, high),
        "BCa": bca(means, distances, firsts),
        "Student": (means - error, means + error),
        "studentised bootstrap": (means - down, means - up),
    }


def bca(means: Floats, distances: Floats, firsts: Floats) -> Ends:
    """Bias-corrected and accelerated percentiles (Efron 1987)."""
    normal, ordered = NormalDist(), np.sort(firsts, axis=0)
    shares = np.clip(((firsts < 0).mean(axis=0) + (firsts <= 0).mean(axis=0)) / 2, 1e-3, 1 - 1e-3)
    with np.errstate(invalid="ignore"):
        acceleration = (distances**3).sum(axis=0) / (6 * (distances**2).sum(axis=0) ** 1.5)
    ends = []
    for tail in (0.025, 0.975):
        bias = np.array([normal.inv_cdf(share) for share in shares])
        shifted = bias + normal.inv_cdf(tail)
        levels = np.array([normal.cdf(level) for level in bias + shifted / (1 - np.nan_to_num(acceleration) * shifted)])
        places = np.clip((levels * (NUM_RESAMPLES + 1) - 1).round().astype(int), 0, NUM_RESAMPLES - 1)
        ends.append(means + ordered[places, np.arange(len(means))])
    return ends[0], ends[1]


def populations(scores: list[Score]) -> Iterator[tuple[str, str, Floats]]:
    """(kind, name, values) of all columns of scores, and of the differences between each two systems."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for score in scores:
        found.setdefault((score.metric, score.system), {})[score.id] = score.value
    for (metric, system), by_id in found.items():
        yield "means", f"{metric} of {system}", np.array(list(by_id.values()))
    for (metric, one), (other_metric, two) in combinations(found, 2):
        if metric == other_metric:
            first, second = found[metric, one], found[metric, two]
            yield "differences", f"{metric}, {one} − {two}", np.array([first[key] - second[key] for key in first if key in second])


def simulate(scores: list[Score]) -> None:
    covered: dict[tuple[str, int, str], list[float]] = {}
    lengths: dict[tuple[str, int, str], list[float]] = {}
    false_alarms: dict[tuple[str, int], list[float]] = {}
    outside = []
    names = {"means": 0, "differences": 0}
    for at, (kind, name, population) in enumerate(populations(scores)):
        truth = population.mean()
        names[kind] += 1
        for n in SIZES:
            drawn = population[np.random.default_rng([n, at]).integers(0, len(population), (n, NUM_BENCHMARKS))]
            found = alternatives(drawn, at)
            ours = mean_intervals(drawn, num_resamples=NUM_RESAMPLES, seed=at)
            ours_low, ours_high = (np.array([getattr(each, end) for each in ours]) for end in ("low", "high"))
            found["**the hull of the two**"] = ours_low, ours_high
            student = float(np.mean(found["Student"][1] - found["Student"][0]))
            for method, (low, high) in found.items():
                covered.setdefault((kind, n, method), []).append(100 * float(np.mean((low <= truth) & (truth <= high))))
                lengths.setdefault((kind, n, method), []).append(float(np.mean(high - low)) / student)
            if not 93 <= covered[kind, n, method][-1] <= 97:
                skewness = float(((population - truth) ** 3).mean() / population.std() ** 3)
                zeros = 100 * float(np.mean(np.abs(population) < 1e-6))
                outside.append(f"| {name} | {n} | {covered[kind, n, method][-1]:.1f} | {zeros:.0f} | {skewness:.1f} |")
            if kind == "differences":
                tests = paired_differences(drawn - truth, 0 * drawn, num_resamples=100, num_flips=999, seed=at)
                alone = np.array([each.p_value <= 0.05 for each in tests])
                excluded = (ours_low > truth) | (ours_high < truth)
                false_alarms.setdefault(("p ≤ 0.05", n), []).append(100 * float(alone.mean()))
                false_alarms.setdefault(("p ≤ 0.05 and the interval excludes 0", n), []).append(100 * float((alone & excluded).mean()))
        print(f"{at + 1} {kind} {name}", file=sys.stderr)
    print("| of | n | interval | % covered: least | median | most | outside 93–97 | length, Student's = 1: median | most |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (kind, n, method), shares in covered.items():
        missed = sum(not 93 <= share <= 97 for share in shares)
        ratio = lengths[kind, n, method]
        print(
            f"| {names[kind]} {kind} | {n} | {method} | {min(shares):.1f} | {np.median(shares):.1f} | {max(shares):.1f} | {missed} | "
            f"{np.median(ratio):.2f} | {max(ratio):.2f} |"
        )
    print("\nOutside 93–97 % with the hull:\n\n| scores | n | % covered | % zeros | skewness |\n|---|---|---|---|---|")
    print("\n".join(outside) if outside else "| none | | | | |")
    print("\nFalse alarms, % of the benchmarks, where the mean difference is 0 (the scores shifted, so not exchangeable where skewed):\n")
    print("| sign of a difference | n | least | median | most |\n|---|---|---|---|---|")
    for (sign, n), shares in false_alarms.items():
        print(f"| {sign} | {n} | {min(shares):.1f} | {np.median(shares):.1f} | {max(shares):.1f} |")


def compared() -> Callable[[], int]:
    """A function that makes all tables of two systems on 63,255 questions; it returns the number of rows."""
    rng = np.random.default_rng(0)
    ids = [f"q:{at}" for at in range(sum(CATEGORIES))]
    systems = []
    for name in ("first", "second"):
        answers = [Prediction(id=key, system=name, question="", answer="") for key in ids]
        values = np.where(
            rng.random((len(ids), len(METRICS))) < np.linspace(0, 0.7, len(METRICS)), 0, rng.gamma(2, 5, (len(ids), len(METRICS)))
        )
        systems.append(System(name, answers, values))
    ends = np.cumsum(CATEGORIES)
    groups = {f"category {at}": set(ids[end - size : end]) for at, (size, end) in enumerate(zip(CATEGORIES, ends, strict=True))}
    columns = [Column("strict", metric) for metric in METRICS]

    def make() -> int:
        tables = Comparison(columns, num_resamples=NUM_RESAMPLES, confidence=0.95, min_category_size=100, seed=0)
        rows = [*(row for system in systems for row in tables.means(system)), *tables.differences([(systems[0], systems[1])])]
        rows += [row for name, members in groups.items() for row in tables.by_category(name, members, systems)]
        return len([*rows, *tables.category_differences(groups, *systems)])

    return make


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("scores", type=Path)
    arguments.add_argument("--of", required=True, help="what was scored, for the reader")
    options = arguments.parse_args()
    make = compared()
    before, started, cpu = peak(), time.perf_counter(), time.process_time()
    num_rows = make()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - started
    print("# Uncertainty: cost and coverage\n")
    print(f"`taskset -c 0 python benchmarks/statistics/coverage.py SCORES`, numpy {np.__version__}.\n\n## Cost\n")
    print(
        f"{sum(CATEGORIES):,} questions, {len(METRICS)} metrics, {len(CATEGORIES)} categories and the whole, two systems and their "
        f"differences ({num_rows} rows): {NUM_RESAMPLES:,} resamples, 18,400 sign flips by category and 10,000 on the whole.\n"
    )
    print(f"| CPU s | wall s | memory above the scores themselves, MB |\n|---|---|---|\n| {cpu:.2f} | {wall:.2f} | {peak() - before:.0f} |")
    scores = list(read(options.scores, Score))
    copies = {score.id for score in scores if score.metric == COPY[0] and score.value > COPY[1]}
    parts = {
        "all questions": scores,
        f"without the {len(copies)} questions with a near copy, which were chosen by their scores": [
            score for score in scores if score.id not in copies
        ],
    }
    for name, part in parts.items():
        num_questions = len({score.id for score in part})
        print(f"\n## Coverage of the 95 % interval: {name}\n")
        print(f"Scores of {options.of}: {num_questions} questions a column. {NUM_BENCHMARKS:,} benchmarks drawn from each column, ", end="")
        print(f"{NUM_RESAMPLES:,} resamples each.\n", flush=True)
        simulate(part)


if __name__ == "__main__":
    main()
