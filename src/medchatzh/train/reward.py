"""Reward model: Bradley–Terry over all pairs of each ranking, from the pre-trained checkpoint, instructed or not.

Legend: N answers in a micro batch, P pairs.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import msgspec
import numpy as np

from medchatzh import models, prompt
from medchatzh.metrics.statistics import clustered_interval
from medchatzh.models.calibration import HELD_OUT, Ranked, reliability
from medchatzh.models.packing import Batch, Examples, Ints, assemble, collect
from medchatzh.models.reward import Scorer, ScorerSettings, rewards, score
from medchatzh.recipe import Settings
from medchatzh.records import Dialogue, Preference, Turn, hold_out, normalize, read, write
from medchatzh.run import SCRATCH, Context, Progress, Result
from medchatzh.train import loop, sft
from medchatzh.train.defects import KINDS, LENGTHS, TAUGHT, Kind, plant
from medchatzh.train.optimization import HoldsOut, Optimization
from medchatzh.train.processes import join
from medchatzh.train.state import METRICS, write_log

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from medchatzh.train.engines import Loss

VERSION = 7
LIBRARIES = ("torch", "transformers", "numpy", "deepspeed", "peft")
TOGETHER = True


class Ranks(HoldsOut, frozen=True, kw_only=True):
    """A stage that learns from rankings."""

    unit: ClassVar[str] = "rankings"
    rankings: int = 8
    """Rankings a micro batch; `rows` does not apply, a ranking's answers stay together."""
    margin: float = 0.0
    """What a better answer's score must be ahead by before a pair counts as learnt, for each rank between the two (Llama 2, section
    3.2.2)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rankings < 1:
            raise ValueError(f"rankings must be at least 1, not {self.rankings}")


class Instruct(Settings, frozen=True, kw_only=True):
    """Instruction tuning on curated dialogues before anything else: whether an answer fits its question is known to a model that has
    learnt to answer. InstructGPT's reward model starts from such a one (section 3.5)."""

    steps: int = 0
    """0 for none: the base is instructed already, or need not be."""
    learning_rate: float = 0.0
    """Peak; 0 for the stage's own."""

    def __post_init__(self) -> None:
        if self.steps < 0 or self.learning_rate < 0:
            raise ValueError("steps and learning_rate must not be negative (0: none; the stage's own)")


class Defects(Settings, frozen=True, kw_only=True):
    """A lesson: rankings made by rule (`train/defects.py`), a doctor's answer above what damage makes of it. Learnt before the others."""

    of: Literal["dialogues", "rankings"] = "dialogues"
    """Whose answers are damaged: those of curated dialogues, or those that the rankings outside the held-out share rank."""
    kinds: tuple[Kind, ...] = TAUGHT
    """Each makes one damaged form of every answer; one that is named twice makes two."""
    count: int = 1000
    """Answers an epoch, at most so many."""
    chars: tuple[int, int] = LENGTHS
    """Of an answer, from and to."""
    epochs: int = 1
    """Each draws its answers, and damages them, anew: what was damaged once is soon known by heart."""
    rankings: int = 0
    """A micro batch; 0 for the stage's own."""
    learning_rate: float = 0.0
    """Peak; 0 for the stage's own."""

    def __post_init__(self) -> None:
        if min(self.count, self.epochs) < 1 or not self.kinds:
            raise ValueError("count and epochs of a lesson must be at least 1, and it needs a kind; leave the lesson out for none")
        if min(self.rankings, self.learning_rate) < 0:
            raise ValueError("rankings and learning_rate must not be negative (0: the stage's own)")
        if not 1 <= self.chars[0] <= self.chars[1]:
            raise ValueError(f"chars are the shortest and the longest answer, from 1 up, not {list(self.chars)}")


