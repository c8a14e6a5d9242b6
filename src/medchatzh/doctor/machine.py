"""The machine: what there is, looked at once, and whether it will do."""

from __future__ import annotations

import ctypes
import locale
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from medchatzh.doctor.finding import Seen, check

if TYPE_CHECKING:
    from medchatzh.doctor.subject import Subject

GB = 1e9
_WATCHED = ("accelerate", "bitsandbytes", "deepspeed", "flash-attn", "liger-kernel", "peft", "tokenizers", "torch", "transformers")
"""Packages whose own demands are compared with what is installed: the ones that release fast and break each other."""


class Gpu(msgspec.Struct, frozen=True):
    """One CUDA device."""

    name: str
    memory_bytes: int
    has_bf16: bool


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What the checks know of a machine; `look` fills it in."""

    platform: str = "linux"
    python: str = "3.11"
    versions: dict[str, str] = {}
    """Distribution (its name in lower case, with dashes) → version."""
    requirements: dict[str, tuple[str, ...]] = {}
    """Distribution → what it demands, as its metadata says. Ours is among them."""
    torch_error: str = ""
    """Why torch cannot be imported, where it is installed."""
    torch_cuda: str = ""
    """The CUDA version that torch was built with; '' for a CPU build."""
    driver_cuda: str = ""
    """The newest CUDA version that the driver runs; '' where there is no driver."""
    gpus: tuple[Gpu, ...] = ()
    """Those that torch can use."""
    backends: tuple[str, ...] = ()
    """What processes can talk through: gloo, nccl."""
    has_cpu_bf16: bool = False
    cores: int = 1
    usable_cores: float = 1.0
    """What a container or an affinity mask leaves of them."""
    memory_bytes: int = 0
    """Of the machine, or of the container where that is less."""
    free_memory_bytes: int = 0
    shared_memory_bytes: int = 0
    """Size of /dev/shm, through which NCCL's processes on one machine talk."""
    encoding: str = "utf-8"
    """What Python writes text files and the terminal in, where nothing else is said."""
    is_offline: bool = False
    """HF_HUB_OFFLINE is set."""
    num_processes: int = 0
    """WORLD_SIZE of torchrun; 0 where this is no process of it."""

    def world(self, devices: int) -> int:
        """Processes that would train together here under a recipe for so many devices."""
        return self.num_processes or max(1, min(devices, len(self.gpus)))

    def has(self, package: str) -> bool:
        return package in self.versions


def look() -> Machine:
    """This machine. Imports torch (1.3 s), where it is installed; asks nothing of the network."""
    versions = {_canonical(name): one.version for one in metadata.distributions() if (name := one.metadata["Name"])}
    requirements = {name: tuple(metadata.requires(name) or ()) for name in ("medchatzh", *_WATCHED) if name in versions}
    memory, free = _memory()
    shared = Path("/dev/shm")
    return Machine(
        platform=sys.platform,
        python=platform.python_version(),
        versions=versions,
        requirements=requirements,
        driver_cuda=_driver(),
        cores=os.cpu_count() or 1,
        usable_cores=_usable_cores(),
        memory_bytes=memory,
        free_memory_bytes=free,
        shared_memory_bytes=_size(shared) if shared.is_dir() else 0,
        encoding=locale.getencoding() if not sys.flags.utf8_mode else "utf-8",
        is_offline=os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"),
        num_processes=int(os.environ.get("WORLD_SIZE", "0")),
        **(_torch() if "torch" in versions else {}),
    )


def _torch() -> dict[str, Any]:
    try:
        import torch
        import torch.distributed as dist
    except Exception as error:  # OSError for a CUDA library that is missing, ImportError for a numpy of another age
        return {"torch_error": f"{type(error).__name__}: {error}"}
    backends = [name for name in ("gloo", "nccl") if dist.is_available() and getattr(dist, f"is_{name}_available")()]
    gpus = []
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        found = torch.cuda.get_device_properties(number)
        gpus.append(Gpu(found.name, found.total_memory, found.major >= 8))
    cpu_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return {"torch_cuda": torch.version.cuda or "", "gpus": tuple(gpus), "backends": tuple(backends), "has_cpu_bf16": cpu_bf16}


