"""Shards: the same bytes whoever works, going on after a kill, and what a dying worker says."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from medchatzh import shards
from medchatzh.run import SCRATCH, Context
from medchatzh.shards import Facts


class Job(msgspec.Struct):
    number: int
    log: Path
    pause: float = 0.0
    die: bool = False


class Told(Facts, kw_only=True):
    text: str


def make(job: Job, folder: Path) -> Told:
    with job.log.open("a") as log:
        log.write(f"{job.number}\n")
    time.sleep(job.pause)
    if job.die and not job.log.with_suffix(".died").exists():
        job.log.with_suffix(".died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if job.number % 3 != 1:
        (folder / "a.txt").write_text(f"a{job.number}\n")
    (folder / "own.txt").write_text(str(job.number))
    return Told(num_in=job.number, text=str(job.number))


def run(jobs: list[Job], out: Path, **how: object) -> list[Told]:
    return shards.work(make, jobs, out, Context(**how), label="t", unit="records", kind=Told, merge=("a.txt",))


def jobs(log: Path, count: int = 7, **more: object) -> list[Job]:
    return [Job(number, log, pause=0.02 * (count - number), **more) for number in range(count)]


@pytest.mark.parametrize("how", [{"workers": 1}, {"workers": 2}, {"workers": 8}, {"executor": "ray", "workers": 2}], ids=str)
def test_the_bytes_are_the_same_whoever_works(tmp_path: Path, how: dict[str, object]) -> None:
    if how.get("executor") == "ray":
        pytest.importorskip("ray", reason="Ray is an extra: pip install 'medchatzh[ray]'")
    told = run(jobs(tmp_path / "log"), tmp_path, **how)
    assert [one.text for one in told] == list("0123456")
    assert (tmp_path / "a.txt").read_text() == "a0\na2\na3\na5\na6\n"
    assert (shards.shard(tmp_path, "t", 4) / "own.txt").read_text() == "4"


def test_a_dead_worker_is_told_and_its_job_alone_is_made_again(tmp_path: Path) -> None:
    work = jobs(tmp_path / "log", 12)
    work[6].die = True
    with pytest.raises(ValueError, match="the same command goes on"):
        run(work, tmp_path, workers=2)
    finished = {path.name for path in (tmp_path / SCRATCH / "t").iterdir() if (path / "facts.json").exists()}
    assert 4 <= len(finished) < 12
    with (tmp_path / "a.txt").open("a") as file:
        file.write("written by the dead, not yet counted")
    (tmp_path / "log").unlink()
    run(work, tmp_path, workers=2)
    assert (tmp_path / "a.txt").read_text() == "".join(f"a{number}\n" for number in range(12) if number % 3 != 1)
    assert {f"{int(number):06d}" for number in (tmp_path / "log").read_text().split()} == {f"{n:06d}" for n in range(12)} - finished


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_workers_die_with_their_parent(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from tests import test_shards\n"
        "p = pathlib.Path(sys.argv[1]); test_shards.run([test_shards.Job(n, p / 'log', pause=0.3) for n in range(40)], p, workers=2)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    deadline = time.monotonic() + 60
    while not (tmp_path / "log").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    time.sleep(0.5)
    before = (tmp_path / "log").read_text()
    time.sleep(1)
    assert before and (tmp_path / "log").read_text() == before


def test_byte_ranges_cut_at_line_ends_and_cover_the_file(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"".join(b"x" * (number % 37) + b"\n" for number in range(500)) + b"no end")
    ranges = shards.byte_ranges(path, 100)
    data = path.read_bytes()
    assert b"".join(data[start:end] for start, end in ranges) == data and len(ranges) > 50
    assert all(data[end - 1 : end] == b"\n" for _, end in ranges[:-1])
    path.write_bytes(b"")
    assert shards.byte_ranges(path, 100) == []


def test_an_error_of_a_job_is_told_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run([Job(n, tmp_path / "nowhere" / "log") for n in range(3)], tmp_path, workers=2)


def name_parts(job: Job, folder: Path) -> Told:
    made = job.log / str(job.number)
    made.write_text("abcdef")
    for name in ("a.txt", "b.txt"):
        shards.Spans(made, [(0, 2), (4, 6)] if name == "a.txt" else [(2, 4)], is_spent=job.number > 0).write(folder / name)
    return Told(num_in=1, text="")


def test_named_parts_are_copied_in_order_and_what_is_spent_goes(tmp_path: Path) -> None:
    shards.work(name_parts, jobs(tmp_path, 3), tmp_path, Context(), label="t", unit="records", kind=Told, merge=("a.txt", "b.txt"))
    assert (tmp_path / "a.txt").read_text() == "abef" * 3
    assert (tmp_path / "b.txt").read_text() == "cd" * 3
    assert [(tmp_path / str(number)).exists() for number in range(3)] == [True, False, False]
