"""What the paper, its repository and their sources state: typed constants, each with its place and the words found there."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class Fact(msgspec.Struct, Generic[T], frozen=True, forbid_unknown_fields=True):
    """A stated value. Formats as the value does: `{paper.medical:,}`."""

    value: T
    at: str
    """Section of the paper, `file:line` of a repository, or an address."""
    says: str
    """Words of that place, by which a test finds that they stand there."""

    def __format__(self, specification: str) -> str:
        return format(self.value, specification)


class Setting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A choice without which a score cannot be computed again."""

    english: str
    chinese: str
    says: str = ""
    """The paper's words that settle it; '' where there are none."""
    absent: str = ""
    """A pattern that nothing in the paper's own text matches, where it is not settled."""


class Promise(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that the paper says was removed, and the step that removes it ('' where no step is described)."""

    english: str
    chinese: str
    step: str = ""


class Stage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stage that the paper describes, and the file of the repository that does it ('' where none does)."""

    english: str
    chinese: str
    file: str = ""


class Paper(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Statements with numbers or names in them. Tables 1 and 2 stand elsewhere (`metrics.published`, `benchmarks`)."""

    posted: Fact[str]
    mix_millions: Fact[int]
    medical: Fact[int]
    general: Fact[int]
    raw_medical: Fact[int]
    raw_general: Fact[int]
    num_domains: Fact[int]
    huatuo_questions: Fact[int]
    rankings: Fact[int]
    threshold: Fact[float]
    min_tokens: Fact[int]
    num_gpus: Fact[int]
    batch_size: Fact[int]
    learning_rate: Fact[float]
    weight_decay: Fact[float]
    context: Fact[int]
    base_context: Fact[int]
    base_billion: Fact[int]
    zero_stage: Fact[int]
    optimizer: Fact[str]
    filter_model: Fact[str]
    judge_model: Fact[str]
    gleu: Fact[str]
    toolkit: Fact[str]
    copied: Fact[list[str]]
    """Rows of table 1 that its authors took from another paper."""
    own: Fact[str]
    """The row of the authors' own model."""
    huatuo_billion: Fact[int]
    huatuo_data_section_2: Fact[str]
    huatuo_data_section_4: Fact[str]
    promises: Fact[list[Promise]]
    settings: Fact[list[Setting]]


class Repository(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """tyang816/MedChatZH at commit 94664b9."""

    raw_millions: Fact[int]
    medical_thousands: Fact[int]
    num_gpus: Fact[int]
    batch_size: Fact[int]
    accumulation: Fact[int]
    num_epochs: Fact[int]
    learning_rate: Fact[float]
    weight_decay: Fact[float]
    context: Fact[int]
    cut_from_context: Fact[int]
    """Tokens that the script's slice leaves out of the context."""
    lora: Fact[bool]
    optimizer: Fact[str]
    zero_stage: Fact[int]
    train_file: Fact[str]
    validation_file: Fact[str]
    initial_weights: Fact[str]
    vocab_size: Fact[int]
    hidden_size: Fact[int]
    intermediate_size: Fact[int]
    num_layers: Fact[int]
    max_positions: Fact[int]
    prompt_trained: Fact[str]
    prompt_dialogue: Fact[str]
    prompt_history: Fact[str]
    appends_question: Fact[bool]
    """Whether asking leaves the question in the history, to which the whole exchange is then added."""
    history_items: Fact[int]
    prompt_page: Fact[str]
    prompt_reward: Fact[str]
    prompt_exam: Fact[str]
    prompt_bentsao: Fact[str]
    prompt_chatglm_med: Fact[str]
    metric_functions: Fact[list[str]]
    """What the module of metrics computes."""
    num_predictions: Fact[int]
    """Files of predictions or scores in it."""
    stages: Fact[list[Stage]]


class Others(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What their sources publish."""

    positives: Fact[int]
    """webMedQA: answers of a question's own."""
    negatives: Fact[int]
    huatuo_billion: Fact[int]
    """Size of the model whose scores HuatuoGPT's paper prints."""
    prompt_bentsao: Fact[str]
    prompt_chatglm_med: Fact[str]
    nltk_measures: Fact[list[str]]
    """Families of table 1 that NLTK 3.8.1 has."""
    nltk_gleu: Fact[str]
    nltk_released: Fact[str]
    nltk_next: Fact[str]
    llama_sizes: Fact[dict[str, int]]


class Hardware(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For estimates of cost."""

    flops: Fact[float]
    """A800, dense bf16."""
    bytes_per_s: Fact[float]
    utilisation: Fact[float]
    max_new_tokens: Fact[int]


class Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that is known before anything is given."""

    paper: Paper
    repository: Repository
    others: Others
    hardware: Hardware


@cache
def load() -> Facts:
    """The constants of `facts.toml`."""
    return msgspec.toml.decode((files(__package__) / "facts.toml").read_bytes(), type=Facts)
