"""Checks of what the paper says about its method: against another place of it, or against the source that it names."""

from __future__ import annotations

from collections.abc import Sequence

from medchatzh.claims.facts import Promise, Setting, Stage
from medchatzh.claims.world import Finding, World, check, found


def listed(items: Sequence[Promise | Setting | Stage]) -> dict[str, str]:
    """Names for the ledger's texts: `missing_en`, `missing_zh`."""
    return {"missing_en": "; ".join(one.english for one in items) or "–", "missing_zh": "、".join(one.chinese for one in items) or "–"}


@check("removed")
def removed(world: World) -> Finding:
    promises = world.facts.paper.promises.value
    missing = [promise for promise in promises if not promise.step]
    return found(not missing, num_promises=len(promises), num_steps=len(promises) - len(missing), **listed(missing))


@check("huatuo-data")
def huatuo_data(world: World) -> Finding:
    paper = world.facts.paper
    return found(paper.huatuo_data_section_2.value == paper.huatuo_data_section_4.value)


@check("huatuo-13b")
def huatuo_13b(world: World) -> Finding:
    return found(world.facts.paper.huatuo_billion.value == world.facts.others.huatuo_billion.value)


@check("independent-judge")
def independent_judge(world: World) -> Finding:
    return found(world.facts.paper.filter_model.value != world.facts.paper.judge_model.value)


@check("settings")
def settings(world: World) -> Finding:
    everything = world.facts.paper.settings.value
    missing = [setting for setting in everything if not setting.says]
    return found(not missing, num_settings=len(everything), num_stated=len(everything) - len(missing), **listed(missing))


@check("gleu")
def gleu(world: World) -> Finding:
    return found(world.facts.paper.gleu.value == world.facts.others.nltk_gleu.value)


@check("nltk-covers")
def nltk_covers(world: World) -> Finding:
    families = [name.partition("-")[0] for name in world.metrics]
    missing = [name for name, family in zip(world.metrics, families, strict=True) if family not in world.facts.others.nltk_measures.value]
    return found(not missing, num_missing=len(missing), num_metrics=len(world.metrics), missing=", ".join(missing) or "–")


@check("nltk-latest")
def nltk_latest(world: World) -> Finding:
    """Months as `2023-09` compare as texts."""
    others = world.facts.others
    return found(others.nltk_released.value <= world.facts.paper.posted.value < others.nltk_next.value)


@check("several-references")
def several_references(world: World) -> Finding:
    return found(world.facts.others.positives.value > 1)
