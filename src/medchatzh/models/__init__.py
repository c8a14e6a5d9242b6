"""Checkpoint folders: what transformers reads anywhere, plus `prompt.json`. Torch and transformers are imported when called."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from medchatzh import prompt
from medchatzh.recipe import Settings

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

Model: TypeAlias = Any
"""A transformers `PreTrainedModel`; Any, because its attributes are made at run time."""


class Architecture(Settings, frozen=True, kw_only=True):
    """Shape of a LLaMA model made from scratch."""

    hidden_size: int = 128
    num_layers: int = 4
    num_heads: int = 4
    intermediate_size: int = 352
    """Width of the gated MLP; 8/3 of `hidden_size` in LLaMA, rounded up to a multiple of 32."""
    max_positions: int = 2048
    tie_embeddings: bool = True
    """One matrix for input and output embeddings; at this size two would be most of the model. Baichuan-7B has two."""

    def __post_init__(self) -> None:
        if min(self.hidden_size, self.num_layers, self.num_heads, self.intermediate_size, self.max_positions) < 1:
            raise ValueError("hidden_size, num_layers, num_heads, intermediate_size and max_positions must be at least 1")
        if self.hidden_size % self.num_heads or (self.hidden_size // self.num_heads) % 2:
            raise ValueError(f"hidden_size {self.hidden_size} must be num_heads {self.num_heads} times an even head size")


def require_torch() -> None:
    """Raise ValueError with the remedy where the training extra is not installed; silence what transformers tells in passing."""
    try:
        import sentencepiece  # noqa: F401
        import torch
        from transformers.utils import logging
    except ImportError as error:
        raise ValueError(f"this stage needs {error.name}: pip install 'medchatzh[train]'") from None
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # transformers imports DeepSpeed, which warns where it has to find that out
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def device() -> torch.device:
    """This process's: a GPU where there is one (each process of torchrun has its own), else the CPU."""
    import torch

    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def set_threads(threads: int) -> None:
    """Pin the thread count: the same count gives the same sums, hence the same bytes on a resumed run."""
    import torch

    torch.set_num_threads(threads or os.cpu_count() or 1)


def is_bf16(precision: str) -> bool:
    """Whether `auto`, `bf16` or `fp32` means bf16 here: `auto` takes it where the processor has bf16 matrix instructions."""
    import torch

    if precision == "auto":
        return torch.cuda.is_bf16_supported() if device().type == "cuda" else torch.cpu._is_avx512_bf16_supported()
    return precision == "bf16"


def autocast(precision: str) -> torch.autocast:
    """bf16 arithmetic on fp32 weights where `is_bf16` (1.6 to 2 times faster)."""
    import torch

    return torch.autocast(device().type, dtype=torch.bfloat16, enabled=is_bf16(precision))


def load_tokenizer(folder: Path) -> tuple[PreTrainedTokenizerBase, prompt.Template]:
    """The tokenizer of a checkpoint and the prompt template it is used with. ValueError where the folder holds none."""
    require_torch()
    from transformers import AutoTokenizer

    if not folder.is_dir():
        raise ValueError(f"{folder}: no such checkpoint folder")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare Exception for a damaged file
        raise ValueError(f"{folder}: no tokenizer that transformers can load: {_why(error)}{_below(folder)}") from None
    if tokenizer.eos_token_id is None:
        raise ValueError(f"{folder}: the tokenizer has no EOS token; set eos_token in tokenizer_config.json")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # positions are masked by length here, never by id, so EOS is still learnt
    return tokenizer, prompt.load(folder)


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, template: prompt.Template, folder: Path) -> None:
    """Write the tokenizer with its chat template, for us (`prompt.json`) and for others (`chat_template`)."""
    tokenizer.chat_template = prompt.jinja(template)
    tokenizer.save_pretrained(folder)
    pieces = Path(tokenizer.name_or_path) / "tokenizer.model"  # llama.cpp's converter wants it; save_pretrained leaves it behind
    if pieces.is_file() and not (folder / pieces.name).exists():
        shutil.copyfile(pieces, folder / pieces.name)
    prompt.save(template, folder)


