"""Ours against datatrove and Data-Juicer: the same corpus, the same work, two processes each, one after another. `make bench-curation`.

    python benchmarks/curation/compare.py CORPUS [--rounds 3] [--workers 2] [--only ours,datatrove] [--work FOLDER]

CORPUS is made by corpus.py. The work: answers of fewer than 10 characters and records with any of 8 kinds of personal data are dropped,
list numbers are written as `1.`, exact and near duplicates (5-character shingles; the peers by 128 MinHash permutations, ours by 60
with every candidate verified) are dropped. Everybody reads
JSON lines of parsed records and writes the kept and the dropped with reasons.
CPU seconds are those of all processes, from the first import to the end. Rounds go through the systems forwards, then backwards; the
median counts. Our kernels are compiled once before (numba keeps them on disk), as they are on any machine after its first run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from measure import Usage, machine, measure

HERE = Path(__file__).resolve().parent
BENCH = HERE.parents[1] / ".bench"
RECIPE = HERE / "same_work.toml"
FILES = 16
"""Pieces that the peers get the records in, so that both processes have work until the end."""


NOTES = {
    "ours_with_ingest": "`ours with ingest` begins at the raw files.",
    "data_juicer": "`data juicer` runs as its documentation shows: exact deduplicator, then MinHash, tracer on. Its tracer writes one"
    " pair for a group of duplicates, so where three or more are alike fewer are written than dropped.",
    "data_juicer_tuned": "`data juicer tuned` is the fastest setting found that writes its reasons too: turbo mode, MinHash alone,"
    " tracer on.",
}
"""What the page says of a system where it was run."""


class Run(NamedTuple):
    usage: Usage
    kept: int
    reasons: Mapping[str, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default=",".join(SYSTEMS), help=f"of {', '.join(SYSTEMS)}")
    parser.add_argument("--work", type=Path, help="folder for what the systems write (default: a temporary one)")
    parser.add_argument(
        "--out",
        type=Path,
        help="write the result there, with how it was made: benchmarks/results/curation.md for instance (default: print it alone)",
    )
    options = parser.parse_args()
    names = options.only.split(",")
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        work = Path(folder)
        num_records = prepare(options.corpus, work, options.workers)
        runs: dict[str, list[Run]] = {name: [] for name in names}
        for number in range(options.rounds):
            for name in names if number % 2 == 0 else reversed(names):
                runs[name].append(SYSTEMS[name](options.corpus, work, options.workers))
                usage = runs[name][-1].usage
                print(f"{name}: {num_records / usage.cpu_s:,.0f} records/CPU-s, {usage.wall_s:.1f} s, {usage.pss:,.0f} MB", file=sys.stderr)
    size = sum(path.stat().st_size for path in options.corpus.rglob("*") if path.is_file() and "benchmark" not in path.parts)
    text = table(runs, num_records) + (
        f"\n{num_records:,} records, {size / 1e6:,.0f} MB, {options.workers} processes each, median of {options.rounds} rounds in turn,"
        f" {datetime.date.today()}.\n{machine(versions())}.\n\n    python benchmarks/curation/compare.py {' '.join(sys.argv[1:])}\n"
    )
    if options.out:
        options.out.write_text(f"# Curation against peers\n\n{explained(names)}\n{text}")
    print(text)


def prepare(corpus: Path, work: Path, workers: int) -> int:
    """Ingest the corpus, cut its records into files for the peers, and compile our kernels by a first run; the number of records."""
    checked(work, medchatzh("ingest", corpus, work / "given", workers))
    dialogues = folder_of(work / "given", "ingest") / "dialogues.jsonl"
    peers = work / "peers"
    peers.mkdir()
    with dialogues.open("rb") as file:
        num_records = sum(1 for _ in file)
    with dialogues.open("rb") as file:
        for number in range(FILES):
            with (peers / f"{number:05d}.jsonl").open("w", encoding="utf-8") as out:
                for _ in range(num_records * number // FILES, num_records * (number + 1) // FILES):
                    record = json.loads(file.readline())
                    question, answer = (turn["content"] for turn in record["turns"])
                    line = {"id": record["id"], "text": f"{question}\n{answer}", "answer_start": len(question) + 1}
                    out.write(json.dumps(line, ensure_ascii=False) + "\n")
    ours(corpus, work, workers)
    return num_records


def medchatzh(stage: str, corpus: Path, runs: Path, workers: int, *more: str) -> list[str]:
    base = [sys.executable, "-m", "medchatzh", stage, str(RECIPE), "--set", f"data.root={corpus.resolve()}"]
    return [*base, "--workers", str(workers), "--runs", str(runs), *more]


def folder_of(runs: Path, stage: str) -> Path:
    """The one finished folder of a stage."""
    (folder,) = (path.parent for path in runs.glob(f"*/{stage}-*/manifest.json"))
    return folder


def ours(corpus: Path, work: Path, workers: int) -> Run:
    """`medchatzh curate` on records that were ingested before."""
    for before in (work / "given").glob("*/curate-*"):
        shutil.rmtree(before)
    usage = checked(work, medchatzh("curate", corpus, work / "given", workers))
    return _told(usage, folder_of(work / "given", "curate"))


def ours_with_ingest(corpus: Path, work: Path, workers: int) -> Run:
    out = fresh(work / "ours")
    usage = checked(work, medchatzh("curate", corpus, out / "runs", workers))
    return _told(usage, folder_of(out / "runs", "curate"))


def _told(usage: Usage, folder: Path) -> Run:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    return Run(usage, manifest["num_out"], manifest["dropped"])


def datatrove(corpus: Path, work: Path, workers: int) -> Run:
    out = fresh(work / "datatrove")
    command = [BENCH / "datatrove/bin/python", HERE / "peer_datatrove.py", work / "peers", out, str(workers)]
    usage = checked(work, command)
    dropped = {path.name: count_lines(path) for path in sorted((out / "dropped").iterdir())}
    return Run(usage, count_lines(out / "kept"), dropped)


def data_juicer(corpus: Path, work: Path, workers: int, mode: str = "documented") -> Run:
    out = work / "data_juicer"
    shutil.rmtree(out, ignore_errors=True)
    usage = checked(work, [BENCH / "data-juicer/bin/python", HERE / "peer_data_juicer.py", work / "peers", out, str(workers), mode])
    traced = {path.stem.removeprefix("sample_trace-"): count_lines(path) for path in sorted(out.glob("work/**/trace/*.jsonl"))}
    return Run(usage, count_lines(out), traced)


SYSTEMS: dict[str, Callable[[Path, Path, int], Run]] = {
    "ours": ours,
    "ours_with_ingest": ours_with_ingest,
    "datatrove": datatrove,
    "data_juicer": data_juicer,
    "data_juicer_tuned": partial(data_juicer, mode="tuned"),
}


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def checked(work: Path, command: Sequence[str | Path]) -> Usage:
    usage = measure(command, log=work / "log.txt")
    if usage.status:
        log = (work / "log.txt").read_text(encoding="utf-8", errors="replace")
        raise SystemExit(f"{' '.join(map(str, command))}: status {usage.status}\n{log[-3000:]}")
    return usage


def count_lines(folder: Path) -> int:
    """Lines of a file, or of the files of records below a folder."""
    paths = (
        [folder]
        if folder.is_file()
        else [path for path in folder.rglob("*.jsonl") if "work" not in path.relative_to(folder).parts and "stats" not in path.name]
    )
    return sum(path.read_bytes().count(b"\n") for path in paths)


def table(runs: Mapping[str, Sequence[Run]], num_records: int) -> str:
    lines = [
        "| system | records / CPU-s | ours is | wall s | CPU s | memory MB: all / largest process | kept | reasons written |",
        "|---|---|---|---|---|---|---|---|",
    ]
    cpu = {name: statistics.median(run.usage.cpu_s for run in made) for name, made in runs.items()}
    for name, made in runs.items():
        wall = statistics.median(run.usage.wall_s for run in made)
        pss, largest = max(run.usage.pss for run in made), max(max(run.usage.peaks) for run in made)
        ratio = f"{cpu[name] / cpu['ours']:.1f}×" if "ours" in cpu and name != "ours" else ""
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in made[-1].reasons.items()) or "none"
        lines.append(
            f"| {name.replace('_', ' ')} | {num_records / cpu[name]:,.0f} | {ratio} | {wall:.1f} | {cpu[name]:.1f} |"
            f" {pss:,.0f} / {largest:,.0f} | {made[-1].kept:,} | {reasons} |"
        )
    return "\n".join(lines) + "\n"


def versions() -> dict[str, str]:
    """Ours, and the peers as installed in their environments."""
    show = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))"
    pythons = {
        "medchatzh": sys.executable,
        "datatrove": BENCH / "datatrove/bin/python",
        "py-data-juicer": BENCH / "data-juicer/bin/python",
    }
    found = {}
    for name, python in pythons.items():
        if Path(python).exists():
            found[name] = subprocess.run([python, "-c", show, name], capture_output=True, text=True, check=True).stdout.strip()
    return found


def explained(names: Sequence[str]) -> str:
    """The page's introduction, with a word about those systems that were run."""
    notes = [NOTES[name] + "\n" for name in names if name in NOTES]
    return (__doc__ or "").partition("CORPUS is made by corpus.py. ")[2] + "".join(notes)


if __name__ == "__main__":
    main()
