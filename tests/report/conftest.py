"""A small finished run, built through the public records and structs, with hostile text where text may come from outside."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from medchatzh.contamination import CategoryOverlap
from medchatzh.metrics.published import METRICS, TABLE_1
from medchatzh.metrics.statistics import Verdict
from medchatzh.metrics.summary import (
    JUDGE,
    Answers,
    CategoryMean,
    Mean,
    PairedDifference,
    Reconciliation,
    RewardModel,
    SeededDifference,
    Summary,
)
from medchatzh.records import Prediction, Question, Reject, Score, write
from medchatzh.run import MANIFEST, Manifest

HOSTILE = "<script>alert('x')</script> | 竖线 | `反引号` **粗** [链接](http://x) & \"引号\" ${7*7} {{7*7}}"
CATEGORIES = {"内科": 40, "外科": 35, "妇产科": 31, "儿科": 12, "其他": 3}
ARM = "no_medical"
SYSTEMS = ("medchatzh", "before_sft", ARM, "canned", "random")
LEVEL = {"medchatzh": 24.0, "before_sft": 9.0, ARM: 17.0, "canned": 26.0, "random": 23.5}


def finish(
    folder: Path,
    stage: str,
    *,
    config: Mapping[str, Any] | None = None,
    counts: tuple[int, int] = (0, 0),
    dropped: Mapping[str, int] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write the manifest that makes a folder a finished stage."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = Manifest(
        stage=stage,
        fingerprint=f"{sum(map(ord, stage)):012x}",
        config=dict(config or {}),
        seed=7,
        inputs={},
        files={},
        versions={"python": "3.11.9", "medchatzh": "0.1.0"},
        num_in=counts[0],
        num_out=counts[1],
        dropped=dict(dropped or {}),
        facts=dict(facts or {}),
        outputs={},
        seconds=random.random(),
    )
    (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    return folder


def questions() -> list[Question]:
    return [
        Question(
            id=f"webmedqa:{category}{number}",
            category=category,
            question=f"{category}问题{number}？{HOSTILE}",
            references=(f"真实答案{number}",),
            distractors=(f"别题的答案{number}。{HOSTILE}", f"再一个别题的答案{number}"),
        )
        for category, size in CATEGORIES.items()
        for number in range(size)
    ]


def summary(systems: Sequence[str] = SYSTEMS, *, judged: bool = True) -> Summary:
    rng = random.Random(1)
    n = sum(CATEGORIES.values())
    columns = [(protocol, metric) for protocol in ("strict", "medchatzh") for metric in METRICS]
    columns += [(JUDGE, "reward")] if judged else []
    level = {
        (system, protocol, metric): (
            LEVEL.get(system, 20.0) / 20 - 1 if protocol == JUDGE else LEVEL.get(system, 20.0) * (1 + (protocol != "strict")) / place
        )
        for system in systems
        for place, (protocol, metric) in enumerate(columns, 1)
    }

    def mean(system: str, protocol: str, metric: str, half: float, n: int) -> dict[str, Any]:
        value = level[system, protocol, metric] + rng.uniform(-half, half)
        return {"system": system, "protocol": protocol, "metric": metric, "mean": value, "low": value - half, "high": value + half, "n": n}

    def difference(other: str, protocol: str, metric: str) -> PairedDifference:
        value = level[systems[0], protocol, metric] - level[other, protocol, metric]
        verdict: Verdict = "not distinguishable" if abs(value) < 0.5 and protocol != JUDGE else "better" if value > 0 else "worse"
        return PairedDifference(
            main=systems[0],
            other=other,
            protocol=protocol,
            metric=metric,
            mean=value,
            low=value - 0.5,
            high=value + 0.5,
            p_value=0.001,
            p_holm=0.02,
            n=n,
            verdict=verdict,
        )

    return Summary(
        main=systems[0],
        systems=tuple(systems),
        protocols=("strict", "medchatzh"),
        metrics=METRICS,
        signatures={
            name: {metric: f"{metric.partition('-')[0]}|refs:{name}|v:test" for protocol, metric in columns if protocol == name}
            for name in dict.fromkeys(protocol for protocol, _ in columns)
        },
        questions=Reconciliation(loaded=n + 3, repeated=2, no_reference=1, scorable=n),
        num_resamples=2000,
        confidence=0.95,
        min_category_size=30,
        categories=CATEGORIES,
        means=tuple(Mean(**mean(system, *column, 0.3, n)) for system in systems for column in columns),
        by_category=tuple(
            CategoryMean(category=category, small=size < 30, **mean(system, *column, 1.5 / math.sqrt(size), size))
            for category, size in CATEGORIES.items()
            for system in systems
            for column in columns
            if column[0] in ("strict", JUDGE)
        ),
        differences=tuple(difference(other, *column) for other in systems[1:] for column in columns),
        clean=tuple(Mean(**mean(system, *column, 0.4, n - 9)) for system in systems for column in columns),
        overlap=tuple(
            CategoryOverlap(
                category=category,
                num_questions=size,
                num_clean=size - 9,
                exact=4,
                contained=3,
                near=2,
                question_share=0.25,
                answer_share=0.1,
            )
            for category, size in (("", n), ("内科", CATEGORIES["内科"]))
        ),
        ablations=tuple(
            SeededDifference(arm=ARM, protocol="strict", metric=metric, mean=2.0, low=-1.0, high=5.0, n=n, by_seed=(1.0, 2.0, 3.0))
            for metric in METRICS
            if ARM in systems
        ),
        judges=(RewardModel(metric="reward", fingerprint="abc", filtered=False),) if judged else (),
        answers=tuple(
            Answers(system=system, n=n, empty=1, cut=4, prompt_too_long=0, mean_chars=80.5, distinct_1=0.02, distinct_2=0.2)
            for system in systems
        ),
        published=TABLE_1,
    )


def predictions(system: str, asked: Sequence[Question]) -> list[Prediction]:
    return [
        Prediction(
            id=question.id, category=question.category, system=system, question=question.question, answer=f"{system}的回答：{HOSTILE}"
        )
        for question in asked
    ]


def training(folder: Path, stage: str, start: float, *, config: Mapping[str, Any] | None = None, **facts: Any) -> Path:
    folder.mkdir(parents=True)
    rng = random.Random(stage)
    log = [
        {
            "step": step,
            "loss": start * math.exp(-step / 200) + 1.5 + rng.gauss(0, 0.12),
            "learning_rate": 1e-3,
            "grad_norm": 1.0,
            "tokens": 2048,
        }
        for step in range(1, 601)
    ]
    (folder / "metrics.jsonl").write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in log))
    common = {
        "num_parameters": 3_456_789,
        "num_steps": 600,
        "num_tokens": 1_228_800,
        "loss_first": log[0]["loss"],
        "loss_last": log[-1]["loss"],
    }
    return finish(folder, stage, config=config, counts=(1000, 950), dropped={"held_out": 50}, facts=common | facts)


def rejects(folder: Path, stage: str, reasons: Mapping[str, int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "id": "clinic:1",
        "turns": [{"role": "user", "content": f"失眠怎么办 {HOSTILE}"}, {"role": "assistant", "content": "加微信 13800138000"}],
    }
    found = [
        Reject(id=f"clinic:{reason}{number}", source="clinic", stage=stage, reason=reason, detail=f"见 {reason} {number}", record=record)
        for reason, size in reasons.items()
        for number in range(size)
    ]
    write(folder / "rejects.jsonl", found)


def near_pairs(folder: Path) -> None:
    def turns(answer: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": f"失眠怎么办 {HOSTILE}"}, {"role": "assistant", "content": answer}]

    pair = {
        "similarity": 0.875,
        "dropped": {"id": "clinic:9", "turns": turns("建议规律作息，睡前不喝浓茶，电话13800138000。")},
        "keeper": {"id": "clinic:1", "turns": turns("建议规律作息，睡前不喝咖啡，电话13800138000。")},
    }
    (folder / "near_pairs.jsonl").write_bytes(msgspec.json.encode(pair) + b"\n")


def evaluated(folder: Path, found: Summary, asked: Sequence[Question]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_bytes(msgspec.json.encode(found))
    metrics = {"strict/BLEU-1": 21.5, "strict/ROUGE-L": 14.25, "medchatzh/BLEU-1": 50.0, "reward": 0.5}
    write(
        folder / "scores.jsonl",
        (
            Score(id=question.id, system=system, metric=metric, value=value + (place * 7 + number * 11) % 13)
            for number, system in enumerate(found.systems)
            for place, question in enumerate(asked)
            for metric, value in metrics.items()
        ),
    )
    return finish(folder, "evaluate", counts=(len(asked), len(asked)), dropped={"repeated_question": 2})


@pytest.fixture
def finished_run(tmp_path: Path) -> dict[str, Path]:
    """Label → folder of a whole run: one ablation arm, two floors, one system whose predictions are empty."""
    asked = questions()
    root = tmp_path / "run"
    inputs: dict[str, Path] = {}
    rejects(root / "ingest", "ingest", {"bad_row": 5})
    write(root / "ingest" / "questions.jsonl", asked)
    inputs["ingest"] = finish(
        root / "ingest",
        "ingest",
        config={"sources": [{"name": "belle", "pool": "general"}, {"name": "clinic", "pool": "medical"}]},
        counts=(1205, 1200),
        dropped={"bad_row": 5},
        facts={"sources": {"belle": {"num_rows": 400}, "clinic": {"num_rows": 805}}},
    )
    rejects(root / "curate", "curate", {"too_short": 120, "in_benchmark": 30})
    near_pairs(root / "curate")
    inputs["curate"] = finish(
        root / "curate",
        "curate",
        counts=(1200, 1050),
        dropped={"too_short": 120, "in_benchmark": 30},
        facts={
            "by_pool": {
                "general": {"num_in": 400, "num_out": 380, "dropped": {"too_short": 20}},
                "medical": {"num_in": 800, "num_out": 670, "dropped": {"too_short": 100, "in_benchmark": 30}},
            },
            "by_source": {
                "belle": {"num_in": 400, "num_out": 380, "dropped": {"too_short": 20}},
                "clinic": {"num_in": 800, "num_out": 670, "dropped": {"too_short": 100, "in_benchmark": 30}},
            },
            "edits": {"list_numbering": 80, "full_width": 12},
            "lengths": {"medical": {"bins": [0, 20, 200], "before": [150, 600, 50], "after": [30, 590, 50]}},
            "benchmark_overlap": {"clinic": {"exact": 20, "contained": 10}},
            "personal_data": {"mobile": 7, "wechat": 2},
            "boilerplate": [["祝您早日康复", 41], [HOSTILE, 12]],
        },
    )
    inputs["books"] = finish(root / "books", "books", counts=(10, 230))
    inputs["tokenizer"] = finish(root / "tokenizer", "tokenizer", counts=(100, 1), facts={"vocab_size": 8000})
    inputs["pretrain"] = training(
        root / "pretrain", "pretrain", 6.0, held_out_loss=4.25, held_out_bits_per_char=5.5, num_split_documents=31
    )
    model, length = {"accuracy": 0.61, "low": 0.52, "high": 0.7}, {"accuracy": 0.58, "low": 0.5, "high": 0.66}
    sizes = {"num_pairs": 420, "num_groups": 60}
    calibration = {"ece": 0.0213, "ece_by_chance": 0.0187, "temperature": 0.41, "curve": [[0.55, 0.53, 60], [0.7, 0.72, 60]]}
    ahead = {"above_length": {"difference": 0.02, "low": -0.03, "high": 0.06}}
    held_out = {source: {"model": model | sizes, "length": length | sizes} | ahead | calibration for source in ("all", "rankings")}
    found = model | sizes | {"taught": True}
    defects = {"defects": {"repeated": found | {"accuracy": 0.987}, "shuffled": found | {"taught": False}}}
    inputs["reward"] = training(root / "reward", "reward", 0.5, held_out=held_out, num_answers_too_long=3, **defects)
    rejects(root / "score", "score", {"low_reward": 134})
    curve = [[round(-2 + 0.2 * place, 3), round(1 - place / 20, 3)] for place in range(21)]
    facts = {
        "threshold": -1.2,
        "kind": "quantile",
        "quantiles": [pair[0] for pair in curve],
        "retention": curve,
        "reward_fingerprint": "abc",
    }
    inputs["score"] = finish(root / "score", "score", counts=(670, 536), dropped={"low_reward": 134}, facts=facts)
    inputs["mix"] = finish(
        root / "mix",
        "mix",
        counts=(916, 900),
        dropped={"over_share": 16},
        facts={
            "by_pool": {
                "general": {"num_in": 380, "train": 370, "validation": 10, "repeats": 0},
                "medical": {"num_in": 536, "train": 530, "validation": 6, "repeats": 16},
            },
            "by_source": {
                "belle": {"num_in": 380, "train": 370, "validation": 10, "repeats": 0},
                "clinic": {"num_in": 536, "train": 530, "validation": 6, "repeats": 16},
            },
        },
    )
    inputs["sft"] = training(root / "sft", "sft", 4.0, held_out_loss=3.1, num_split_dialogues=2, config={"pools": ["general", "medical"]})
    inputs[f"sft@{ARM}"] = training(root / "sft-arm", f"sft@{ARM}", 4.4, held_out_loss=3.9, config={"pools": ["general"]})
    inputs["judge"] = finish(root / "judge", "score@judge", facts={"reward_fingerprint": "abc"})
    inputs["evaluate"] = evaluated(root / "evaluate", summary(), asked)
    for system in (*SYSTEMS, "silent"):
        folder = root / f"generate-{system}"
        folder.mkdir()
        write(folder / "predictions.jsonl", predictions(system, asked if system != "silent" else []))
        kind = system if system in ("canned", "random") else "checkpoint"
        inputs[f"generate@{system}"] = finish(folder, f"generate@{system}", config={"system": system, "kind": kind})
    return inputs


@pytest.fixture
def summarized(tmp_path: Path) -> Callable[[Summary], dict[str, Path]]:
    """A summary → the inputs of a report that has nothing but that evaluation."""
    return lambda found: {"evaluate": evaluated(tmp_path / "alone", found, [])}
