"""The processes that train together: one alone, or those that torchrun started. Gloo on CPUs, NCCL on GPUs."""

from __future__ import annotations

import atexit
import os
from typing import NamedTuple

from medchatzh import models


class Processes(NamedTuple):
    """Who takes part, and which of them this is."""

    rank: int
    size: int

    @property
    def is_first(self) -> bool:
        """The first process writes; the others only work."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all have come this far."""
        if self.size > 1:
            import torch.distributed

            torch.distributed.barrier()

    def total(self, value: float) -> float:
        """The sum of a number over the processes."""
        if self.size == 1:
            return value
        import torch
        import torch.distributed

        summed = torch.tensor(value, dtype=torch.float64, device=models.device())
        torch.distributed.all_reduce(summed)
        return float(summed)


def join(threads: int) -> Processes:
    """Meet the other processes, once; alone where torchrun started none. Sets the number of threads of this one (0: its share of the
    cores)."""
    import torch
    import torch.distributed

    size, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    models.set_threads(threads or max(1, (os.cpu_count() or 1) // local))
    if size == 1:
        return Processes(0, 1)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        # Else a process that ends while its threads still listen to the others is aborted now and then (gloo).
        atexit.register(torch.distributed.destroy_process_group)
    return Processes(torch.distributed.get_rank(), size)
