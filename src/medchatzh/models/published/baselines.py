"""Baselines by name: how each model's own code asks its question, decodes, and finds the answer in what it decoded.

A baseline is data, read off the code that its authors published (`source`), to the byte and with its faults, because a baseline that is
asked in another way is another system. `official` is how its authors run it, `paper` how the MedChatZH paper's script runs it. What is
odd about them is told in docs/baselines.md; tests compare all of it with what that code gave when it was run.

Unlike in `prompt`, which serves our own models, a special token inside a user's text counts as one here: their code reads it so.
"""

from __future__ import annotations

import codecs
import difflib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from medchatzh import prompt
from medchatzh.models.decoding.sampling import Decoding
from medchatzh.models.served.wire import Request, Sampling
from medchatzh.prompt import Template
from medchatzh.records import Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Variant = Literal["official", "paper"]

VERSION = 2
"""Raised when the same decoded ids are read otherwise: answers are cached as they were read."""


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """What stands around the turns, how much of it the model sees, and where the answer stands in the decoded text."""

    template: Template
    preamble: str = ""
    """Text in front of the first turn."""
    history: Literal["none", "turns", "rounds", "window"] = "none"
    """How earlier exchanges stand before the last question. `none`: its own code asks one question only; `turns`: one after the other, each
    answer with EOS; `rounds`: ChatGLM's numbered rounds; `window`: what dialog.py of the paper's repository keeps, see `_window`."""
    takes_system: bool = False
    """Whether a system turn may stand in front."""
    strips_question: bool = False
    max_prompt_tokens: int = 0
    """Ids of the prompt that the model sees, BOS included; 0: all."""
    keeps: Literal["first", "last"] = "first"
    """Which ids those are. `first` cuts the end of a long question, and the header of the answer with it."""
    reads: Literal["after_marker", "after_prompt", "after_question", "new"] = "new"
    """Where the answer stands. `after_marker`: behind the first `marker` in the decoded prompt and answer, up to a second one;
    `after_prompt`, `after_question`: behind as many characters as the decoded prompt or the question has; `new`: in the new ids alone,
    behind the last `marker`, if any."""
    marker: str = ""
    tokenizer: Literal["slow", "fast"] = "fast"
    """Which of the two in transformers its own code loads. They decode stray bytes otherwise, see `_decoded`."""
    skips_special_tokens: bool = True
    """Whether special tokens are left out of the decoded text; where not, an EOS may be part of the answer."""
    drops_last_token: bool = False
    """Whether the last id, which is EOS or the one at the limit, is not shown (a stream that ends before it is yielded)."""
    strips_answer: bool = True
    widens_punctuation: bool = False
    """Whether ASCII punctuation beside a hanzi becomes full-width, as in ChatGLM's `process_response`."""
    fills_year: bool = False
    """Whether `[[训练时间]]` becomes `2023年`."""


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """One model, run one way. Encoded as JSON it identifies the way: a cache of answers may use that as key."""

    name: str
    variant: Variant = "official"
    source: str
    """Repository and files that this was read off."""
    reached: Literal["checkpoint", "adapter", "delta", "endpoint"]
    """`adapter`: LoRA on a base, see `adapters.merge`; `delta`: base + delta, see `deltas.apply`; `endpoint`: over HTTP, or by a file
    of predictions."""
    question: Form
    """How a single question is asked."""
    dialogue: Form | None = None
    """How a question with earlier exchanges is asked, where that is another way."""
    bos: bool = False
    """Whether the prompt begins with BOS."""
    decoding: Decoding | None = None
    """None: the API's defaults."""
    num_beams: int = 1
    """More than 1: beam search, see `beams`."""
    max_total_tokens: int = 0
    """Limit of prompt and answer together, in place of `decoding.max_new_tokens`; 0: none."""
    ignores_eos: bool = False
    """Whether decoding goes on behind EOS, because the script names another model's EOS."""

    def form(self, turns: Sequence[Turn]) -> Form:
        """The form for these turns. ValueError where they are no open dialogue, or have a history and the own code knows none."""
        prompt.check(turns, answered=False)
        chosen = self.dialogue if self.dialogue and len(turns) > 1 else self.question
        if turns[0].role == "system" and not chosen.takes_system:
            raise ValueError(f"baseline {self.name}: its own code takes no system turn; leave it out")
        if len(turns) > 1 and chosen.history == "none":
            raise ValueError(f"baseline {self.name}: its own code asks single questions; give it dialogues of one question")
        return chosen


