"""Judge stage: a language model says which of two answers is better, each pair asked twice with the places swapped. Optional.

Reads the predictions of the main system and of others; writes `judgements.jsonl` (every verdict with the words it was given in) and
`pairwise.json` (`Pairwise`). What an LLM judge is worth stands beside what it says: how often it agrees with itself once the places are
swapped, how much it favours the first place, how often it cannot be read. Prefer the doctor's judgement where there is any.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from medchatzh import records
from medchatzh.metrics import statistics
from medchatzh.metrics.pairwise import FILE, Pairwise, Reliability, Share, Versus
from medchatzh.metrics.signature import signature
from medchatzh.models.served.answers import answer_all
from medchatzh.models.served.wire import Answer, Endpoint, Request, Sampling, usage
from medchatzh.recipe import Settings
from medchatzh.records import Prediction, Question, Record, Turn
from medchatzh.run import SCRATCH, Context, Result

VERSION = 1
LIBRARIES = ("numpy",)

Verdict = Literal["first", "second", "tie", "unreadable"]
Outcome = Literal["win", "tie", "loss"]

PROMPT = """你是一名严谨的医学评审专家。下面是一位患者的提问和两份回答，请判断哪一份回答对患者更好。

评判标准，重要的在前：
1. 正确与安全：没有医学错误、编造的内容和有害的建议，需要就医时说明就医；
2. 切题：回答了患者所问，没有遗漏要点；
3. 清楚：具体可行，患者看得懂。
两份回答的先后次序与判断无关；回答更长，不等于更好。

【患者提问】
{question}
【患者提问结束】

【回答A】
{first}
【回答A结束】

【回答B】
{second}
【回答B结束】

请先用两三句话说明理由，然后另起一行写结论。最后一行只写以下三项之一，不写别的字：
[[A]]　回答A更好
[[B]]　回答B更好
[[平]]　两份回答不分高下"""
"""One user turn, as some models take no system turn. Criteria and the warnings about place and length follow Zheng et al. 2023
(arXiv:2306.05685, figure 5), turned to medicine: safety first. Another text is another judge: its hash is part of the signature."""

_VERDICTS: dict[str, Verdict] = {"[[A]]": "first", "[[B]]": "second", "[[平]]": "tie"}


class Config(Settings, frozen=True, kw_only=True):
    endpoint: Endpoint = Endpoint()
    """The judge. Without an address nothing is judged."""
    sampling: Sampling = Sampling(max_tokens=1024, temperature=0.0)
    max_questions: int = 300
    """Judge so many questions, 0 for all; each costs two requests a system. With 300 a share is known to ± 6 points or better. A larger
    number keeps those that were judged."""

    def __post_init__(self) -> None:
        if self.max_questions < 0:
            raise ValueError(f"max_questions: {self.max_questions}: give 1 or more, or 0 for all")


class Judgement(Record, frozen=True, kw_only=True):
    """One verdict: `first` and `second` are the systems in the order in which the judge saw their answers."""

    question: str
    first: str
    second: str
    verdict: Verdict
    reply: str
    finish: str

    def outcome(self, main: str) -> Outcome | None:
        """For the system `main`; None where the verdict is unreadable."""
        if self.verdict == "unreadable":
            return None
        if self.verdict == "tie":
            return "tie"
        return "win" if (self.verdict == "first") == (self.first == main) else "loss"


def conversation(question: Question) -> str:
    """What the patient asks: the question alone, or with the turns before it, each with its speaker."""
    if not question.history:
        return question.question
    speakers = {"system": "说明", "user": "患者", "assistant": "医生"}
    return "\n".join(f"{speakers[turn.role]}：{turn.content}" for turn in question.turns)


def messages(question: str, first: str, second: str) -> tuple[Turn, ...]:
    """What the judge is asked."""
    return (Turn("user", PROMPT.format(question=question, first=first, second=second)),)


def verdict(answer: Answer) -> Verdict:
    """The last line, which must be one of the three and nothing else (emphasis is let pass). An answer cut by a limit has none."""
    lines = answer.text.strip().splitlines()
    if answer.finish != "stop" or not lines:
        return "unreadable"
    return _VERDICTS.get(lines[-1].strip().strip("*").strip(), "unreadable")


def choose(ids: Iterable[str], max_questions: int, seed: int) -> set[str]:
    """Ids of the questions to judge. By hash, so that a larger number holds the smaller one's, which need not be paid for again."""
    ordered = sorted(set(ids), key=lambda name: hashlib.blake2b(f"{seed} {name}".encode()).digest())
    return set(ordered[: max_questions or None])


def judge_signature(config: Config, served: Sequence[str], seed: int) -> str:
    """Model, prompt and decoding: two judgements compare only where all are equal. `served`: what the server says has answered."""
    given = config.sampling.given() | config.endpoint.extra
    return signature(
        "judge",
        lvl="pair",
        orders="both",
        model=config.endpoint.model,
        served="+".join(served) or "unknown",
        prompt=hashlib.sha256(PROMPT.encode()).hexdigest()[:12],
        dec=msgspec.json.encode(given, order="deterministic").decode() if given else "server",
        seed=str(seed),
        v=str(VERSION),
    )


def share(members: Iterable[tuple[str, float]], seed: int) -> Share | None:
    """Of (question, 0 to 1) members; None where there are none. What belongs to one question, whatever the system, is drawn together."""
    groups: dict[str, list[float]] = {}
    for question, value in members:
        groups.setdefault(question, []).append(value)
    if not groups:
        return None
    interval = statistics.clustered_interval(list(groups.values()), seed=seed)
    return Share(mean=round(interval.mean, 6), low=round(interval.low, 6), high=round(interval.high, 6), n=interval.n)


Pair = tuple[Judgement, Judgement]
"""The verdicts on one question: main system first, then second."""