def _driver() -> str:
    try:
        version = ctypes.c_int()
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return ""
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def _memory() -> tuple[int, int]:
    """(bytes, free bytes) of memory, of the machine or of the container."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # macOS; Windows tells neither
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
        return total, total
    kilobytes = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}
    total, free = 1024 * kilobytes["MemTotal"], 1024 * kilobytes["MemAvailable"]
    limit = _number("/sys/fs/cgroup/memory.max") or _number("/sys/fs/cgroup/memory/memory.limit_in_bytes")
    if limit and limit < total:
        used = _number("/sys/fs/cgroup/memory.current") or _number("/sys/fs/cgroup/memory/memory.usage_in_bytes")
        return limit, max(0, min(free, limit - used))
    return total, free


def _usable_cores() -> float:
    cores = float(len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else float(os.cpu_count() or 1)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        quota, period = str(_number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") or "max"), "100000"
    return min(cores, int(quota) / int(period)) if quota.isdecimal() else cores


def _number(path: str) -> int:
    """0 where there is no such file, or no number in it ("max", -1)."""
    try:
        text = Path(path).read_text().strip()
    except OSError:
        return 0
    return int(text) if text.isdecimal() else 0


def _size(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_frsize * status.f_blocks


def _canonical(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


@check("原生 Windows 不能运行", "请在 WSL2 中运行")
def operating_system(subject: Subject) -> Iterator[Seen]:
    """Native Windows, where run folders cannot be locked."""
    if subject.machine.platform == "win32":
        yield "error", "operating system", "run folders need POSIX locks, which Windows has not", "work in WSL2, or in a Linux container"


@check("训练所需的软件包缺失或版本不符", "按提示安装：pip install 'medchatzh[train]'")
def packages(subject: Subject) -> Iterator[Seen]:
    """A package that training needs is missing, or outside of the bounds that this toolkit states; Python too."""
    from packaging.requirements import Requirement
    from packaging.version import Version

    machine = subject.machine
    if Version(machine.python) < Version("3.11"):
        yield "error", "python", f"Python {machine.python}; 3.11 or newer is needed", "make an environment with Python 3.11 or newer"
    for text in machine.requirements.get("medchatzh", ()):
        wanted = Requirement(text)
        if wanted.marker and not wanted.marker.evaluate({"extra": "train"}):
            continue
        name = _canonical(wanted.name)
        remedy = f"pip install 'medchatzh[train]' (or '{wanted.name}{wanted.specifier}')"
        if name not in machine.versions:
            yield "error", name, f"is not installed; {wanted.specifier} is needed", remedy
        elif not wanted.specifier.contains(machine.versions[name], prereleases=True):
            yield "error", name, f"{machine.versions[name]} is installed; {wanted.specifier} is needed", remedy


@check("软件包之间版本冲突", "按提示升级或降级其中之一")
def package_conflicts(subject: Subject) -> Iterator[Seen]:
    """Packages that release fast (torch, transformers, peft …) demand other versions of each other than are installed."""
    from packaging.requirements import Requirement

    machine = subject.machine
    for package in _WATCHED:
        for text in machine.requirements.get(package, ()):
            wanted = Requirement(text)
            other = _canonical(wanted.name)
            if other not in machine.versions or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
                continue
            if not wanted.specifier.contains(machine.versions[other], prereleases=True):
                what = f"{package} {machine.versions[package]} wants {other}{wanted.specifier}, but {machine.versions[other]} is installed"
                yield "warning", package, what, f"pip install '{other}{wanted.specifier}', or another {package}"


@check("torch 无法导入", "重新安装与本机匹配的 torch")
def broken_torch(subject: Subject) -> Iterator[Seen]:
    """torch is installed and cannot be imported."""
    if subject.machine.torch_error:
        yield "error", "torch", subject.machine.torch_error, "install torch again, as pytorch.org says for this machine"


@check("有显卡驱动而 torch 用不上显卡", "安装与驱动匹配的 CUDA 版 torch，或升级驱动")
def cuda_driver(subject: Subject) -> Iterator[Seen]:
    """There is an NVIDIA driver, but torch is a CPU build, or one for a newer CUDA than the driver runs."""
    machine = subject.machine
    if not machine.driver_cuda or machine.gpus or "torch" not in machine.versions or machine.torch_error:
        return
    if not machine.torch_cuda:
        what, remedy = "a build for CPUs, beside a driver", f"install a CUDA build of torch, for CUDA {machine.driver_cuda} or older"
    elif _numbers(machine.torch_cuda) > _numbers(machine.driver_cuda):
        what = f"built with CUDA {machine.torch_cuda}, and the driver runs {machine.driver_cuda} at most"
        remedy = f"update the driver, or install torch for CUDA {machine.driver_cuda}"
    else:
        what, remedy = "sees no GPU, beside a driver", "look at nvidia-smi and CUDA_VISIBLE_DEVICES"
    yield "warning", f"torch {machine.versions['torch']}", what + ": training would take the CPU", remedy


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


@check("容器可用的核少于线程数", "用 --threads 和 --workers 指定可用的核数")
def cores(subject: Subject) -> Iterator[Seen]:
    """A container or an affinity mask leaves far fewer cores than the machine shows: as many threads as it shows fight for them."""
    machine = subject.machine
    if machine.usable_cores * 1.5 <= machine.cores:
        whole = max(1, int(machine.usable_cores))
        what = f"{machine.usable_cores:g} of {machine.cores} cores may be used here, and by default there is a thread a core"
        yield "warning", "cores", what, f"give --threads {whole} --workers {whole}"


@check("内存太小", "换内存更大的机器，或关闭其他程序")
def little_memory(subject: Subject) -> Iterator[Seen]:
    """Less memory than the quickstart needs (4 GB); or hardly any of it free."""
    machine = subject.machine
    if not machine.memory_bytes:
        return
    if machine.memory_bytes < 3.5 * GB:
        yield "warning", "memory", f"{machine.memory_bytes / GB:.1f} GB; even the quickstart wants 4", "take a larger machine"
    elif machine.free_memory_bytes < 1.5 * GB:
        what = f"{machine.free_memory_bytes / GB:.1f} of {machine.memory_bytes / GB:.0f} GB are free"
        yield "warning", "memory", what, "end other programs first"


@check("共享内存太小，多卡会卡死", "容器加 --shm-size=8g 或 --ipc=host")
def shared_memory(subject: Subject) -> Iterator[Seen]:
    """Several GPUs and a /dev/shm as small as Docker makes it: NCCL hangs or dies of a bus error."""
    machine = subject.machine
    if len(machine.gpus) > 1 and machine.shared_memory_bytes < GB:
        what = f"{machine.shared_memory_bytes / 1e6:.0f} MB, and {len(machine.gpus)} GPUs talk through it"
        yield "warning", "/dev/shm", what, "start the container with --shm-size=8g or --ipc=host"


@check("系统区域设置不是 UTF-8", "设置 PYTHONUTF8=1（或 LANG=C.UTF-8）")
def locale_encoding(subject: Subject) -> Iterator[Seen]:
    """Text is read and written in another encoding than UTF-8 where nothing else is said: names and terminals come out garbled."""
    found = subject.machine.encoding
    if found.lower().replace("-", "").replace("_", "") != "utf8":
        yield "warning", "locale", f"Python reads and writes text as {found} here", "set PYTHONUTF8=1, or LANG=C.UTF-8"


@check("运行目录不可写或磁盘将满", "换一个目录（--runs），或腾出空间")
def run_folder(subject: Subject) -> Iterator[Seen]:
    """The folder for runs cannot be written to, or the disk is as good as full."""
    import shutil
    import tempfile

    place = next(path for path in (subject.runs.absolute(), *subject.runs.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        yield "error", f"--runs {subject.runs}", f"{place}: {error.strerror or error}", "give another folder with --runs"
        return
    if (free := shutil.disk_usage(place).free) < GB:
        yield "warning", str(place), f"{free / GB:.2f} GB are free", "make room, or give another disk with --runs"


def summary(machine: Machine) -> str:
    """One line: what was looked at."""

    def version(name: str) -> str:
        return f"{name} {machine.versions.get(name, '—')}"

    gpus = ", ".join(f"{gpu.name} {gpu.memory_bytes / GB:.0f} GB" for gpu in machine.gpus) or "no GPU"
    bf16 = any(gpu.has_bf16 for gpu in machine.gpus) or (machine.has_cpu_bf16 and not machine.gpus)
    parts = [f"Python {machine.python}", *map(version, ("torch", "transformers", "sentencepiece", "protobuf"))]
    parts += [gpus, f"bf16 {'yes' if bf16 else 'no'}", f"{machine.usable_cores:g} cores", f"{machine.memory_bytes / GB:.1f} GB"]
    parts += ["/".join(machine.backends) or "no torch.distributed", f"HF offline {'yes' if machine.is_offline else 'no'}"]
    return " · ".join(parts)


def install(machine: Machine, wanted: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(package, how to install it) of those that are missing. `wanted`: package → what pip is given."""
    for package, given in wanted.items():
        if not machine.has(package):
            yield package, f"pip install {given}"
