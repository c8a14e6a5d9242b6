"""What a forward pass keeps for the backward pass, counted from autograd itself: the model runs on tensors that have shapes and no memory.

So whatever transformers' class of this version saves is counted, in the precisions that autocast would give, for any architecture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from medchatzh.models import attention

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig

_FLASH = "nothing_but_shapes"


class Kept(NamedTuple):
    """Bytes that are kept from forward to backward pass."""

    layer: float
    """A layer."""
    rest: float
    """Embeddings, rotation, final norm and mask."""
    between: float
    """What passes from a layer to the next: all that gradient checkpointing keeps of a layer."""


def kept(config: PreTrainedConfig, spans: attention.Spans, shape: tuple[int, int], *, kind: str, sixteen: str) -> Kept:
    """For a micro batch of [rows, tokens] = `shape`, whose examples are `spans`.

    `kind`: packed (example by example, probabilities kept as `models/attention.py` does), flash, or sdpa (a mask). `sixteen`: "" for fp32,
    "autocast" for fp32 weights under autocast, "pure" for 16-bit weights, where all that lies between layers has 16 bits too.
    """
    one, two = (_run(config, layers, spans, shape, kind, sixteen) for layers in (1, 2))
    layer = two - one
    between = shape[0] * shape[1] * config.get_text_config().hidden_size * (2 if sixteen == "pure" else 4)
    return Kept(layer, one - layer, between)


def _run(config: PreTrainedConfig, num_layers: int, spans: attention.Spans, shape: tuple[int, int], kind: str, sixteen: str) -> int:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from transformers import AutoModel

    table = {key: value for key, value in config.to_dict().items() if key not in ("layer_types", "dtype", "torch_dtype")}
    small = type(config).from_dict(table | {"num_hidden_layers": num_layers})
    found: dict[int, tuple[int, Any]] = {}
    _register()
    with FakeTensorMode():
        model = AutoModel.from_config(small, attn_implementation={"packed": attention.NAME, "flash": _FLASH}.get(kind, "sdpa"))
        for module in model.modules():
            if sixteen == "pure" or (sixteen and isinstance(module, torch.nn.Linear)):
                _to_half(module)  # under autocast too: its copies of the weights are counted with the weights
        own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                found[storage._cdata] = storage.nbytes(), tensor  # held, else its place may be taken by another's
            return tensor

        more = {} if kind == "sdpa" else {"spans": spans}
        half = torch.autocast("cpu", torch.bfloat16, enabled=sixteen == "autocast")
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), half:
            model(input_ids=torch.zeros(shape, dtype=torch.long), use_cache=False, **more)
        total = sum(size for size, _ in found.values())
        found.clear()
    return total


def _to_half(module: torch.nn.Module) -> None:
    import torch

    for name, parameter in list(module.named_parameters(recurse=False)):
        setattr(module, name, torch.nn.Parameter(torch.empty_like(parameter, dtype=torch.bfloat16)))


def _register() -> None:
    """An attention with FlashAttention's appetite: query, key, value, result and a number a query and head are kept."""
    import torch
    from transformers import AttentionInterface

    if _FLASH in AttentionInterface():
        return

    class Flash(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            out = torch.empty_like(query)
            ctx.save_for_backward(query, key, value, out, query.new_empty(query.shape[:3], dtype=torch.float32))
            return out

        @staticmethod
        def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
            raise NotImplementedError

    def attend(module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, None]:
        return Flash.apply(query.to(value.dtype), key.to(value.dtype), value).transpose(1, 2), None

    AttentionInterface.register(_FLASH, attend)
