"""Wall time, CPU time and peak memory of each stage, each in a process of its own. `make bench`.

    python benchmarks/stages.py [RECIPE] [--set SECTION.KEY=VALUE …]

Writes nothing but to a temporary folder. Training stages run as many steps as the recipe says.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from medchatzh.pipeline import Plan
from medchatzh.run import MANIFEST, read_manifest


def measure(command: list[str]) -> tuple[float, float, float]:
    """(wall s, CPU s, peak MB) of a command. Peak memory is that of the largest process so far, so stages run in order of size."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, after.ru_maxrss / 1024


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("recipe", type=Path, nargs="?", default=Path("recipes/quickstart.toml"))
    arguments.add_argument("--set", action="append", default=[])
    options = arguments.parse_args()
    settings = [part for assignment in options.set for part in ("--set", assignment)]
    print(f"| stage | in | out | wall s | CPU s | in / CPU s | peak MB so far |\n|---|---|---|---|---|---|---|  <!-- {options.recipe} -->")
    with tempfile.TemporaryDirectory() as runs:
        plan = Plan(options.recipe, options.set, Path(runs))
        for name, step in plan.steps.items():
            if (plan.folder(name) / MANIFEST).exists():
                continue  # an arm's step that is the same as the main one's
            arm = ["--arm", name.partition("@")[2]] if "@" in name else []
            command = [sys.executable, "-m", "medchatzh", step.stage, str(options.recipe), "--runs", runs, *arm, *settings]
            wall, cpu, peak = measure(command)
            manifest = read_manifest(plan.folder(name))
            rate = manifest.num_in / cpu
            print(
                f"| {name} | {manifest.num_in:,} | {manifest.num_out:,} | {wall:.1f} | {cpu:.1f} | {rate:,.0f} | {peak:.0f} |", flush=True
            )


if __name__ == "__main__":
    main()
