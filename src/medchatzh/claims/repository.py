"""Checks of the paper against the code that its authors published."""

from __future__ import annotations

import math
from collections.abc import Iterable

from medchatzh.claims.protocol import listed
from medchatzh.claims.world import Finding, World, check, found

MIN_SHRINKAGE = 0.01
"""A decay that takes less than a hundredth off a weight in all of training is none."""


@check("sft-gpus")
def sft_gpus(world: World) -> Finding:
    return found(world.facts.paper.num_gpus.value == world.facts.repository.num_gpus.value)


@check("sft-batch")
def sft_batch(world: World) -> Finding:
    paper, repository = world.facts.paper, world.facts.repository
    stated = paper.num_gpus.value * paper.batch_size.value
    return found(paper.batch_size.value == repository.batch_size.value, stated=stated, launched=global_batch(world))


def global_batch(world: World) -> int:
    """Records a step of the published launch."""
    repository = world.facts.repository
    return repository.num_gpus.value * repository.batch_size.value * repository.accumulation.value


def num_steps(world: World) -> int:
    """Steps of the published launch on the paper's data."""
    records = world.facts.paper.medical.value + world.facts.paper.general.value
    return math.ceil(records / global_batch(world)) * world.facts.repository.num_epochs.value


@check("sft-rate")
def sft_rate(world: World) -> Finding:
    return found(world.facts.paper.learning_rate.value == world.facts.repository.learning_rate.value)


@check("sft-decay")
def sft_decay(world: World) -> Finding:
    return found(world.facts.paper.weight_decay.value == world.facts.repository.weight_decay.value)


@check("overfitting")
def overfitting(world: World) -> Finding:
    """AdamW takes rate × decay off a weight each step; at the peak rate throughout, the product bounds it from above."""
    repository = world.facts.repository
    shrinkage = -math.expm1(num_steps(world) * math.log1p(-repository.learning_rate.value * repository.weight_decay.value))
    is_held_out = repository.train_file.value != repository.validation_file.value
    return found(shrinkage >= MIN_SHRINKAGE and is_held_out, shrinkage=shrinkage, steps=num_steps(world), min_shrinkage=MIN_SHRINKAGE)


@check("sft-context")
def sft_context(world: World) -> Finding:
    """A record that fills the context exactly: does it keep its last token, the EOS?"""
    record = list(range(world.facts.paper.context.value))
    kept = record[: world.facts.repository.context.value - world.facts.repository.cut_from_context.value]
    return found(kept == record, num_kept=len(kept), length=len(record))


@check("full-parameter")
def full_parameter(world: World) -> Finding:
    return found(not world.facts.repository.lora.value)


@check("zero-2")
def zero_2(world: World) -> Finding:
    paper, repository = world.facts.paper, world.facts.repository
    return found((paper.zero_stage.value, paper.optimizer.value) == (repository.zero_stage.value, repository.optimizer.value))


@check("base-context")
def base_context(world: World) -> Finding:
    return found(world.facts.paper.base_context.value == world.facts.repository.max_positions.value)


def num_parameters(world: World) -> int:
    """LLaMA's: two embedding matrices, and a layer's attention (4 d²), gated MLP (3 d f) and norms (2 d); a last norm."""
    model = world.facts.repository
    width, inner = model.hidden_size.value, model.intermediate_size.value
    layer = 4 * width**2 + 3 * width * inner + 2 * width
    return 2 * model.vocab_size.value * width + model.num_layers.value * layer + width


@check("base-size")
def base_size(world: World) -> Finding:
    count = num_parameters(world)
    return found(round(count / 1e9) == world.facts.paper.base_billion.value, count=count)


@check("base-llama")
def base_llama(world: World) -> Finding:
    own = world.facts.repository
    sizes = world.facts.others.llama_sizes.value
    same = [name for name, size in sizes.items() if getattr(own, name).value == size]
    return found(len(same) == len(sizes), num_same=len(same), num_sizes=len(sizes))


@check("books-then-sft")
def books_then_sft(world: World) -> Finding:
    """The paper tunes the model that has read the books; the launch names the weights that it begins with after the general data."""
    return found("3.5M" not in world.facts.repository.initial_weights.value)


@check("code-released")
def code_released(world: World) -> Finding:
    stages = world.facts.repository.stages.value
    missing = [stage for stage in stages if not stage.file]
    return found(not missing, num_stages=len(stages), num_present=len(stages) - len(missing), **listed(missing))


@check("dialogue-prompt")
def dialogue_prompt(world: World) -> Finding:
    """Three exchanges in the form trained on, and in that of the dialogue script; EOS stands between trained exchanges."""
    repository = world.facts.repository
    exchanges = [("甲", "一"), ("乙", "二"), ("丙", "三")]
    trained = list(_trained(exchanges, repository.prompt_trained.value))
    asked = list(_asked(exchanges, world))
    num_equal = sum(one == other for one, other in zip(trained, asked, strict=True))
    forms = (
        repository.prompt_trained,
        repository.prompt_dialogue,
        repository.prompt_history,
        repository.prompt_page,
        repository.prompt_reward,
        repository.prompt_exam,
    )
    repeats = max(asked[-1].count(question) for question, _ in exchanges)
    numbers = {"num_equal": num_equal, "num_turns": len(exchanges), "num_forms": len({form.value for form in forms}), "repeats": repeats}
    return found(num_equal == len(exchanges), **numbers)


def _trained(exchanges: Iterable[tuple[str, str]], form: str) -> Iterable[str]:
    before = ""
    for question, answer in exchanges:
        yield before + form.format(q=question)
        before += form.format(q=question) + answer + "</s>"


def _asked(exchanges: Iterable[tuple[str, str]], world: World) -> Iterable[str]:
    """As `stream_chat` and `dialog.py` do it between them."""
    repository = world.facts.repository
    history: list[str] = []
    for question, answer in exchanges:
        asked = repository.prompt_dialogue.value.format(q=question)
        yield "".join([*history, asked])
        if history and repository.appends_question.value:
            history.append(asked)
        history.append(repository.prompt_history.value.format(q=question, a=answer))
        history = history[-repository.history_items.value :]


@check("baseline-prompts")
def baseline_prompts(world: World) -> Finding:
    repository, others = world.facts.repository, world.facts.others
    pairs = [
        (repository.prompt_bentsao.value, others.prompt_bentsao.value),
        (repository.prompt_chatglm_med.value, others.prompt_chatglm_med.value),
    ]
    num_equal = sum(used == official for used, official in pairs)
    return found(num_equal == len(pairs), num_equal=num_equal, num_baselines=len(pairs))


@check("reproducible")
def reproducible(world: World) -> Finding:
    repository = world.facts.repository
    num_run = sum(not world.is_copied(row) for row in world.table1)
    agrees = num_run == len(world.table1) and bool(repository.metric_functions.value) and repository.num_predictions.value > 0
    numbers = {"num_run": num_run, "num_rows": len(world.table1), "num_functions": len(repository.metric_functions.value)}
    return found(agrees, **numbers)
