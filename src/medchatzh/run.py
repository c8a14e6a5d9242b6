"""What every stage shares at run time: its folder, manifest, fingerprint, lock, progress. Knows no stage.

A stage's output lies in `<runs>/<stage>-<fingerprint>/`. The fingerprint covers the stage's version, settings, seed, the
fingerprints of its inputs and the content of its raw files; so a folder that exists is done and right, and is skipped.
Work happens in `<folder>.partial`, which is renamed when the manifest is written: kill -9 leaves nothing half-written.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from medchatzh import __version__

T = TypeVar("T")
MANIFEST = "manifest.json"
PARTIAL = ".partial"
SCRATCH = "scratch"
"""Folder inside a partial one for what a stage goes on from after a kill. It is gone when the stage is done."""


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a stage may know of its surroundings. Only `seed` may change the output's bytes."""

    seed: int = 0
    workers: int = 1
    """Processes for text work."""
    executor: Literal["processes", "ray"] = "processes"
    """What runs the shards: processes of this machine, or Ray tasks (see `shards.py`)."""
    threads: int = 0
    """Threads for numerical work, 0 for one a core."""
    cache: Path | None = None
    """Where results by content lie that outlive the run (rewards); None keeps them in the stage's scratch folder."""


class Result(msgspec.Struct, kw_only=True):
    """What a stage reports: records in and out, drops by reason, and figures worth showing (`facts`)."""

    num_in: int = 0
    num_out: int = 0
    dropped: dict[str, int] = msgspec.field(default_factory=Counter)
    facts: dict[str, Any] = msgspec.field(default_factory=dict)


