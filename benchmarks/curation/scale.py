"""From 100,000 to 10.5 million records end to end: made, ingested, curated by all rules, in two workers. `make bench-scale`.

    python benchmarks/curation/scale.py --data FOLDER --work FOLDER [--sizes 100000,1000000,10000000,10500000] [--sentences 9] [--workers 2]

Each size is measured in a fresh folder that is deleted afterwards; what was measured stays in WORK/scale.json, so that a killed run goes on
with the next size. The largest wants about 60 GB of disk.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from compare import HERE, folder_of, versions
from measure import Usage, disk_mb, machine, measure

RECIPE = HERE / "full.toml"
_DISK_FACTOR = 5
"""Room that a size must find, in sizes of its corpus: corpus, ingested, shards of curate, curated, and a reserve."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("MEDCHATZH_DATA"), help="default: $MEDCHATZH_DATA")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sizes", default="100000,1000000,10000000,10500000")
    parser.add_argument("--sentences", type=int, default=9)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--out",
        type=Path,
        help="write the result there, with how it was made: benchmarks/results/scale.md for instance (default: print it alone)",
    )
    options = parser.parse_args()
    if not options.data:
        parser.error("--data (or $MEDCHATZH_DATA): the folder with medical/toyhom and the other sources")
    options.work.mkdir(parents=True, exist_ok=True)
    journal = options.work / "scale.json"
    done: dict[str, Any] = json.loads(journal.read_text()) if journal.exists() else {}
    sizes = [int(size) for size in options.sizes.split(",")]
    if any(str(size) not in done for size in sizes):
        one_size(options, 10_000)  # compiles our kernels, as any first run does
    for size in sizes:
        if str(size) not in done:
            done[str(size)] = one_size(options, size)
            journal.write_text(json.dumps(done, indent=1))
            print(table(done), file=sys.stderr)
    command = f"python benchmarks/curation/scale.py {' '.join(sys.argv[1:])}"
    told = f"{options.workers} workers, {datetime.date.today()}. {machine({'medchatzh': versions()['medchatzh']})}.\n\n    {command}\n"
    text = f"# Curation from 10⁵ to 10⁷ records\n\n{EXPLAINED}\n\n{table(done)}\n{told}"
    if options.out:
        options.out.write_text(text)
    print(text)


EXPLAINED = """All rules at their defaults, recombined records with one fault in ten. Memory in MB: `main` and `worker` are the largest
resident size (VmHWM) of the main process and of any worker, files mapped into memory included; `worker PSS` and `all PSS` are what one
worker and all processes together hold, read every 0.2 s. Disk is everything at one moment: raw, ingested and curated records and what
stages keep to go on from after a kill."""


def one_size(options: argparse.Namespace, size: int) -> dict[str, Any]:
    """Make, ingest, curate, count, delete."""
    folder = options.work / "scale"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    started = time.perf_counter()
    corpus = folder / "corpus"
    make = [HERE / "corpus.py", "--data", options.data, "--out", corpus, "--records", size, "--sentences", options.sentences]
    subprocess.run([sys.executable, *map(str, make), "--workers", str(options.workers)], check=True)
    made_s = time.perf_counter() - started
    num_bytes = sum(path.stat().st_size for path in corpus.rglob("*") if path.is_file() and path.name != "labels.jsonl")
    if shutil.disk_usage(folder).free < (_DISK_FACTOR - 1) * num_bytes:
        raise SystemExit(f"{folder}: {size:,} records want {_DISK_FACTOR * num_bytes / 1e9:.0f} GB of disk; give --work a larger one")
    result: dict[str, Any] = {"bytes": num_bytes, "made_s": made_s, "stages": {}}
    for stage in ("ingest", "curate"):
        command = [sys.executable, "-m", "medchatzh", stage, str(RECIPE), "--set", f"data.root={corpus.resolve()}"]
        command += ["--workers", str(options.workers), "--runs", str(folder / "runs")]
        usage = measure(command, log=options.work / f"{stage}-{size}.log", watch=folder)
        if usage.status:
            raise SystemExit(f"{stage} of {size:,} records ended with {usage.status}; see {options.work / f'{stage}-{size}.log'}")
        manifest = json.loads((folder_of(folder / "runs", stage) / "manifest.json").read_bytes())
        check_balance(folder_of(folder / "runs", stage), manifest)
        result["stages"][stage] = told(usage) | {key: manifest[key] for key in ("num_in", "num_out", "dropped", "seconds")}
    result["disk_end"] = disk_mb(folder)
    shutil.rmtree(folder)
    return result


def told(usage: Usage) -> dict[str, Any]:
    main_peak, *workers = usage.peaks
    return {
        "wall_s": usage.wall_s,
        "cpu_s": usage.cpu_s,
        "main_peak": main_peak,
        "worker_peak": max(workers, default=0.0),
        "worker_pss": usage.worker_pss,
        "pss": usage.pss,
        "disk": usage.disk,
    }


def check_balance(folder: Path, manifest: dict[str, Any]) -> None:
    """Kept and rejected lines together are what was read."""
    counted = 0
    for path in folder.glob("*.jsonl"):
        if path.stem == "near_pairs":
            continue  # copies to look at
        with path.open("rb") as file:
            counted += sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 24), b""))
    if counted != manifest["num_in"]:
        raise SystemExit(f"{folder}: {manifest['num_in']:,} records in, but {counted:,} lines out")


def table(done: dict[str, Any]) -> str:
    lines = [
        "| records | GB | ingest s | curate s | wall min | records/s | CPU µs/record | times the first |"
        " main | worker | worker PSS | all PSS | disk GB | kept |",
        "|" + "---|" * 14,
    ]
    first = 0.0
    for size, result in sorted(done.items(), key=lambda item: int(item[0])):
        stages = result["stages"]
        wall = sum(stage["wall_s"] for stage in stages.values())
        cpu = 1e6 * sum(stage["cpu_s"] for stage in stages.values()) / int(size)
        first = first or cpu
        most = {key: max(stage[key] for stage in stages.values()) for key in ("main_peak", "worker_peak", "worker_pss", "pss", "disk")}
        lines.append(
            f"| {int(size):,} | {result['bytes'] / 1e9:.2f} | {stages['ingest']['wall_s']:.1f} | {stages['curate']['wall_s']:.1f} |"
            f" {wall / 60:.1f} | {int(size) / wall:,.0f} | {cpu:.1f} | {cpu / first:.2f} |"
            f" {most['main_peak']:,.0f} | {most['worker_peak']:,.0f} | {most['worker_pss']:,.0f} |"
            f" {most['pss']:,.0f} | {most['disk'] / 1e3:.1f} | {stages['curate']['num_out']:,} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