def baseline(name: str, variant: str = "official") -> Baseline:
    """Look a baseline up. ValueError suggests the nearest name, or says why there is no such variant."""
    if name not in NAMES:
        near = difflib.get_close_matches(name.lower(), NAMES, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(NAMES)}"
        raise ValueError(f"unknown baseline {name!r}; {hint}")
    if (name, variant) in _BASELINES:
        return _BASELINES[name, variant]
    if variant == "paper":
        raise ValueError(
            f"baseline {name}: no variant 'paper', for the paper copied this row from HuatuoGPT's and ran nothing; take 'official'"
        )
    raise ValueError(f"baseline {name}: unknown variant {variant!r}; known: official, paper")


def render(chosen: Baseline, turns: Sequence[Turn], eos: str = "</s>") -> str:
    """The prompt as text, without BOS. `turns` end with the question; `eos` is the tokenizer's."""
    form = chosen.form(turns)
    turns = _stripped(form, turns)
    if form.history == "rounds":
        return _rounds(turns, form.template)
    if form.history == "window":
        return _window(turns)
    return form.preamble + prompt.text(turns, form.template, eos)


def _stripped(form: Form, turns: Sequence[Turn]) -> Sequence[Turn]:
    if not form.strips_question:
        return turns
    return [Turn(turn.role, turn.content.strip()) if turn.role == "user" else turn for turn in turns]


def _rounds(turns: Sequence[Turn], template: Template) -> str:
    """`chat` of modeling_chatglm.py, given the history that it returned."""
    users = [prompt.text([turn], template) for turn in turns[::2]]
    rounds = (f"[Round {n}]\n问：{user}\n答：{turn.content}\n" for n, (user, turn) in enumerate(zip(users, turns[1::2], strict=False)))
    return "".join(rounds) + f"[Round {len(users) - 1}]\n问：{users[-1]}\n答："


def _window(turns: Sequence[Turn]) -> str:
    """The paper's dialog.py and the `stream_chat` it calls: both append to the history, so that from the third question on the earlier ones
    stand there twice, once without an answer; the last three entries are kept. (Nor has the header the space that it was trained with.)"""
    history: list[str] = []
    for user, assistant in zip(turns[::2], turns[1::2], strict=False):
        if history:
            history.append(f"Human: \n{user.content}\n\nAssistant:\n")
        history.append(f"Human: \n{user.content}\n\nAssistant: {assistant.content}\n")
        history = history[-3:]
    return "".join(history) + f"Human: \n{turns[-1].content}\n\nAssistant:\n"