class Config(Ranks, frozen=True, kw_only=True):
    base: str = ""
    """Checkpoint folder to start from (causal or reward); empty for the pre-trained model of this recipe."""
    layers: int = 0
    """Keep only the first so many layers of `base`; 0 keeps all: a reward needs fewer than the next token does."""
    instruct: Instruct = Instruct()
    defects: tuple[Defects, ...] = ()
    """Lessons in what no answer should be, one after another (`[[reward.defects]]`)."""
    held_out: float = 0.25
    """By `group`, so that one case's answers are never on both sides. Rankings are few: a small share would measure nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers < 0:
            raise ValueError("layers must not be negative (0: all layers of the base)")

    @property
    def takes_dialogues(self) -> bool:
        """Whether it learns from curated dialogues, or is measured on them."""
        return bool(self.instruct.steps or self.defects)

    def tuning(self) -> Optimization:
        """How it is instructed: by rows, as SFT is."""
        shared = {name: getattr(self, name) for name in Optimization.__struct_fields__}
        rate, steps = self.instruct.learning_rate or self.learning_rate, self.instruct.steps
        return Optimization(**shared | {"learning_rate": rate, "epochs": steps, "max_steps": steps})

    def teaching(self, lesson: Defects) -> Config:
        """How a lesson is learnt: once through all its draws."""
        changes = {"learning_rate": lesson.learning_rate or self.learning_rate, "rankings": lesson.rankings or self.rankings}
        return msgspec.structs.replace(self, epochs=1, max_steps=0, **changes)


class Encoding(NamedTuple):
    """Every answer of every ranking as one example, ending with EOS. Rankings left without a pair are not there."""

    examples: Examples
    rankings: Ints
    """[N] number of each answer's ranking, ascending"""
    ranks: Ints
    """[N]"""
    ids: list[str]
    """Of the rankings."""
    num_too_long: int
    """Answers dropped for length."""

    def names(self, chosen: Ints) -> list[str]:
        """Ids of the rankings that some examples belong to."""
        return [self.ids[ranking] for ranking in sorted(set(self.rankings[chosen].tolist()))]


def encode(preferences: Iterable[Preference], tokenizer: PreTrainedTokenizerBase, template: prompt.Template, max_tokens: int) -> Encoding:
    """Rankings as examples of at most `max_tokens`."""
    encoded: list[prompt.Encoded] = []
    rankings: list[int] = []
    ranks: list[int] = []
    ids: list[str] = []
    num_too_long = 0
    for preference in preferences:
        answers = [prompt.encode([*preference.prompt, Turn("assistant", answer)], tokenizer, template) for answer in preference.answers]
        fitting = [(answer, rank) for answer, rank in zip(answers, preference.ranks, strict=True) if len(answer.input_ids) <= max_tokens]
        num_too_long += len(answers) - len(fitting)
        if len({rank for _, rank in fitting}) < 2:
            continue
        for answer, rank in fitting:
            encoded.append(answer)
            rankings.append(len(ids))
            ranks.append(rank)
        ids.append(preference.id)
    return Encoding(collect(encoded), np.asarray(rankings, np.int64), np.asarray(ranks, np.int64), ids, num_too_long)


class RankingBatches:
    """Whole rankings by step."""

    def __init__(self, encoded: Encoding, config: Ranks, *, pad_id: int, seed: int) -> None:
        self._examples, self._config, self._pad_id, self._seed = encoded.examples, config, pad_id, seed
        self._members = np.split(np.arange(len(encoded.rankings)), np.flatnonzero(np.diff(encoded.rankings)) + 1)
        self.units = config.rankings
        self._a_step = config.units_a_step
        self.steps_per_epoch = -(-len(self._members) // self._a_step)

    def step(self, number: int) -> list[Ints]:
        epoch, within = divmod(number, self.steps_per_epoch)
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self._members))
        return [self._members[ranking] for ranking in order[within * self._a_step : (within + 1) * self._a_step]]

    def assemble(self, units: Sequence[Ints]) -> Batch:
        members = [example for ranking in units for example in ranking]
        return assemble(self._examples, loop.rows_of(self._examples, members, self._config), self._pad_id, loop.width(self._config))

    def weight(self, units: Sequence[Ints]) -> float:
        return len(units)

    def num_tokens(self, units: Sequence[Ints]) -> int:
        return self._examples.num_tokens_of(units)


def ranking_loss(scores: torch.Tensor, rankings: torch.Tensor, ranks: torch.Tensor, margin: float = 0.0) -> torch.Tensor:
    """Sum over rankings of the mean over their pairs of −log σ(chosen − rejected − margin × ranks between) (InstructGPT, equation 1).
    Arguments [N]."""
    import torch

    chosen, rejected = torch.nonzero((rankings[:, None] == rankings[None]) & (ranks[:, None] < ranks[None]), as_tuple=True)
    ahead = scores[chosen] - scores[rejected] - margin * (ranks[rejected] - ranks[chosen])
    pairs_a_ranking = torch.bincount(rankings[chosen], minlength=1)
    return -(torch.nn.functional.logsigmoid(ahead) / pairs_a_ranking[rankings[chosen]]).sum()