def reliability(pairs: Sequence[Pair], seed: int) -> Reliability:
    """Of one comparison's pairs, or of all."""
    outcomes = [(pair[0].outcome(pair[0].first), pair[1].outcome(pair[0].first)) for pair in pairs]
    verdicts = [each for pair in pairs for each in pair]
    readable = [(pair, both) for pair, both in zip(pairs, outcomes, strict=True) if None not in both]
    decided = [each for pair, _ in readable for each in pair if each.verdict != "tie"]
    return Reliability(
        num_verdicts=len(verdicts),
        num_unreadable=sum(each.verdict == "unreadable" for each in verdicts),
        unreadable=share(((each.question, each.verdict == "unreadable") for each in verdicts), seed),
        agreement=share(((pair[0].question, both[0] == both[1]) for pair, both in readable), seed),
        first_position=share(((each.question, each.verdict == "first") for each in decided), seed),
        outcomes=dict(sorted(Counter("/".join(each or "unreadable" for each in both) for both in outcomes).items())),
    )


def versus(pairs: Sequence[Pair], main: str, other: str, num_unpaired: int, seed: int) -> Versus:
    """The main system against one other."""
    outcomes: list[tuple[str, Outcome]] = []
    for one, two in pairs:
        both = one.outcome(main), two.outcome(main)
        if both[0] and both[1]:
            outcomes.append((one.question, both[0] if both[0] == both[1] else "tie"))
    counts = Counter(outcome for _, outcome in outcomes)
    worth = {"win": 1.0, "tie": 0.5, "loss": 0.0}
    return Versus(
        main=main,
        other=other,
        wins=counts["win"],
        ties=counts["tie"],
        losses=counts["loss"],
        num_unreadable=len(pairs) - len(outcomes),
        num_unpaired=num_unpaired,
        win=share(((question, outcome == "win") for question, outcome in outcomes), seed),
        tie=share(((question, outcome == "tie") for question, outcome in outcomes), seed),
        loss=share(((question, outcome == "loss") for question, outcome in outcomes), seed),
        score=share(((question, worth[outcome]) for question, outcome in outcomes), seed),
        reliability=reliability(pairs, seed),
    )


def _read(folder: Path) -> tuple[str, dict[str, Prediction]]:
    """A system's name, and its predictions by question id, of repeated ones the first; '' and none where it answered nothing."""
    path = folder / "predictions.jsonl"
    found: dict[str, Prediction] = {}
    for prediction in records.read(path, Prediction):
        found.setdefault(prediction.id, prediction)
    return next((prediction.system for prediction in found.values()), ""), found


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: Context) -> Result:
    """Judge the first of the inputs `generate@…` against each other one on the questions of `ingest`.

    `num_in` counts verdicts, `dropped` the unreadable ones.
    """
    folders = [path for label, path in inputs.items() if label.partition("@")[0] == "generate"]
    if "ingest" not in inputs or len(folders) < 2:
        raise ValueError("judge needs the input ingest (questions.jsonl) and two or more inputs generate@SYSTEM (predictions.jsonl)")
    answered = [(name, found) for name, found in map(_read, folders) if found]
    if len(systems := dict(answered)) < len(answered):
        raise ValueError(f"judge: {len(answered)} inputs hold the predictions of {', '.join(systems)}; give each system its own name")
    if len(systems) < 2:
        raise ValueError(f"judge: {len(folders)} inputs, but predictions of {', '.join(systems) or 'nobody'} alone; generate answers first")
    (main, ours), *others = systems.items()
    questions: dict[str, Question] = {}
    for question in records.read(inputs["ingest"] / "questions.jsonl", Question):
        questions.setdefault(question.id, question)
    chosen = choose(questions.keys() & ours.keys(), config.max_questions, context.seed)
    matches = [(ours[name], theirs[name]) for _, theirs in others for name in ours if name in chosen and name in theirs]
    if not matches:
        raise ValueError(f"judge: no question that {main} and another system both answered; give predictions on the same benchmark")
    shown = [(conversation(questions[one.id]), *placed) for one, two in matches for placed in ((one, two), (two, one))]
    requests = [Request(messages(asked, first.answer, second.answer), config.sampling, context.seed) for asked, first, second in shown]
    answers = answer_all(config.endpoint, requests, context.cache or out / SCRATCH, "judge")
    judgements = [_judgement(*placed, answer) for placed, answer in zip(shown, answers, strict=True)]
    records.write(out / "judgements.jsonl", judgements)
    pairs = list(zip(judgements[::2], judgements[1::2], strict=True))
    taken = usage(config.endpoint, dict(zip(requests, answers, strict=True)).values())
    summary = Pairwise(
        main=main,
        signature=judge_signature(config, taken["served_models"], context.seed),
        prompt=PROMPT,
        versus=tuple(
            versus([pair for pair in pairs if pair[0].second == other], main, other, len(chosen - theirs.keys()), context.seed)
            for other, theirs in others
        ),
        reliability=reliability(pairs, context.seed),
    )
    (out / FILE).write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")
    num_unreadable = summary.reliability.num_unreadable
    scores = {each.other: each.score.mean for each in summary.versus if each.score}
    return Result(
        num_in=len(judgements),
        num_out=len(judgements) - num_unreadable,
        dropped={"unreadable": num_unreadable} if num_unreadable else {},
        facts={"signature": summary.signature, "main": main, "scores": scores, **taken},
    )


def _judgement(question: str, first: Prediction, second: Prediction, answer: Answer) -> Judgement:
    return Judgement(
        id=first.id,
        source=first.source,
        category=first.category,
        question=question,
        first=first.system,
        second=second.system,
        verdict=verdict(answer),
        reply=answer.text,
        finish=answer.finish,
    )
