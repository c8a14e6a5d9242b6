"""Weights of a checkpoint folder, one tensor at a time: a model larger than memory can be changed on its way from one folder to another.

Read are the layouts in which models are published: safetensors and PyTorch's `.bin`, in one file or in shards with an index. Every tensor
is mapped, copied and let go, because the pages of a map count as memory while it is open; opening a shard anew costs milliseconds.
"""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from medchatzh import models
from medchatzh.run import PARTIAL

if TYPE_CHECKING:
    import torch

SHARD_BYTES = 1 << 30
"""Size of the shards that are written, and so about what is needed in memory: LLaMA-13B's largest tensor has 0.4 GB, in fp16."""

_POINTER = b"version https://git-lfs"


class Weights:
    """The tensors of a folder by name. ValueError where the folder holds none, or a shard is missing or damaged."""

    def __init__(self, folder: Path, stems: Sequence[str] = ("model", "pytorch_model")) -> None:
        """`stems`: the names of the safetensors and of the PyTorch file, in the order in which they are tried."""
        self.folder = folder
        names = [f"{stem}{suffix}" for stem in stems for suffix in (".safetensors", ".bin")]
        for name in names:
            whole, index = folder / name, folder / f"{name}.index.json"
            if whole.is_file():
                self._files = dict.fromkeys(self._read_names(whole), whole)
                return
            if index.is_file():
                self._files = {key: folder / file for key, file in _weight_map(index).items()}
                for file in sorted(set(self._files.values())):
                    if not file.is_file():
                        raise ValueError(f"{file}: no such file, but {index.name} names it; download the checkpoint again")
                return
        raise ValueError(f"{folder}: no weights there; expected one of {', '.join(names)}, or an index of their shards")

    @property
    def names(self) -> list[str]:
        """Of all tensors, in the order of the index or of the file."""
        return list(self._files)

    @property
    def largest_file_bytes(self) -> int:
        """Size of the largest shard, or of the one file."""
        return max(file.stat().st_size for file in set(self._files.values()))

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def read(self, name: str) -> torch.Tensor:
        """The tensor as it is stored, in memory of its own."""
        file = self._files[name]
        try:
            if file.suffix == ".bin":
                return _map_bin(file)[name].clone()
            from safetensors import safe_open

            with safe_open(file, "pt") as opened:
                return opened.get_tensor(name).clone()
        except Exception as error:  # SafetensorError, UnpicklingError, RuntimeError, KeyError: whatever is wrong, it is this file
            raise ValueError(f"{file}: {name} cannot be read: {_reason(error, file)}") from None

    def _read_names(self, file: Path) -> list[str]:
        try:
            if file.suffix == ".bin":
                return list(_map_bin(file))
            from safetensors import safe_open

            with safe_open(file, "pt") as opened:
                return list(opened.keys())
        except Exception as error:
            raise ValueError(f"{file}: no weights that can be read: {_reason(error, file)}") from None


def _reason(error: Exception, file: Path) -> str:
    with file.open("rb") as opened:
        if opened.read(len(_POINTER)) == _POINTER:
            return "it is Git LFS's pointer to them; fetch the file itself (git lfs pull)"
    if isinstance(error, pickle.UnpicklingError):  # PyTorch's own words advise to load it without the check
        return "it holds more than tensors, perhaps code, and none is run"
    return f"cut off or damaged, download it again ({error})"


def _map_bin(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a PyTorch file, on disk until they are touched. No code in the file is run (`weights_only`)."""
    import torch

    return torch.load(file, map_location="cpu", mmap=True, weights_only=True)


def _weight_map(index: Path) -> dict[str, str]:
    class Index(msgspec.Struct):
        weight_map: dict[str, str]

    try:
        files = msgspec.json.decode(index.read_bytes(), type=Index).weight_map
    except msgspec.DecodeError as error:
        raise ValueError(f"{index}: not an index of shards: {error}") from None
    for file in set(files.values()):
        if Path(file).name != file:
            raise ValueError(f"{index}: {file!r} lies outside of the folder")
    return files


def write(folder: Path, tensors: Iterable[tuple[str, torch.Tensor]], shard_bytes: int = SHARD_BYTES) -> None:
    """Write tensors as `model.safetensors`, or as shards of at most `shard_bytes` (or one tensor) and their index.

    At most a shard and one tensor more are in memory.
    """
    shards: list[list[str]] = []
    total = 0
    for names, shard, size in _shards(tensors, shard_bytes):
        _save(folder / f"{len(shards)}{PARTIAL}", shard)
        shards.append(names)
        total += size
    files = (
        ["model.safetensors"] if len(shards) == 1 else [f"model-{n:05}-of-{len(shards):05}.safetensors" for n in range(1, len(shards) + 1)]
    )
    for number, file in enumerate(files):
        (folder / f"{number}{PARTIAL}").rename(folder / file)
    if len(shards) > 1:
        places = {name: file for names, file in zip(shards, files, strict=True) for name in names}
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_bytes(msgspec.json.format(msgspec.json.encode(index), indent=2) + b"\n")


def _shards(tensors: Iterable[tuple[str, torch.Tensor]], shard_bytes: int) -> Iterator[tuple[list[str], dict[str, torch.Tensor], int]]:
    """(names, tensors, bytes) of each shard. The caller must let go of a shard before it asks for the next."""
    shard: dict[str, torch.Tensor] = {}
    size = 0
    for name, tensor in tensors:
        if shard and size + tensor.nbytes > shard_bytes:
            yield list(shard), shard, size
            shard.clear()
            size = 0
        shard[name] = tensor.contiguous()
        size += tensor.nbytes
    yield list(shard), shard, size


def _save(file: Path, shard: dict[str, torch.Tensor]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(shard, file, metadata={"format": "pt"})
    except SafetensorError as error:
        raise ValueError(f"{file.parent}: cannot be written ({error}); free some space, or give another folder") from None


@contextmanager
def aside(out: Path) -> Iterator[Path]:
    """A folder to write a checkpoint in, which becomes `out` when all is written. What a killed run has left is begun anew.

    After an error nothing is left: half a checkpoint on a full disk helps nobody. ValueError where `out` exists: a checkpoint is not
    overwritten.
    """
    if out.exists():
        raise ValueError(f"{out}: exists already; give another folder, or remove it")
    partial = out.with_name(out.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise ValueError(f"{out}: cannot be made there ({error.strerror}); give another folder") from None
    try:
        yield partial
        models.share(partial)
    except Exception:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    partial.rename(out)


def copy_rest(source: Path, target: Path) -> None:
    """Copy configuration and tokenizer: what is neither weights nor code, nor there already."""
    for file in sorted(source.iterdir()):
        is_text = file.suffix in (".json", ".model", ".txt", ".jinja") and not file.name.endswith(".index.json")
        if file.is_file() and is_text and not (target / file.name).exists():
            shutil.copyfile(file, target / file.name)