def over_rankings(scored: Callable[[models.Model, Batch], torch.Tensor], encoded: Encoding, margin: float) -> Loss:
    """The loss over all pairs of the rankings, of what `scored` makes of each answer: [N] rewards."""

    def loss(model: models.Model, batch: Batch) -> torch.Tensor:
        import torch

        local = np.unique(encoded.rankings[batch.examples], return_inverse=True)[1]
        numbers, ranks = (torch.from_numpy(array).to(model.device) for array in (local, encoded.ranks[batch.examples]))
        return ranking_loss(scored(model, batch), numbers, ranks, margin)

    return loss


Hits = dict[str, list[float]]
"""By group, whether each pair is in the right order: 1, 0, or .5 where the values are equal."""


def hits(values: Sequence[np.ndarray], preferences: Sequence[Preference]) -> Hits:
    """Whether the chosen answer of each pair has the higher value."""
    groups: Hits = {}
    for scores, preference in zip(values, preferences, strict=True):
        value_of = dict(zip(preference.answers, scores, strict=True))
        for chosen, rejected in preference.pairs():
            margin = value_of[chosen] - value_of[rejected]
            groups.setdefault(preference.group or preference.id, []).append(0.5 if margin == 0 else float(margin > 0))
    return groups


def accuracy(values: Sequence[np.ndarray], preferences: Sequence[Preference], seed: int) -> dict[str, Any]:
    """Share of pairs in which the chosen answer has the higher value; equal values count half.

    The interval (95 %) resamples groups, not pairs: the pairs of one case are far from independent.
    """
    groups = hits(values, preferences)
    return _share(groups, seed) | {"num_groups": len(groups)}


def _share(groups: Hits, seed: int) -> dict[str, Any]:
    mean, low, high, num_pairs = clustered_interval(list(groups.values()), seed=seed)
    return {"accuracy": round(mean, 4), "low": round(low, 4), "high": round(high, 4), "num_pairs": num_pairs}


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: Context) -> Result:
    """Train on `ingest/preferences.jsonl`; writes `checkpoint/`, `metrics.jsonl` and `held_out.jsonl` (for the calibration).

    Reports held-out pair accuracy by source. With `epochs = 0` the finished reward model `base` is measured on all rankings and passed on.
    """
    processes = join(context.threads)
    preferences = list(read(inputs["ingest"] / "preferences.jsonl", Preference))
    if not preferences:
        raise ValueError("reward: no preferences; add a source of format 'rankings' or 'pairs' to ingest.sources")
    if not config.epochs:
        return _adopt(config, preferences, out, context) if processes.is_first else Result()
    base = Path(config.base).expanduser() if config.base else inputs["pretrain"] / "checkpoint"
    trained, held_out = hold_out(preferences, config.held_out, key=lambda preference: preference.group or preference.id)
    unseen: list[Dialogue] = []
    if config.takes_dialogues:
        dialogues = (each for pool in ("medical", "general") for each in read(inputs["curate"] / f"{pool}.jsonl", Dialogue))
        known, unseen = hold_out(dialogues, config.held_out, key=lambda dialogue: normalize(dialogue.question))
        base = prepare(config, known, trained, base, out, context)
    tokenizer, template = models.load_tokenizer(base)
    encoded = encode(trained, tokenizer, template, config.row_tokens)
    if not encoded.ids:
        raise ValueError(
            f"reward: no ranking fits reward.row_tokens = {config.row_tokens} outside the held-out share; raise it, or lower held_out"
        )
    model, facts = fit(config, base, encoded, out, context)
    if not processes.is_first:
        return Result()
    models.save(model, tokenizer, template, out / "checkpoint")
    model.to(models.device())
    by_ranking = scores_of(model, held_out, tokenizer, template, config)
    write(out / HELD_OUT, map(ranked, held_out, by_ranking))
    facts |= {"num_answers_too_long": encoded.num_too_long, "held_out": measure(by_ranking, held_out, context.seed)}
    if config.defects:
        facts["defects"] = ordering(model, unseen, tokenizer, template, config, context.seed)
    dropped = loop.dropped(held_out=len(held_out), too_long=len(trained) - len(encoded.ids))
    return Result(num_in=len(preferences), num_out=len(encoded.ids), dropped=dropped, facts=facts)


def fit(
    config: Config, base: Path, encoded: Encoding, out: Path, context: Context, label: str = "reward"
) -> tuple[models.Model, dict[str, Any]]:
    """(the model that learnt the rankings, facts), as `loop.train`."""
    tokenizer, _ = models.load_tokenizer(base)
    batches = RankingBatches(encoded, config, pad_id=tokenizer.pad_token_id, seed=context.seed)

    def make(quantized: bool) -> models.Model:
        model = models.load_reward(base, context.seed, quantized=quantized)
        models.check_vocabulary(model, tokenizer, base)
        model.config.pad_token_id = tokenizer.pad_token_id
        if 0 < config.layers < model.config.num_hidden_layers:
            del model.model.layers[config.layers :]
            model.config.num_hidden_layers = config.layers
            if getattr(model.config, "layer_types", None):  # Qwen
                model.config.layer_types = model.config.layer_types[: config.layers]
        return model

    loss = over_rankings(rewards, encoded, config.margin)
    return loop.train(make, batches, loss, config, out, context, label, encoded.names, head="score")


