"""What a training run shows while it runs, and what it keeps: progress, metrics a step, and the reason where it stops."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from medchatzh.run import SCRATCH, Progress, write_atomically
from medchatzh.train.optimization import Optimization
from medchatzh.train.processes import Processes

STOPPED = "stopped.json"
_WINDOW = 20
"""Steps that a mean is taken over before it is compared: one batch alone may be hard."""


class Watch:
    """Of one stage's steps. Only the first process shows and writes."""

    def __init__(
        self, label: str, config: Optimization, num_steps: int, log: list[dict[str, Any]], out: Path, processes: Processes
    ) -> None:
        self._label, self._config, self._out, self._processes = label, config, out, processes
        self.log = log
        self._recent: deque[float] = deque(maxlen=_WINDOW)
        self._first, self._best = 0.0, math.inf
        for entry in log:
            self._recall(entry["loss"])
        self._since = time.perf_counter()
        self._started, self._done, self._tokens, self._positions = self._since, len(log), 0, 0
        self._progress = Progress(label, total=num_steps, unit="steps", initial=len(log)) if processes.is_first else None
        self._board = _board(out, len(log)) if config.tensorboard and processes.is_first else None

    def add(self, loss: float, norm: float, rate: float, tokens: int, targets: float, positions: int) -> None:
        """A step is done. `tokens` of examples, `targets` that count (tokens, rankings), `positions` computed, padding included."""
        entry = {"step": len(self.log) + 1, "loss": round(loss, 6), "learning_rate": rate, "grad_norm": round(norm, 5), "tokens": tokens}
        self.log.append(entry | {"targets": round(targets)})
        if not self._processes.is_first:
            return
        self._tokens, self._positions = self._tokens + tokens, self._positions + positions
        now = time.perf_counter()
        speed = tokens / (now - self._since)
        self._since = now
        assert self._progress
        useful = self._tokens / (now - self._started)
        shown: dict[str, Any] = {"loss": f"{loss:.3f}", "tok/s": f"{self._positions / (now - self._started):,.0f}"}
        if self._positions > 1.01 * self._tokens:
            shown["useful"] = f"{useful:,.0f}"
        self._progress.add(**shown)
        if self._board:
            for name in ("loss", "learning_rate", "grad_norm"):
                self._board.add_scalar(f"{self._label}/{name}", entry[name], entry["step"])
            self._board.add_scalar(f"{self._label}/useful_tokens_a_second", speed, entry["step"])

    def check(self, loss: float, norm: float, rate: float, names: Callable[[], list[str]]) -> None:
        """ValueError where the loss or the gradient is no number, or training has come apart; the records of the step are kept in
        `stopped.json`.

        Apart: the mean loss of the last 20 steps is half as high again as the best such mean, and above that of the first 20 steps. (In
        fp16 a gradient that is no number is usual now and then: the step is skipped and the scale lowered.)
        """
        mean = self._recall(loss)
        wrong = ""
        if not math.isfinite(loss):
            wrong = f"the loss is {loss}"
        elif not math.isfinite(norm) and self._config.precision != "fp16":
            wrong = f"the gradient's norm is {norm}"
        elif mean > 1.5 * self._best and mean > self._first:
            wrong = f"training has come apart: the mean loss of the last {_WINDOW} steps is {mean:.3f}, after {self._best:.3f}"
        if not wrong:
            return
        step = len(self.log) + 1
        if self._processes.is_first:
            about = {"step": step, "reason": wrong, "learning_rate": rate, "loss": repr(loss), "grad_norm": repr(norm), "records": names()}
            write_atomically(self._out / SCRATCH / STOPPED, msgspec.json.format(msgspec.json.encode(about), indent=2) + b"\n")
        raise ValueError(
            f"{self._label}: {wrong} at step {step}; lower learning_rate (now {rate:g} at this step) or raise warmup."
            f" The records of the step are named in {self._out / SCRATCH / STOPPED}"
        )

    def _recall(self, loss: float) -> float:
        """The mean loss of the last 20 steps, with this one."""
        self._recent.append(loss)
        mean = math.fsum(self._recent) / len(self._recent)
        if len(self._recent) == _WINDOW:
            self._first, self._best = self._first or mean, min(self._best, mean)
        return mean

    def close(self) -> dict[str, Any]:
        """Figures for the manifest."""
        if self._progress:
            self._progress.__exit__()
        if self._board:
            self._board.close()
        seconds = self._since - self._started
        facts: dict[str, Any] = {"num_steps": len(self.log), "num_tokens": sum(entry["tokens"] for entry in self.log)}
        if self._tokens:
            facts |= {"tokens_a_second": round(self._positions / seconds), "useful_tokens_a_second": round(self._tokens / seconds)}
        if self.log:
            last = self.log[-_WINDOW:]
            facts |= {"loss_first": self.log[0]["loss"], "loss_last": round(sum(entry["loss"] for entry in last) / len(last), 4)}
        return facts


def _board(out: Path, done: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError("tensorboard = true needs tensorboard: pip install 'medchatzh[watch]'") from None
    return SummaryWriter(out / "tensorboard", purge_step=done + 1)
