"""kill -9 at random moments of ingest, curate and report, then the same commands again: must the outputs and the report be the same?

    python benchmarks/curation/kill.py CORPUS --work FOLDER [--times 20] [--workers 2] [--seed 1]

One kill in four falls into ingest and one into report, two into curate; half of them hit all processes, half one worker (where there is
one). A moment between two stages counts for nothing, and another is drawn. Then all commands run again, to the end. Compared with an
undisturbed run: SHA-256 of every file of the three folders, manifests but for their seconds. Also watched: no finished shard is made
again, and at the kill no more shards were under way than there are workers. The table goes to --out too. Exit status 1
where anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from compare import HERE
from measure import family, machine

RECIPE = HERE / "full.toml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument(
        "--out",
        type=Path,
        help="write the result there, with how it was made: benchmarks/results/kills.md for instance (default: print it alone)",
    )
    options = parser.parse_args()
    chance = random.Random(options.seed)
    wanted: dict[str, str] = {}
    for name in ("warm", "undisturbed"):
        ends = [0.0]
        for command in sequence(options, options.work / name):
            started = time.perf_counter()
            subprocess.run(["sh", "-c", command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            ends.append(ends[-1] + time.perf_counter() - started)
        wanted = digests(options.work / name)
        shutil.rmtree(options.work / name)
    lines: list[str] = []

    def tell(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    tell(f"undisturbed: {', '.join(f'{end:.1f}' for end in ends[1:])} s, {len(wanted)} files\n")
    tell("| killed after s | who | in | shards lost | finished ones done again | same |\n|---|---|---|---|---|---|")
    stages: Counter[str] = Counter()
    num_bad = 0
    for number in range(options.times):
        runs = options.work / f"killed-{number}"
        commands = " && ".join(sequence(options, runs))
        stage, who, lost = "", "", 0
        while not stage:
            shutil.rmtree(runs, ignore_errors=True)
            part = (0, 1, 2, 1)[number % 4]
            moment = chance.uniform(*ends[part : part + 2])
            stage, who, lost = kill_one(commands, runs, moment, chance, single=chance.random() < 0.5)
        redone = resume(commands, runs)
        found = digests(runs)
        different = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        is_good = not different and not redone and lost <= options.workers
        stages[stage] += 1
        num_bad += not is_good
        told = ", ".join(different[:5]) or "yes"
        tell(f"| {moment:.2f} | {who} | {stage} | {lost} | {len(redone)} | {told} |")
        if is_good:
            shutil.rmtree(runs)
    inside = ", ".join(f"{stage} {count}" for stage, count in sorted(stages.items()))
    tell(f"\n{options.times - num_bad} of {options.times} resumed runs are the same. Kills by stage: {inside}.")
    made_by = f"{machine({'medchatzh': version('medchatzh')})}.\n\n    python {shlex.join(sys.argv)}\n"
    if options.out:
        options.out.write_text("\n".join(["# Kills\n", *lines, "", made_by]))
    sys.exit(num_bad > 0)


def sequence(options: argparse.Namespace, runs: Path) -> tuple[str, str, str]:
    """ingest, curate and report, a line of shell each."""
    base = [str(options.recipe), "--set", f"data.root={options.corpus.resolve()}", "--workers", str(options.workers), "--runs", str(runs)]

    def command(stage: str) -> str:
        return shlex.join([sys.executable, "-m", "medchatzh", stage, *base])

    name = f"{shlex.quote(str(runs))}/{options.recipe.stem}"
    given = f"--input ingest=$(echo {name}/ingest-????????????) --input curate=$(echo {name}/curate-????????????)"
    out = f"{shlex.quote(str(runs))}/report"
    return command("ingest"), command("curate"), f"(test -e {out} || {command('report')} {given} --out {out})"


def kill_one(commands: str, runs: Path, moment: float, chance: random.Random, *, single: bool) -> tuple[str, str, int]:
    """Start, kill at the moment (all processes, or one worker), wait for the end. (stage, who, shards under way).

    The stage is '' where the moment lay in none: all was done before, or one stage was over and the next not begun.
    """
    process = subprocess.Popen(["sh", "-c", commands], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(moment)
    if process.poll() is not None:
        return "", "", 0
    stage = where(runs)
    workers = [found for found in family(process.pid) if single and _is_worker(found)]
    lost = sum(not path.name.isdecimal() for path in shards(runs))
    if workers:
        os.kill(chance.choice(workers), signal.SIGKILL)
        process.wait(600)
    else:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if where(runs) != stage:  # it ended while the kill was on its way
        stage = ""
    return stage, "a worker" if workers else "all", lost


def _is_worker(process: int) -> bool:
    """Whether it is one of joblib's workers, which `shards.py` runs shards in."""
    try:
        return b"LokyProcess" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


def where(runs: Path) -> str:
    """The stage that is at work; '' between two."""
    found = [path.name.partition("-")[0].removesuffix(".partial") for path in runs.glob("*/*.partial")]
    found += [path.name.removesuffix(".partial") for path in runs.glob("*.partial")]
    return found[0] if found else ""


def shards(runs: Path) -> Iterator[Path]:
    """Folders of shards, the finished ones named by number, those under way with a suffix; what vanishes meanwhile is left out."""
    for path, names, _ in os.walk(runs):
        if "scratch" in Path(path).parts:
            yield from (Path(path) / name for name in names if name.partition(".")[0].isdecimal())


def made(shard: Path) -> int:
    """When a finished shard was finished; 0 where it is gone."""
    try:
        return (shard / "facts.json").stat().st_mtime_ns
    except OSError:
        return 0


def resume(commands: str, runs: Path) -> set[Path]:
    """Run to the end; the shards that were finished before and were made again."""
    before = {path: made(path) for path in shards(runs) if path.name.isdecimal()}
    redone = set()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(["sh", "-c", commands], stdout=subprocess.DEVNULL, stderr=log)
        while process.poll() is None:
            redone |= {path for path, when in before.items() if made(path) not in (when, 0)}
            time.sleep(0.02)
        if process.returncode:
            log.seek(0)
            raise SystemExit(f"{runs}: the run after the kill failed:\n{log.read().decode(errors='replace')[-2000:]}")
    return redone


def digests(runs: Path) -> dict[str, str]:
    """File below `runs` → SHA-256. Manifests without their seconds, and without what a stage run alone takes from its inputs' seconds."""
    found = {}
    for path in sorted(runs.rglob("*")):
        name = path.relative_to(runs).as_posix()
        if not path.is_file() or path.name.startswith("."):
            continue
        data = path.read_bytes()
        if path.name == "manifest.json":
            manifest = json.loads(data)
            dropped = ("seconds", "inputs", "fingerprint") if path.parent.name == "report" else ("seconds",)
            manifest = {key: value for key, value in manifest.items() if key not in dropped}
            data = json.dumps(manifest, sort_keys=True).encode()
        found[name] = hashlib.sha256(data).hexdigest()
    return found


if __name__ == "__main__":
    main()