def prepare(
    config: Config, dialogues: Sequence[Dialogue], preferences: Sequence[Preference], base: Path, out: Path, context: Context
) -> Path:
    """The checkpoint to learn rankings from: `base`, or in the scratch folder what it became by `config.instruct` and each lesson of
    `config.defects`. Each is learnt once: after a kill it is there. All processes call it alike."""
    if config.instruct.steps:
        base = _once("instruct", partial(instruct, config, dialogues), base, out, context)
    for number, lesson in enumerate(config.defects, 1):
        answers = dialogues if lesson.of == "dialogues" else answered(preferences)
        base = _once(f"defects-{number}", partial(teach, config, lesson, answers), base, out, context)
    return base


def answered(preferences: Iterable[Preference]) -> list[Dialogue]:
    """Every answer that is ranked as a dialogue of its own, so that it can be damaged."""
    return [
        Dialogue(id=f"{each.id}/{number}", origin=each.origin, turns=(*each.prompt, Turn("assistant", answer)))
        for each in preferences
        for number, answer in enumerate(each.answers)
    ]


def instruct(config: Config, dialogues: Sequence[Dialogue], base: Path, out: Path, context: Context) -> models.Model:
    """The model after `config.instruct.steps` steps of SFT on the dialogues, both pools alike."""
    tuning = config.tuning()
    tokenizer, template = models.load_tokenizer(base)
    counts: Counter[str] = Counter()
    encoded = sft.encode(enumerate(dialogues), tokenizer, template, config.row_tokens, counts)
    examples, numbers = loop.stored(encoded, counts, out / SCRATCH / "train", len(tokenizer), join(context.threads))
    if not len(examples):
        raise ValueError("reward.instruct: no curated dialogue fits reward.row_tokens; raise it, or set reward.instruct.steps = 0")
    batches = loop.Epochs(examples, tuning, pad_id=tokenizer.pad_token_id, seed=context.seed)

    def names(chosen: Ints) -> list[str]:
        return [dialogues[number].id for number in numbers[chosen].tolist()]

    def make(quantized: bool) -> models.Model:
        return models.load_causal(base, quantized=quantized)

    return loop.train(make, batches, loop.causal(tuning), tuning, out, context, "instruct", names)[0]


def teach(config: Config, lesson: Defects, dialogues: Sequence[Dialogue], base: Path, out: Path, context: Context) -> models.Model:
    """The model that has learnt a lesson planted in the answers of the dialogues."""
    tokenizer, template = models.load_tokenizer(base)
    planted = (
        each for epoch in range(lesson.epochs) for each in plant(dialogues, lesson.count, context.seed, lesson.kinds, lesson.chars, epoch)
    )
    encoded = encode(planted, tokenizer, template, config.row_tokens)
    if not encoded.ids:
        raise ValueError(
            f"reward.defects: no {lesson.of[:-1]} has an answer of {lesson.chars[0]} to {lesson.chars[1]} characters that could be damaged;"
            " widen chars, or leave the lesson out"
        )
    return fit(config.teaching(lesson), base, encoded, out, context, out.name)[0]


def _once(name: str, train: Callable[[Path, Path, Context], models.Model], base: Path, out: Path, context: Context) -> Path:
    """The checkpoint that `train` makes in a folder below the scratch folder, with the tokenizer of `base`; made if it is not there."""
    processes = join(context.threads)
    folder = out / SCRATCH / name
    (folder / SCRATCH).mkdir(parents=True, exist_ok=True)
    made = folder / "checkpoint"
    processes.wait()
    if not made.exists():
        model = train(base, folder, context)
        if processes.is_first:
            aside = folder / "checkpoint.aside"
            shutil.rmtree(aside, ignore_errors=True)
            models.save(model, *models.load_tokenizer(base), aside)
            aside.replace(made)
    processes.wait()
    return made


