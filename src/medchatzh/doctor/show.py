"""Findings for people, for machines, and the page of all checks."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from medchatzh.doctor.finding import CHECKS, Finding, checks
from medchatzh.doctor.machine import Machine, summary

_MARKS = {"error": "✗ 错误 error", "warning": "! 警告 warning", "note": "· 提示 note"}
_THEMES = {"machine": "机器 / Machine", "settings": "设置 / Settings", "checkpoint": "检查点 / Checkpoints", "data": "数据 / Data"}


def text(found: Sequence[Finding], machine: Machine, num_checks: int, seconds: float) -> str:
    """The findings, the gravest first."""
    lines = [f"机器 machine  {summary(machine)}", ""]
    for severity, mark in _MARKS.items():
        for finding in (one for one in found if one.severity == severity):
            known = CHECKS[finding.check]
            lines += [
                f"{mark}  {finding.check} · {known.fault}",
                f"    {finding.where}",
                f"    {finding.what}",
                f"    → {known.remedy} / {finding.remedy}",
                "",
            ]
    counts = {severity: sum(one.severity == severity for one in found) for severity in _MARKS}
    told = " · ".join(f"{mark.partition(' ')[2]} {counts[severity]}" for severity, mark in _MARKS.items())
    lines.append(f"{num_checks} 项检查 checks · {told} · {seconds:.1f} s")
    return "\n".join(lines) + "\n"


def as_json(found: Sequence[Finding], machine: Machine, num_checks: int, seconds: float) -> str:
    """The same for machines."""
    told = [
        {"check": one.check, "severity": one.severity, "where": one.where, "what": one.what, "remedy": one.remedy}
        | {"fault_zh": CHECKS[one.check].fault, "remedy_zh": CHECKS[one.check].remedy}
        for one in found
    ]
    shown = {name: value for name, value in msgspec.to_builtins(machine).items() if name not in ("versions", "requirements")}
    table = {"findings": told, "machine": shown, "num_checks": num_checks, "seconds": round(seconds, 2)}
    return msgspec.json.format(msgspec.json.encode(table), indent=2).decode() + "\n"


def page() -> str:
    """docs/doctor.md: one line a check, theme by theme."""
    lines = [
        "<!-- made by `make docs`; edit the code, not this page -->",
        "# 体检 / Doctor",
        "",
        "`medchatzh doctor [RECIPE]` 在开跑之前查出最常见的毛病；不给配方时只查机器。有错误（会失败）时退出码为 1，只有警告时为 0。",
        "",
        "`medchatzh doctor [RECIPE]` finds the commonest faults before they cost hours; without a recipe it looks at the machine alone."
        " Exit status 1 where something will fail (error), else 0. It reads a bounded sample of the data, loads no weights, writes"
        " nothing and asks nothing of the network. A check that itself fails is told as a note.",
        "",
    ]
    for theme, title in _THEMES.items():
        lines += [f"## {title}", "", "| check | 问题 | 办法 | finds |", "|---|---|---|---|"]
        rows = [[f"`{one.name}`", one.fault, one.remedy, one.meaning] for one in checks((theme,))]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
        lines.append("")
    return "\n".join(lines)
