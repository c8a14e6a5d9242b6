"""An explanation as plain text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from medchatzh.explain.story import Check, Step, Story

_STAGES = {
    "ingest": "读入",
    "books": "古籍",
    "curate": "清洗",
    "score": "奖励",
    "mix": "混合",
    "sft": "微调",
    "reward": "奖励模型",
    "evaluate": "评测",
}
_MARKS = {"kept": "✓", "used": "✓", "dropped": "✗", "set aside": "–", "unknown": "?"}
_OUTCOMES = {"kept": "保留", "used": "使用", "dropped": "舍弃", "set aside": "未用", "unknown": "不明"}
_ROLES = {"keeper": "保留者", "benchmark question": "评测题"}
_KINDS = {"dialogue": "对话", "book": "书", "chapter": "章", "question": "评测题", "preference": "偏好", "row": "原始行", "text": "文本"}


def story(told: Story) -> str:
    """The whole story of a record."""
    place = "  ".join(filter(None, (told.id, told.origin, f"来源 source {told.source}" if told.source else "", told.pool)))
    lines = [f"{_KINDS.get(told.kind, told.kind)} {told.kind}  {place}"]
    lines += [f"  {told.text}"] if told.text else []
    for step in told.steps:
        lines += _step(step)
    return "\n".join(lines)


def _step(step: Step) -> Iterator[str]:
    said = ": ".join(filter(None, (step.reason, step.detail)))
    limits = f"  [{_limits(step.thresholds)}]" if step.thresholds else ""
    outcome = f"{_MARKS[step.outcome]} {_OUTCOMES[step.outcome]} {step.outcome}"
    yield f"{_STAGES.get(step.stage, step.stage)} {step.stage}  {outcome}" + (f"  {said}" if said else "") + limits
    for edit in step.edits:
        yield f"    修补 {edit.repair}（话轮 turn {edit.turn}）  {edit.change}"
    if step.excerpt:
        yield f"    所见 seen  {step.excerpt}"
    if step.other:
        other = step.other
        similarity = f"  J = {other.similarity:.3f}" if other.similarity is not None else ""
        yield f"    {_ROLES.get(other.role, other.role)} {other.role} {other.id}{similarity}{f'  （{other.fate}）' if other.fate else ''}"
        if other.text:
            yield f"      {other.text}"
    yield from (f"    {_check(check)}" for check in step.checks)
    yield from (f"    {note}" for note in step.notes)


def _check(check: Check) -> str:
    limits = f"  [{_limits(check.thresholds)}]" if check.thresholds else ""
    return f"{'✗' if check.seen else '✓'} {check.rule}{f': {check.seen}' if check.seen else ''}{limits}"


def _limits(thresholds: dict[str, object]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in thresholds.items())


def text(told: Sequence[Story]) -> str:
    """For people: the story of one record, or a line each of several."""
    if len(told) == 1:
        return story(told[0])
    rows = (f"  {one.id}  {one.origin}  {one.text[:40]}" for one in told)
    return "\n".join((f"{len(told)} 条记录，请给出其中一个 id / {len(told)} records; give one id:", *rows))


def as_json(told: Sequence[Story]) -> str:
    """For machines: a list of stories."""
    return msgspec.json.format(msgspec.json.encode(told), indent=2).decode()