class Manifest(msgspec.Struct, kw_only=True):
    """`manifest.json`: how this folder was made and what lies in it."""

    stage: str
    fingerprint: str
    config: dict[str, Any]
    seed: int
    inputs: dict[str, str]
    """Label → folder name of the stage it came from; `name@hash of its files` for a folder given by hand."""
    files: dict[str, str]
    """Raw file → sha256."""
    versions: dict[str, str]
    num_in: int
    num_out: int
    dropped: dict[str, int]
    facts: dict[str, Any]
    outputs: dict[str, str]
    """Output file → sha256."""
    seconds: float


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A stage to run: the module `medchatzh.<module>` with its config, its inputs (label → step) and its raw files."""

    name: str
    """Unique in a plan: `sft`, or `sft@no_medical` for an arm."""
    module: str
    config: msgspec.Struct
    inputs: dict[str, Step] = {}
    files: dict[str, Path] = {}
    """Name → raw file (or file of an outside checkpoint) that the output depends on."""
    takes_files: bool = False
    """`run` is given the files (ingest)."""
    optional_inputs: bool = False
    """Run alone, the stage makes do with the inputs it is given (evaluate, report)."""
    hashes: dict[str, str] = {}
    """Name → sha256 of the raw file."""
    seed: int = 0
    """What the stage draws with."""
    fingerprint: str = ""
    resumable: bool = False
    """The stage goes on from what it finds in its scratch folder (training, generation)."""

    @property
    def stage(self) -> str:
        return self.name.partition("@")[0]

    @property
    def folder_name(self) -> str:
        return f"{self.stage}-{self.fingerprint}"


def step(seed: int, digests: Digests, **fields: Any) -> Step:
    """A `Step` with its fingerprint worked out. A stage that draws nothing (`SEEDED = False`) is one and the same under any seed."""
    made = Step(**fields)
    hashes = {name: digests[path] for name, path in made.files.items()}
    stage_module = import_module(f"medchatzh.{made.module}")
    seed = seed if getattr(stage_module, "SEEDED", True) else 0
    parts = {
        "stage": made.stage,
        "version": stage_module.VERSION,
        "config": msgspec.to_builtins(made.config),
        "seed": seed,
        "inputs": {label: inner.fingerprint for label, inner in made.inputs.items()},
        "files": hashes,
    }
    encoded = msgspec.json.encode(parts, order="deterministic")
    return msgspec.structs.replace(made, hashes=hashes, seed=seed, fingerprint=hashlib.sha256(encoded).hexdigest()[:12])


class Digests:
    """sha256 of raw files, remembered by path, size and modification time, so that gigabytes are not read again."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        try:
            self._known: dict[str, str] = msgspec.json.decode(cache.read_bytes(), type=dict[str, str])
        except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
            self._known = {}

    def __getitem__(self, path: Path) -> str:
        stat = path.stat()
        place = os.fsencode(path.resolve()).decode("utf-8", "backslashreplace")  # the name may be no UTF-8, the cache is
        key = f"{place}|{stat.st_size}|{stat.st_mtime_ns}"
        if key not in self._known:
            self._known[key] = sha256(path)
        return self._known[key]

    def save(self) -> None:
        self._cache.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._cache, msgspec.json.encode(self._known))


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Write aside and rename, so that a reader sees the old file or the new one."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # another process may be writing the same file
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    aside.replace(path)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a finished stage; ValueError where the folder is none."""
    try:
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{folder}: not a finished stage (no {MANIFEST})") from None
    except msgspec.DecodeError as error:
        raise ValueError(f"{folder / MANIFEST}: {error}; delete the folder to make it again") from None


def versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of the libraries that a stage's bytes may depend on (those installed), with Python's and ours."""
    found = {"python": platform.python_version(), "medchatzh": __version__}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def execute(
    work: Step, runs: Path, context: Context, *, out: Path | None = None, given: Mapping[str, Path] | None = None, only_given: bool = False
) -> Path:
    """Run one step unless it is done; returns its folder.

    A stage run alone writes to `out`, and takes some inputs (all of them, with `only_given`) from the folders in `given`.
    """
    folder = out or runs / work.folder_name
    if (folder / MANIFEST).exists():
        return folder
    if folder.exists():
        raise ValueError(f"{folder}: exists but holds no {MANIFEST}; move it away, its place is needed")
    hashes = {label: _content(path) for label, path in (given or {}).items()}
    fingerprint = hashlib.sha256(f"{work.fingerprint} {sorted(hashes.items())}".encode()).hexdigest()[:12] if hashes else work.fingerprint
    partial = folder.with_name(folder.name + PARTIAL)
    scratch = partial / SCRATCH
    mine = scratch / "fingerprint"
    if not (partial / MANIFEST).exists():  # else killed between its manifest and its new name: only the end is left to do
        same = work.resumable and mine.exists() and mine.read_text() == fingerprint
        if partial.exists() and not same:
            shutil.rmtree(partial)
        scratch.mkdir(parents=True, exist_ok=True)
        if not same:
            write_atomically(mine, fingerprint.encode())
        planned = {} if only_given else {label: runs / inner.folder_name for label, inner in work.inputs.items()}
        manifest = _work(work, planned | dict(given or {}), partial, context)
        manifest.fingerprint = fingerprint
        manifest.inputs |= {label: f"{path.name}@{hashes[label]}" for label, path in (given or {}).items()}
        write_atomically(partial / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    shutil.rmtree(scratch, ignore_errors=True)
    partial.replace(folder)
    return folder


def _work(work: Step, paths: Mapping[str, Path], partial: Path, context: Context) -> Manifest:
    """Call the stage and say what it did."""
    module = import_module(f"medchatzh.{work.module}")
    started = time.monotonic()
    context = msgspec.structs.replace(context, seed=work.seed)
    extra = {"files": work.files} if work.takes_files else {}
    # whole paths, since the workers of a cluster have working folders of their own
    given = {label: path.resolve() for label, path in paths.items()}
    result: Result = module.run(work.config, given, partial.resolve(), context, **extra)
    made = [path for path in sorted(partial.rglob("*")) if path.is_file() and partial / SCRATCH not in path.parents]
    return Manifest(
        stage=work.name,
        fingerprint=work.fingerprint,
        config=msgspec.to_builtins(work.config),
        seed=context.seed,
        inputs={label: path.name for label, path in paths.items()},
        files=work.hashes,
        versions=versions(getattr(module, "LIBRARIES", ())),
        num_in=result.num_in,
        num_out=result.num_out,
        dropped=dict(sorted(result.dropped.items())),
        facts=result.facts,
        outputs={str(path.relative_to(partial)): digest for path, digest in zip(made, _hashes(made), strict=True)},
        seconds=round(time.monotonic() - started, 3),
    )


def _hashes(paths: Iterable[Path]) -> list[str]:
    """Hashes of files, read side by side (hashing leaves Python's lock)."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(sha256, paths))


def _content(folder: Path) -> str:
    """Hash of the names and bytes of all files in a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listing = "".join(f"{path.relative_to(folder)} {sha256(path)}\n" for path in files)
    return hashlib.sha256(listing.encode()).hexdigest()[:12]


@contextmanager
def lock(runs: Path) -> Iterator[None]:
    """Hold a run folder for one process. The kernel frees the lock when the process dies, however it dies."""
    try:
        runs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{runs}: no folder can be made there ({error.strerror}); give another place") from None
    with (runs / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{runs}: another medchatzh is working there; wait for it, or give another --runs folder") from None
        yield


class Progress:
    """A progress bar on standard error: count, rate, time left. Plain lines, far apart, where that is no terminal."""

    def __init__(self, label: str, total: int | None, unit: str, initial: int = 0) -> None:
        from tqdm import tqdm

        terminal = sys.stderr.isatty()
        self._bar = tqdm(
            desc=f"{label:<12}",
            total=total,
            unit=" " + unit,
            initial=initial,
            unit_scale=True,
            mininterval=0.2 if terminal else 15,
            ascii=None if terminal else " .:#",
            leave=True,
            dynamic_ncols=terminal,
            disable=int(os.environ.get("RANK", "0")) > 0,  # of torchrun's processes the first one tells
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """The same items, each counted as it is taken."""
        for item in items:
            self.add()
            yield item

    def expect(self, total: int) -> None:
        """Another total, by what is known now."""
        self._bar.total = total

    def add(self, count: int = 1, **shown: Any) -> None:
        """Advance by `count`; `shown` (a loss, say) stands behind the bar."""
        if shown:
            self._bar.set_postfix(shown, refresh=False)
        self._bar.update(count)
