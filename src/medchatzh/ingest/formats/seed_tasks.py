"""BELLE's seed tasks: {"instruction", "instances": [{"input", "output"}]}; each instance is a row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from medchatzh.ingest.formats import alpaca
from medchatzh.ingest.formats.registry import form
from medchatzh.ingest.turns import Unusable
from medchatzh.records import Dialogue


def split(task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    instances = task["instances"]
    if not isinstance(instances, list) or not instances:
        yield task
        return
    for instance in instances:
        yield {"instruction": task["instruction"], **(instance if isinstance(instance, dict) else {"instances": instance})}


@form("seed_tasks", {"instruction", "instances"}, split=split)
def convert(instance: dict[str, Any]) -> Dialogue:
    if "instances" in instance:
        raise Unusable("unknown_format", "instances is not a list of {input, output}")
    return alpaca.convert(instance)
