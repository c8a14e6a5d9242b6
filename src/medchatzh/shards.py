"""Work on shards: one pure function over many pieces of the input, in processes or on a Ray cluster, with the same bytes either way.

Each job writes into a folder of its own, which gets its place by one rename together with its facts. So what is there is done and right: a
killed run goes on from it and makes again at most one shard a worker. Output files grow in the order of the jobs, whoever finishes first.
"""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
import signal
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

from medchatzh.run import SCRATCH, Context, Progress, write_atomically

J = TypeVar("J")
F = TypeVar("F", bound="Facts")
_FACTS = "facts.json"
_MERGED = "merged.json"
_SPANS = ".spans"


class Facts(msgspec.Struct, kw_only=True):
    """What a job tells of its shard; a stage adds fields of its own."""

    num_in: int
    """Records read, for the progress."""


class Spans(msgspec.Struct, frozen=True):
    """Parts of a file that stand for what a job would write: written as `<name>.spans` instead of `<name>`, they are copied once only."""

    path: Path
    spans: list[tuple[int, int]]
    """(start, end), in the order in which they are wanted."""
    is_spent: bool = False
    """Nobody wants the file when this job's files are merged: it goes then, so that no more than it must lies on disk."""

    def write(self, path: Path) -> None:
        path.with_name(path.name + _SPANS).write_bytes(msgspec.json.encode(self, enc_hook=str))


class _Merged(msgspec.Struct, kw_only=True):
    """How far the output files have grown: the next job, and the size of each file."""

    next: int = 0
    sizes: dict[str, int] = {}


def byte_ranges(path: Path, size: int) -> list[tuple[int, int]]:
    """(start, end) of pieces of about `size` bytes of a file of lines, cut at line ends; none for an empty file."""
    total = path.stat().st_size
    cuts = [0]
    with path.open("rb") as file:
        while cuts[-1] + size < total:
            file.seek(cuts[-1] + size)
            file.readline()
            cuts.append(file.tell())
    return [(start, end) for start, end in zip(cuts, [*cuts[1:], total], strict=True) if start < end]


def work(
    function: Callable[[J, Path], F],
    jobs: Sequence[J],
    out: Path,
    context: Context,
    *,
    label: str,
    unit: str,
    kind: type[F],
    merge: Sequence[str] = (),
    total: int | None = None,
    sizes: Sequence[int] = (),
) -> list[F]:
    """Call `function(job, folder)` for each job; returns their facts, in the order of the jobs.

    The function stands in a module, writes its files into the empty `folder` and nothing elsewhere. The files named in `merge` are
    appended to `out/<name>` in the order of the jobs; others stay in `shard(out, label, number)` until the stage ends. `total` is the
    number of records; where nobody knows it, `sizes`, the bytes of each job, tell how much is left. Raises what a job raises; ValueError
    where a worker died.
    """
    scratch = out / SCRATCH / label
    scratch.mkdir(parents=True, exist_ok=True)
    merger = _Merger(out, label, merge, len(jobs))
    found: dict[int, F] = {}
    for number in range(len(jobs)):
        path = shard(out, label, number) / _FACTS
        if path.exists():
            found[number] = msgspec.json.decode(path.read_bytes(), type=kind)
    num_done = sum(facts.num_in for facts in found.values())
    size_done = sum(sizes[number] for number in found) if sizes else 0
    with Progress(label, total, unit, initial=num_done) as progress:
        merger.advance(found)
        waiting = [(number, jobs[number]) for number in range(len(jobs)) if number not in found]
        for number, facts in _calls(function, waiting, scratch, context):
            found[number] = facts
            progress.add(facts.num_in)
            num_done += facts.num_in
            if sizes:
                size_done += sizes[number]
                progress.expect(round(num_done * sum(sizes) / max(1, size_done)))
            merger.advance(found)
    return [found[number] for number in range(len(jobs))]


def shard(out: Path, label: str, number: int) -> Path:
    """Where a finished job's folder lies."""
    return out / SCRATCH / label / f"{number:06d}"


class _Merger:
    """Appends the files of finished shards in the order of the jobs, and knows after a kill how far it came."""

    def __init__(self, out: Path, label: str, names: Sequence[str], num_jobs: int) -> None:
        self._out, self._label, self._num_jobs = out, label, num_jobs
        self._path = out / SCRATCH / label / _MERGED
        known = msgspec.json.decode(self._path.read_bytes(), type=_Merged) if self._path.exists() else _Merged()
        self._state = _Merged(next=known.next, sizes={name: known.sizes.get(name, 0) for name in names})
        for name, size in self._state.sizes.items():
            with (out / name).open("ab") as file:
                if file.tell() < size:
                    raise ValueError(f"{out / name}: is shorter than it was (a power failure?); delete {out} and run the same command")
                file.truncate(size)

    def advance(self, found: dict[int, Any]) -> None:
        """Append what can be appended by now."""
        while self._state.sizes and self._state.next < self._num_jobs and self._state.next in found:
            folder = shard(self._out, self._label, self._state.next)
            spent: set[Path] = set()
            for name in self._state.sizes:
                with (self._out / name).open("r+b") as file:
                    file.seek(0, os.SEEK_END)
                    if (named := _named(folder / name)) is not None:
                        _append(named.path, named.spans, file)
                        spent |= {named.path} if named.is_spent else set()
                    elif (path := folder / name).exists():
                        _append(path, [(0, path.stat().st_size)], file)
                    self._state.sizes[name] = os.lseek(file.fileno(), 0, os.SEEK_CUR)
            self._state.next += 1
            write_atomically(self._path, msgspec.json.encode(self._state))
            for path in (*spent, *(folder / name for name in self._state.sizes)):
                path.unlink(missing_ok=True)


