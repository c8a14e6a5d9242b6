"""What a command costs, with all processes that it starts: CPU and wall seconds, memory, disk."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

POLL_S = 0.2
_PR_SET_CHILD_SUBREAPER = 36
_DROP_CACHES = Path("/proc/sys/vm/drop_caches")


class Usage(NamedTuple):
    """What one command took. Memory in MB: `peaks` the largest resident size (VmHWM) of each process, the main one first; `pss` the largest
    sum over all processes at one moment, shared pages counted once (as read every 0.2 s); `worker_pss` the largest share of one child."""

    status: int
    wall_s: float
    cpu_s: float
    peaks: list[float]
    pss: float
    worker_pss: float
    disk: float
    """MB at most in the watched folder, read every 2 s."""


def measure(command: Sequence[str | os.PathLike[str]], *, log: Path, watch: Path | None = None, **more: str) -> Usage:
    """Run a command to its end (standard output and error into `log`); `more` are environment variables.

    Before, all that earlier commands wrote is brought to disk, and the system's file cache is emptied where that is allowed (root): nobody
    pays for his predecessor. This process becomes the parent of orphans, so that the CPU time of what a command leaves behind (a
    forkserver, say) counts too.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.sync()
    if os.access(_DROP_CACHES, os.W_OK):
        _DROP_CACHES.write_text("3")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **more})
        watcher = _Watcher(process.pid, watch)
        watcher.start()
        status = process.wait()
        wall_s = time.perf_counter() - started
        watcher.done.set()
        watcher.join()
        _reap()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    main, *others = watcher.peaks.values() if watcher.peaks else [0.0]
    return Usage(status, wall_s, cpu_s, [main, *sorted(others, reverse=True)], watcher.pss, watcher.worker_pss, watcher.disk)


def _reap() -> None:
    """Wait for orphans; those that do not end by themselves within five seconds keep running and are not counted."""
    for _ in range(50):
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return
        time.sleep(0.1)


class _Watcher(threading.Thread):
    def __init__(self, root: int, folder: Path | None) -> None:
        super().__init__(daemon=True)
        self.done = threading.Event()
        self.peaks: dict[int, float] = {root: 0.0}
        self.pss = self.worker_pss = self.disk = 0.0
        self._root, self._folder = root, folder

    def run(self) -> None:
        round_number = 0
        while not self.done.wait(POLL_S):
            shares = {}
            for process in family(self._root):
                self.peaks[process] = max(self.peaks.get(process, 0.0), _field(process, "status", "VmHWM"))
                shares[process] = _field(process, "smaps_rollup", "Pss")
            self.pss = max(self.pss, sum(shares.values()))
            self.worker_pss = max(self.worker_pss, *(share for process, share in shares.items() if process != self._root), 0.0)
            if self._folder and round_number % 10 == 0:
                self.disk = max(self.disk, disk_mb(self._folder))
            round_number += 1


def family(root: int) -> list[int]:
    """The process and all that descend from it or from it by way of orphans (children of this process), by /proc."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            parents[int(entry)] = int(stat.rpartition(")")[2].split()[1])
    found = {process for process, parent in parents.items() if process == root or parent == os.getpid()}
    while more := {process for process, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found)


def _field(process: int, file: str, name: str) -> float:
    """A line `name: 123 kB` of a file in /proc, in MB; 0 where the process is gone."""
    try:
        text = Path(f"/proc/{process}/{file}").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith(name + ":")), 0.0)


def disk_mb(folder: Path) -> float:
    """Space taken by all files below a folder, in MB; those that vanish meanwhile are left out."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(path, name)).st_blocks * 512
            except OSError:
                continue
    return total / 1e6


def machine(versions: Mapping[str, str]) -> str:
    """One line: processor, cores, memory, system, versions."""
    model = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.release()}, {told}"