def ordering(
    model: models.Model,
    dialogues: Sequence[Dialogue],
    tokenizer: PreTrainedTokenizerBase,
    template: prompt.Template,
    config: Config,
    seed: int,
    count: int = 200,
) -> dict[str, Any]:
    """For each kind of planted defect the share of `count` answers that score above their damaged form; also of the kinds that
    no lesson taught."""
    found: dict[str, Any] = {}
    taught = {kind for lesson in config.defects for kind in lesson.kinds}
    for kind in KINDS:
        planted = list(plant(dialogues, count, seed, (kind,)))
        if planted:
            found[kind] = accuracy(scores_of(model, planted, tokenizer, template, config), planted, seed) | {"taught": kind in taught}
    return found


def _adopt(config: Config, preferences: Sequence[Preference], out: Path, context: Context) -> Result:
    if not config.base:
        raise ValueError("reward.epochs = 0 trains nothing: set reward.base to the folder of a finished reward model, or train")
    base = Path(config.base).expanduser()
    scorer = Scorer(ScorerSettings(checkpoint=base, max_tokens=config.row_tokens, precision=config.precision, threads=context.threads))
    (out / "checkpoint").mkdir(exist_ok=True)
    for file in sorted(base.iterdir()):
        if file.is_file():
            shutil.copyfile(file, out / "checkpoint" / file.name)
    by_ranking = []
    with Progress("held out", total=len(preferences), unit="rankings") as progress:
        for preference in progress.over(preferences):
            by_ranking.append(scorer.score([(*preference.prompt, Turn("assistant", answer)) for answer in preference.answers]))
    whole = [number for number, scores in enumerate(by_ranking) if np.isfinite(scores).all()]
    known, found = [preferences[number] for number in whole], [by_ranking[number] for number in whole]
    write(out / HELD_OUT, map(ranked, known, found))
    write_log([], out / METRICS)
    facts = {"num_parameters": scorer.num_parameters, "num_steps": 0, "num_tokens": 0, "held_out": measure(found, known, context.seed)}
    dropped = loop.dropped(held_out=len(known), too_long=len(preferences) - len(known))
    return Result(num_in=len(preferences), num_out=0, dropped=dropped, facts=facts)


def scores_of(
    model: models.Model,
    preferences: Sequence[Preference],
    tokenizer: PreTrainedTokenizerBase,
    template: prompt.Template,
    config: Config,
) -> list[np.ndarray]:
    """The score of each answer of each ranking."""
    flat = collect(
        prompt.encode([*preference.prompt, Turn("assistant", answer)], tokenizer, template)
        for preference in preferences
        for answer in preference.answers
    )
    with Progress("held out", total=len(flat), unit="answers") as progress:
        scores = score(model, flat, tokenizer.pad_token_id, config.precision, progress)
    return np.split(scores, np.cumsum([len(preference.answers) for preference in preferences])[:-1]) if preferences else []


def ranked(preference: Preference, scores: np.ndarray) -> Ranked:
    """What is kept of a held-out ranking."""
    group = preference.group or preference.id
    return Ranked(id=preference.id, group=group, source=preference.source, scores=tuple(scores.tolist()), ranks=preference.ranks)


def measure(by_ranking: Sequence[np.ndarray], held_out: Sequence[Preference], seed: int) -> dict[str, Any]:
    """Over all sources and by source: pair accuracy of the model and of the length baseline (the longer answer wins), how far the one is
    above the other (the same pairs, groups resampled), and `reliability`."""
    lengths = lengths_of(held_out)
    result: dict[str, Any] = {}
    for source in ["all", *sorted({preference.source for preference in held_out})]:
        chosen = [number for number, preference in enumerate(held_out) if source in ("all", preference.source)]
        if not chosen:
            continue
        of_source = [held_out[number] for number in chosen]
        scores = [by_ranking[number] for number in chosen]
        by_length = [lengths[number] for number in chosen]
        result[source] = {
            "model": accuracy(scores, of_source, seed),
            "length": accuracy(by_length, of_source, seed),
            "above_length": above(hits(scores, of_source), hits(by_length, of_source), seed),
        }
        if found := reliability(map(ranked, of_source, scores), seed):
            result[source] |= found.facts()
    return result


def lengths_of(preferences: Sequence[Preference]) -> list[np.ndarray]:
    """The length baseline: characters of each answer."""
    return [np.array([len(answer) for answer in preference.answers], float) for preference in preferences]


def above(one: Hits, other: Hits, seed: int) -> dict[str, float]:
    """Accuracy of one judge less that of another on the same pairs, interval (95 %) by resampling groups."""
    pairs = [[a - b for a, b in zip(one[group], other[group], strict=True)] for group in one]
    mean, low, high, _ = clustered_interval(pairs, seed=seed)
    return {"difference": round(mean, 4), "low": round(low, 4), "high": round(high, 4)}