def ids(chosen: Baseline, turns: Sequence[Turn], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids that the model sees, cut where its own code cuts."""
    form = chosen.form(turns)
    whole = _whole(chosen, turns, tokenizer)
    if form.keeps == "last":
        return whole[-form.max_prompt_tokens :]
    return whole[: form.max_prompt_tokens or None]


def _whole(chosen: Baseline, turns: Sequence[Turn], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    if chosen.reached == "endpoint":
        raise ValueError(f"baseline {chosen.name}: is reached over an endpoint, which has its own tokenizer")
    return [tokenizer.bos_token_id] * chosen.bos + tokenized(render(chosen, turns, eos=str(tokenizer.eos_token)), tokenizer)


def tokenized(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of a text as LLaMA's tokenizers gave them in 2023: special tokens in it are read as such, and a space is put in front of the
    text and of what stands behind each of them. (transformers 5 puts it in front of the text alone, and only where there is none.)"""
    has_prefix = tokenizer.tokenize("a")[0].startswith("▁")
    special = _special(tokenizer)
    ids: list[int] = []
    for piece in re.split(f"({'|'.join(map(re.escape, special))})", text):
        if piece in special:
            ids.append(special[piece])
        elif piece:
            prefix = " " if has_prefix and piece.startswith(" ") else ""
            ids += tokenizer(prefix + piece, add_special_tokens=False)["input_ids"]
    return ids


def _special(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The special tokens, as `decode` of transformers counts them: not an added one that is declared ordinary, though `all_special_ids` has
    it. The newline of our own tokenizer is such, and without it no marker that ends in one is found."""
    declared = tokenizer.added_tokens_decoder
    named = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    return {token: number for token, number in named if number not in declared or declared[number].special}


def answer(chosen: Baseline, turns: Sequence[Turn], new_ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """The answer, from the ids that were decoded, EOS included where it ended them."""
    form = chosen.form(turns)
    before: list[int] = []
    if form.reads != "new":  # decoded with the prompt. What was cut off its front is shown all the same; what was cut off its end is not
        before = _whole(chosen, turns, tokenizer) if form.keeps == "last" else ids(chosen, turns, tokenizer)
    shown = list(new_ids[:-1] if form.drops_last_token else new_ids)
    prefix = _decoded(before, form, tokenizer) if form.reads == "after_prompt" else ""
    return extract(chosen, turns, _decoded([*before, *shown], form, tokenizer), prefix, eos=str(tokenizer.eos_token))


def _decoded(ids: list[int], form: Form, tokenizer: PreTrainedTokenizerBase) -> str:
    """Text of ids. LLaMA spells most hanzi in bytes. Where an answer is cut inside one, the fast tokenizer replaces every byte of the run
    that the stray ones stand in, so whole characters before them, too; sentencepiece, the slow one, replaces the stray bytes alone."""
    if form.tokenizer == "fast":
        return str(tokenizer.decode(ids, skip_special_tokens=form.skips_special_tokens))
    assert form.skips_special_tokens  # else spaces would have to be put around them
    special = set(_special(tokenizer).values())
    text = b""
    for token in tokenizer.convert_ids_to_tokens([each for each in ids if each not in special]):
        byte = re.fullmatch("<0x([0-9A-F]{2})>", token)
        text += bytes.fromhex(byte[1]) if byte else token.replace("▁", " ").encode()
    codecs.register_error("one by one", _replace_one)
    return text.decode(errors="one by one")


def _replace_one(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd", error.start + 1


def extract(chosen: Baseline, turns: Sequence[Turn], decoded: str, prefix: str = "", eos: str = "</s>") -> str:
    """The answer in the decoded text (`form.reads` says of what): '' where there is none.

    `prefix` is the prompt as it was decoded. Where the own code would fail, because a long question has lost its marker, this gives ''.
    """
    form = chosen.form(turns)
    text = decoded
    if form.reads == "after_marker":
        text = next(iter(decoded.split(form.marker)[1:]), "")
    elif form.reads == "after_prompt":
        text = decoded[len(prefix) :].split(eos)[0]
    elif form.reads == "after_question":
        text = decoded[len(turns[-1].content) :]
    elif form.marker:
        text = decoded.split(form.marker)[-1]
    if form.strips_answer:
        text = text.strip()
    if form.fills_year:
        text = text.replace("[[训练时间]]", "2023年")
    if form.widens_punctuation:
        for narrow, wide in zip(",!:;?", "，！：；？", strict=True):
            text = re.sub(rf"([\u4e00-\u9fff]){re.escape(narrow)}", rf"\1{wide}", text)
            text = re.sub(rf"{re.escape(narrow)}([\u4e00-\u9fff])", rf"{wide}\1", text)
    return text


def request(chosen: Baseline, turns: Sequence[Turn], *, num_prompt_tokens: int = 0, seed: int = 0) -> Request:
    """What to ask an endpoint. Baselines that only an endpoint has are asked as a chat, the others with their finished prompt.

    ChatGLM's server puts a chat's earlier exchanges into its rounds itself. `num_prompt_tokens` counts where the limit is on prompt and
    answer together. ValueError for a beam search, which no endpoint offers.
    """
    form = chosen.form(turns)
    if chosen.num_beams > 1:
        raise ValueError(f"baseline {chosen.name}: {chosen.num_beams} beams cannot be had over an endpoint; give its checkpoint")
    if chosen.reached == "endpoint":
        asked = tuple(Turn("user", prompt.text([turn], form.template)) if turn.role == "user" else turn for turn in _stripped(form, turns))
        return Request(asked, _sampling(chosen, num_prompt_tokens), seed)
    return Request(render(chosen, turns), _sampling(chosen, num_prompt_tokens), seed)


def _sampling(chosen: Baseline, num_prompt_tokens: int) -> Sampling:
    decoding = chosen.decoding
    if decoding is None:
        return Sampling()
    limit = max(1, chosen.max_total_tokens - num_prompt_tokens) if chosen.max_total_tokens else decoding.max_new_tokens
    drawn = decoding.do_sample
    return Sampling(
        max_tokens=limit,
        min_tokens=decoding.min_new_tokens or None,
        temperature=decoding.temperature if drawn else 0.0,
        top_p=decoding.top_p if drawn else None,
        top_k=(decoding.top_k or -1) if drawn else None,
        repetition_penalty=decoding.repetition_penalty if decoding.repetition_penalty != 1 else None,
        ignore_eos=chosen.ignores_eos or None,
    )


def from_text(chosen: Baseline, turns: Sequence[Turn], text: str) -> str:
    """The answer in what an endpoint gave, which is new text without special tokens."""
    before = ""
    if chosen.form(turns).reads == "after_question":
        before = turns[-1].content
    elif chosen.form(turns).reads != "new":
        before = render(chosen, turns)
    return extract(chosen, turns, before + text, before)


_PAPER = Decoding()
"""inference.py of the paper's repository: one dictionary for all models, and `do_sample` unset."""

_ALL = (
    Baseline(
        name="medchatzh",
        source="tyang816/MedChatZH: src/eval/inference.py; with a history src/dialog.py and modeling_baichuan.py",
        reached="checkpoint",
        question=Form(
            template=prompt.template("medchatzh"),
            max_prompt_tokens=1024,
            reads="after_marker",
            marker="Assistant: \n",
            tokenizer="slow",
        ),
        dialogue=Form(
            template=prompt.template("medchatzh"),
            history="window",
            reads="new",
            marker="Assistant:",
            tokenizer="slow",
            drops_last_token=True,
            widens_punctuation=True,
            fills_year=True,
        ),
        decoding=_PAPER,
    ),
    Baseline(
        name="bentsao",
        source="SCIR-HI/Huatuo-Llama-Med-Chinese: infer.py, templates/med_template.json, transformers 4.30.1",
        reached="adapter",
        question=Form(
            template=prompt.template("bentsao"),
            preamble="下面是一个问题，运用医学知识来正确回答提问.\n",
            reads="after_marker",
            marker="### 回答:",
            skips_special_tokens=False,
        ),
        bos=True,
        # Temperature, top_p and top_k are named in the script, and do nothing without do_sample.
        decoding=Decoding(max_new_tokens=256, min_new_tokens=0, repetition_penalty=1.0),
        num_beams=4,
    ),
    Baseline(
        name="bentsao",
        variant="paper",
        source="tyang816/MedChatZH: src/eval/inference.py, branch llama: the English template of Alpaca with a blank input",
        reached="adapter",
        question=Form(
            template=Template(
                "alpaca",
                "Below is an instruction that describes a task, paired with an input that provides further context. "
                "Write a response that appropriately completes the request.\n\n"
                "### Instruction:\n{}\n\n### Input:\n \n\n### Response:\n",
            ),
            max_prompt_tokens=1024,
            reads="after_marker",
            marker="### Response:\n",
            tokenizer="slow",
        ),
        bos=True,
        decoding=_PAPER,
    ),
    Baseline(
        name="huatuogpt",
        source="FreedomIntelligence/HuatuoGPT: huatuo_cli_demo_stream.py",
        reached="delta",
        question=Form(
            template=prompt.template("huatuogpt"),
            preamble=(
                "一位用户和智能医疗大模型HuatuoGPT之间的对话。对于用户的医疗问诊，HuatuoGPT给出准确的、详细的、温暖的指导建议。"
                "对于用户的指令问题，HuatuoGPT给出有益的、详细的、有礼貌的回答。"
            ),
            history="turns",
            max_prompt_tokens=1024 - 512 - 8,
            keeps="last",
            reads="after_prompt",
            skips_special_tokens=False,
        ),
        bos=True,
        # A repetition penalty of 1.2 is passed and never used.
        decoding=Decoding(
            max_new_tokens=512, min_new_tokens=0, repetition_penalty=1.0, do_sample=True, temperature=0.5, top_p=1.0, top_k=0
        ),
    ),
    Baseline(
        name="chatglm-med",
        source="SCIR-HI/Med-ChatGLM: infer.py, modeling_chatglm.py (chat), transformers 4.27.1 (top_k is 50 there, unless told otherwise)",
        reached="endpoint",
        question=Form(template=Template("chatglm-med", "问题：{}\n答案："), strips_question=True, fills_year=True),
        dialogue=Form(template=Template("chatglm-med", "问题：{}\n答案："), history="rounds", strips_question=True, fills_year=True),
        decoding=Decoding(
            max_new_tokens=256, min_new_tokens=0, repetition_penalty=1.0, do_sample=True, temperature=0.95, top_p=0.7, top_k=50
        ),
        max_total_tokens=256,
    ),
    Baseline(
        name="chatglm-med",
        variant="paper",
        source="tyang816/MedChatZH: src/eval/inference.py, branch chatglm: the bare question, and the EOS of LLaMA",
        reached="endpoint",
        question=Form(template=Template("bare", "{}"), reads="after_question"),
        decoding=_PAPER,
        ignores_eos=True,
    ),
    Baseline(
        name="gpt-3.5-turbo",
        source="OpenAI's API: chat completions with its defaults",
        reached="endpoint",
        question=Form(template=Template("bare", "{}"), history="turns", takes_system=True, strips_answer=False),
    ),
)
_BASELINES: dict[tuple[str, str], Baseline] = {(each.name, each.variant): each for each in _ALL}
_BASELINES["medchatzh", "paper"] = msgspec.structs.replace(_BASELINES["medchatzh", "official"], variant="paper")  # one script runs both

NAMES = tuple(dict.fromkeys(name for name, _ in _BASELINES))