def _named(path: Path) -> Spans | None:
    """What a job named in the place of a file."""
    if not (named := path.with_name(path.name + _SPANS)).exists():
        return None
    return msgspec.json.decode(named.read_bytes(), type=Spans, dec_hook=lambda kind, value: kind(value))


def _append(path: Path, spans: Sequence[tuple[int, int]], file: BinaryIO) -> None:
    """Append parts of a file to another, inside the kernel where it can."""
    with path.open("rb") as part:
        for start, end in spans:
            if sys.platform == "linux":
                while start < end and (count := os.sendfile(file.fileno(), part.fileno(), start, end - start)):
                    start += count
            else:
                part.seek(start)
                file.write(part.read(end - start))
                file.flush()


def _call(function: Callable[[J, Path], F], number: int, job: J, scratch: Path) -> tuple[int, F]:
    """One job, from an empty folder to a finished one."""
    folder = scratch / f"{number:06d}"
    aside = scratch / f"{number:06d}.{uuid.uuid4().hex[:8]}"
    aside.mkdir()
    with _no_collector():
        facts = function(job, aside)
    write_atomically(aside / _FACTS, msgspec.json.encode(facts))
    try:
        aside.rename(folder)
    except OSError:
        if not (folder / _FACTS).exists():
            raise
        shutil.rmtree(aside)  # another worker, cut off from a killed run, was faster; its bytes are the same
    return number, facts


@contextmanager
def _no_collector() -> Iterator[None]:
    """A shard makes millions of objects, none of them in cycles: to look for cycles would take a tenth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _calls(function: Callable[[J, Path], F], waiting: Sequence[tuple[int, J]], scratch: Path, context: Context) -> Iterator[tuple[int, F]]:
    if context.executor == "ray":
        yield from _with_ray(function, waiting, scratch, context)
    elif context.workers <= 1 or len(waiting) <= 1:
        for number, job in waiting:
            yield _call(function, number, job, scratch)
    else:
        yield from _with_processes(function, waiting, scratch, context)


def _with_processes(
    function: Callable[[J, Path], F], waiting: Sequence[tuple[int, J]], scratch: Path, context: Context
) -> Iterator[tuple[int, F]]:
    # joblib's loky, because it needs no `if __name__ == "__main__"` in a user's script and does not fork a process that has threads
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    pool = Parallel(n_jobs=min(context.workers, len(waiting)), batch_size=1, return_as="generator_unordered", pre_dispatch="2*n_jobs")
    try:
        yield from pool(delayed(_call_in_worker)(os.getpid(), function, number, job, scratch) for number, job in waiting)
    except TerminatedWorkerError as error:
        raise ValueError(
            f"{scratch.name}: a worker process died (killed, or out of memory); the same command goes on from here, and fewer --workers"
            f" need less memory ({str(error).splitlines()[0]})"
        ) from None


def _call_in_worker(parent: int, function: Callable[[J, Path], F], number: int, job: J, scratch: Path) -> tuple[int, F]:
    if sys.platform == "linux":  # die with the parent, however it dies
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    return _call(function, number, job, scratch)


def started_ray(context: Context) -> Any:
    """The module `ray`, connected to the cluster of $RAY_ADDRESS or to one made here. ValueError where it is not installed."""
    try:
        import ray
    except ImportError:
        raise ValueError("--executor ray needs Ray: pip install 'medchatzh[ray]'") from None
    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS")
        more = {"address": address} if address else {"num_cpus": max(1, context.workers), "include_dashboard": False}
        ray.init(log_to_driver=False, configure_logging=False, **more)
    return ray


def _with_ray(
    function: Callable[[J, Path], F], waiting: Sequence[tuple[int, J]], scratch: Path, context: Context
) -> Iterator[tuple[int, F]]:
    """The same calls as Ray tasks. The run folder and the raw files must lie on a file system that all nodes share."""
    ray = started_ray(context)
    remote = ray.remote(max_retries=3)(_call)
    room = 2 * int(ray.cluster_resources().get("CPU", 1))
    queue = iter(waiting)
    running: list[Any] = []
    while True:
        for number, job in queue:
            running.append(remote.remote(function, number, job, scratch.resolve()))
            if len(running) >= room:
                break
        if not running:
            return
        ready, running = ray.wait(running)
        yield from ray.get(ready)
