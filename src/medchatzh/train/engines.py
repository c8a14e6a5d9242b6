"""How a model is spread over the processes: whole in each (DDP), sharded by FSDP2, or by DeepSpeed's ZeRO.

An engine has the model take gradients and steps, and keeps and finds its own state. What is asked of the model is a module of its own
around it (`Objective`), because all three see to what they spread when its `forward` is called, and only then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch

from medchatzh import models
from medchatzh.models.packing import Batch
from medchatzh.train.optimization import Optimization
from medchatzh.train.processes import Processes

Loss = Callable[[models.Model, Batch], torch.Tensor]
"""(model, micro batch) → the *sum* of the loss over what the micro batch supervises, a scalar."""


class Objective(torch.nn.Module):
    """A model and what is asked of it: a micro batch → the sum of its loss."""

    def __init__(self, model: models.Model, loss: Loss) -> None:
        super().__init__()
        self.model = model
        self._loss = loss

    def forward(self, batch: Batch) -> torch.Tensor:
        return self._loss(self.model, batch)

    def trained(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """The parameters that learn, by the model's own names for them."""
        return ((name, parameter) for name, parameter in self.model.named_parameters() if parameter.requires_grad)


class Engine(Protocol):
    """What the loop needs of a spread model."""

    def backward(self, batch: Batch, scale: float, *, last: bool) -> torch.Tensor:
        """Add the gradient of a micro batch's loss × scale; returns that product, detached. `last` of a step: gradients are shared out."""
        ...

    def step(self, learning_rate: float) -> float:
        """Clip, update, forget the gradients; returns their norm before clipping."""
        ...

    def save(self, folder: Path) -> None:
        """Write this process's part of the state; all processes do."""
        ...

    def load(self, folder: Path) -> None:
        """Go on from a state."""
        ...

    def weights(self) -> dict[str, torch.Tensor]:
        """What has been learnt, whole, in fp32 on the CPU: in the first process, nothing in the others."""
        ...


def engine(model: models.Model, loss: Loss, config: Optimization, processes: Processes) -> Engine:
    """The engine that `config.sharding` names. ValueError where what it needs is not here."""
    objective = Objective(model, loss)
    if config.sharding == "none":
        return Local(objective, config, processes)
    return Sharded(objective, config, processes) if config.sharding == "fsdp2" else DeepSpeed(objective, config, processes)