def new_causal(shape: Architecture, tokenizer: PreTrainedTokenizerBase, seed: int) -> Model:
    """A LLaMA with random weights for this tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=shape.hidden_size,
            num_hidden_layers=shape.num_layers,
            num_attention_heads=shape.num_heads,
            intermediate_size=shape.intermediate_size,
            max_position_embeddings=shape.max_positions,
            tie_word_embeddings=shape.tie_embeddings,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def load_causal(folder: Path, *, quantized: bool = False) -> Model:
    """A causal model in fp32, or with its matrices in 4 bits (QLoRA). ValueError where the folder holds none."""
    require_torch()
    from transformers import AutoModelForCausalLM

    if (folder / "config.json").is_file() and "ForSequenceClassification" in str(describe(folder).get("architectures")):
        raise ValueError(f"{folder}: a reward model, which gives scores and no text; take the checkpoint of sft or pretrain")
    return _load(AutoModelForCausalLM, folder, quantized)


def load_reward(folder: Path, seed: int = 0, *, quantized: bool = False) -> Model:
    """A reward model (one score). From a causal checkpoint, the score head starts from the seed."""
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(seed)
    return _load(AutoModelForSequenceClassification, folder, quantized, num_labels=1)


def _load(auto_class: Any, folder: Path, quantized: bool, **options: Any) -> Model:
    require_torch()
    import torch

    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder}: no checkpoint there (config.json is missing)")
    if quantized:
        options |= {"quantization_config": four_bits(), "device_map": {"": device()}}

        raise ValueError(f"{folder}: no checkpoint there (config.json is missing){_below(folder)}")
    try:
        return auto_class.from_pretrained(folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False, **options)
    except Exception as error:  # SafetensorError, RuntimeError (shapes), OSError, KeyError: whatever is wrong, it is this folder
        raise ValueError(f"{folder}: transformers cannot load it: {_why(error)}") from None


def four_bits() -> Any:
    """NF4 with double quantization and bf16 arithmetic, as QLoRA has it."""
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16
    )


def _below(folder: Path) -> str:
    """A stage's folder was given in place of the checkpoint in it."""
    inner = folder / "checkpoint"
    return f"; give {inner}, the checkpoint in that folder" if (inner / "config.json").is_file() else ""


def _why(error: Exception) -> str:
    """The first line of an error of transformers'."""
    if "trust_remote_code" in str(error):
        return "it comes with code of its own, which is never run; of Baichuan-7B `medchatzh convert` makes a folder that needs none"
    return next(iter(str(error).splitlines()), type(error).__name__)


def check_vocabulary(model: Model, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """ValueError where the tokenizer gives ids that the model has no embedding for."""
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise ValueError(
            f"{folder}: the tokenizer has {len(tokenizer)} pieces but the model {rows} embeddings;"
            f" set tokenizer.path to the tokenizer that belongs to the checkpoint"
        )


def save(model: Model, tokenizer: PreTrainedTokenizerBase, template: prompt.Template, folder: Path) -> None:
    """Write a checkpoint folder: config.json, model.safetensors, tokenizer, prompt.json. OSError where it cannot be written."""
    from safetensors import SafetensorError

    try:
        model.save_pretrained(folder)
    except SafetensorError as error:  # its own, for a full disk too
        raise OSError(f"{folder}: cannot be written ({error}); make room and give the same command again") from None
    save_tokenizer(tokenizer, template, folder)
    share(folder)


def share(folder: Path) -> None:
    """Let weights be read by whoever may read other new files: safetensors makes its own for their owner alone."""
    os.umask(masked := os.umask(0o077))
    for file in folder.glob("*.safetensors"):
        file.chmod(0o666 & ~masked)


def num_parameters(model: Model) -> int:
    """Trainable parameters, a tied matrix counted once."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def describe(folder: Path) -> dict[str, Any]:
    """What a checkpoint's config.json says, without loading weights."""
    return msgspec.json.decode((folder / "config.json").read_bytes())