def _optimizer(objective: Objective, config: Optimization) -> torch.optim.AdamW:
    """AdamW; matrices decay, norms and biases do not."""
    parameters = [parameter for _, parameter in objective.trained()]
    groups = [
        {"params": [parameter for parameter in parameters if parameter.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [parameter for parameter in parameters if parameter.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.learning_rate, betas=config.betas, fused=True)


def _set_rate(optimizer: Any, learning_rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


class Local:
    """The whole model in each process; gradients are averaged between them."""

    def __init__(self, objective: Objective, config: Optimization, processes: Processes) -> None:
        device = models.device()
        self._objective = objective.to(device)
        self._config, self._processes = config, processes
        self._called: torch.nn.Module = self._objective
        if processes.size > 1:
            ids = [device.index] if device.index is not None else None
            self._called = torch.nn.parallel.DistributedDataParallel(self._objective, device_ids=ids, gradient_as_bucket_view=True)
        self._optimizer = _optimizer(objective, config)
        self._scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")

    def backward(self, batch: Batch, scale: float, *, last: bool) -> torch.Tensor:
        alone = self._called is self._objective
        with nullcontext() if last or alone else self._called.no_sync():  # type: ignore[operator]
            with models.autocast(self._config.precision):
                loss = self._called(batch) * scale
            self._scaler.scale(loss * self._processes.size).backward()  # DDP averages, the loss is a sum
        return loss.detach()

    def step(self, learning_rate: float) -> float:
        _set_rate(self._optimizer, learning_rate)
        self._scaler.unscale_(self._optimizer)
        norm = torch.nn.utils.clip_grad_norm_([parameter for _, parameter in self._objective.trained()], self._config.max_grad_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad()
        return float(norm)

    def save(self, folder: Path) -> None:
        from safetensors.torch import save_file

        if not self._processes.is_first:
            return
        tensors = {f"model.{name}": parameter.detach() for name, parameter in self._objective.trained()}
        for name, parameter in self._objective.trained():
            tensors |= {f"{key}.{name}": value for key, value in self._optimizer.state[parameter].items()}
        tensors |= {f"scaler.{key}": torch.tensor(value) for key, value in self._scaler.state_dict().items()}
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "state.safetensors")

    def load(self, folder: Path) -> None:
        from safetensors.torch import load_file

        tensors = load_file(folder / "state.safetensors", device=str(models.device()))
        with torch.no_grad():
            for name, parameter in self._objective.trained():
                parameter.copy_(tensors[f"model.{name}"])
                state = {key: tensors[f"{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq") if f"{key}.{name}" in tensors}
                self._optimizer.state[parameter] = state
        scaler = {key.removeprefix("scaler."): value.item() for key, value in tensors.items() if key.startswith("scaler.")}
        if scaler:
            self._scaler.load_state_dict(scaler)

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: parameter.detach().cpu() for name, parameter in self._objective.trained()} if self._processes.is_first else {}


class Sharded:
    """FSDP2: weights, gradients and optimizer states in shards; a layer's weights are gathered, in 16 bits where the arithmetic is, for
    its turn."""

    def __init__(self, objective: Objective, config: Optimization, processes: Processes) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        device = models.device()
        self._objective = objective.to(device)
        self._config, self._processes = config, processes
        mesh = init_device_mesh(device.type, (processes.size,))
        half = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        options: dict[str, Any] = {"mesh": mesh} | ({"mp_policy": half} if models.is_bf16(config.precision) else {})
        for layer in _layers(objective.model):
            fully_shard(layer, **options)
        fully_shard(objective, **options)
        self._optimizer = _optimizer(objective, config)

    def backward(self, batch: Batch, scale: float, *, last: bool) -> torch.Tensor:
        with models.autocast(self._config.precision):
            loss = self._objective(batch) * scale
        (loss * self._processes.size).backward()
        return loss.detach()

    def step(self, learning_rate: float) -> float:
        _set_rate(self._optimizer, learning_rate)
        norm = torch.nn.utils.clip_grad_norm_([parameter for _, parameter in self._objective.trained()], self._config.max_grad_norm)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)

    def _state(self) -> dict[str, Any]:
        from torch.distributed.checkpoint.state_dict import get_state_dict

        model, optimizer = get_state_dict(self._objective, self._optimizer)
        return {"model": model, "optimizer": optimizer}

    def save(self, folder: Path) -> None:
        from torch.distributed import checkpoint

        checkpoint.save(self._state(), checkpoint_id=folder / "sharded")

    def load(self, folder: Path) -> None:
        from torch.distributed import checkpoint
        from torch.distributed.checkpoint.state_dict import set_state_dict

        state = self._state()
        checkpoint.load(state, checkpoint_id=folder / "sharded")
        set_state_dict(self._objective, self._optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])

    def weights(self) -> dict[str, torch.Tensor]:
        found = {}
        for name, parameter in self._objective.trained():  # one at a time: whole tensors of all would be the whole model in each process
            whole = parameter.detach().full_tensor()  # type: ignore[attr-defined]
            if self._processes.is_first:
                found[name] = whole.float().cpu()
        return found


class DeepSpeed:
    """ZeRO: optimizer states and gradients in shards (stage 2, the paper's), weights too (stage 3); 16-bit weights with fp32 masters."""

    def __init__(self, objective: Objective, config: Optimization, processes: Processes) -> None:
        import deepspeed

        self._processes = processes
        kind = "fp16" if config.precision == "fp16" else "bf16" if models.is_bf16(config.precision) else ""
        settings: dict[str, Any] = {
            "train_micro_batch_size_per_gpu": config.rows,
            "gradient_accumulation_steps": 1,  # the loop says which micro batch is a step's last
            "gradient_clipping": config.max_grad_norm,
            "zero_optimization": {"stage": int(config.sharding[-1])},
            "zero_allow_untested_optimizer": True,
            "steps_per_print": 1 << 62,
        } | ({kind: {"enabled": True}} if kind else {})
        self._objective = objective.to(models.device())
        self._engine, *_ = deepspeed.initialize(
            model=objective, optimizer=_optimizer(objective, config), config=settings, dist_init_required=False
        )

    def backward(self, batch: Batch, scale: float, *, last: bool) -> torch.Tensor:
        self._engine.set_gradient_accumulation_boundary(last)
        loss = self._engine(batch) * scale
        self._engine.backward(loss * self._processes.size)
        return loss.detach()

    def step(self, learning_rate: float) -> float:
        _set_rate(self._engine.optimizer, learning_rate)
        self._engine.step()
        return float(self._engine.get_global_grad_norm() or 0.0)

    def save(self, folder: Path) -> None:
        self._engine.save_checkpoint(folder, tag="deepspeed", exclude_frozen_parameters=True)

    def load(self, folder: Path) -> None:
        found, _ = self._engine.load_checkpoint(folder, tag="deepspeed", load_module_strict=False)
        if found is None:
            raise ValueError(f"{folder}: no DeepSpeed state there; delete the folder to train from the start")

    def weights(self) -> dict[str, torch.Tensor]:
        from deepspeed.utils import safe_get_full_fp32_param

        found = {}
        for name, parameter in self._objective.trained():
            whole = safe_get_full_fp32_param(parameter)
            if self._processes.is_first:
                found[name] = (parameter if whole is None else whole).detach().float().cpu()
        return found


def _layers(model: models.Model) -> list[torch.nn.Module]:
    """What transformers says must not be split: the decoder's layers."""
    kinds = set(model._no_split_modules or ())
    return [module for module in model.modules() if type(module).__name__ in kinds]
