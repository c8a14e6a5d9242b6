"""The report's section on exams: shares of right answers, and whether they are more than a guess."""

from __future__ import annotations

from medchatzh.metrics.exam import FILE, Accuracy, ExamSummary, Paired, load
from medchatzh.report.charts import Estimate
from medchatzh.report.data import Inputs, Kind
from medchatzh.report.view import Block, Both, Cell, Row, Table, Text, Tone, count, decimal, interval, text

_FLOORS = {"same_letter": "总选同一项", "random": "随机", "longest_option": "选最长项"}
_WHOLE = {"micro": "全部 / micro", "macro": "科目平均 / macro"}
_TONES: dict[str, Tone] = {"better": "good", "worse": "bad", "not distinguishable": ""}


def exam(inputs: Inputs) -> tuple[Block, ...]:
    """Each exam in each setting, by subject, with the floors; and the main system against the others. Nothing where none was held."""
    folder = inputs.folders.get("exam")
    if folder is None:
        return ()
    found = load(folder / FILE)
    blocks: list[Block] = [Text(Both(*_verdict(found, exam.exam)), _tone(found, exam.exam)) for exam in found.exams if exam.num_scorable]
    for held in found.exams:
        if not held.num_scorable:
            said = Both(
                f"{held.exam}：{held.num_questions:,} 题均无公开答案；所选项已写入提交文件。",
                f"{held.exam}: no answer to its {held.num_questions:,} questions is published; the choices are in the submission files.",
            )
            blocks.append(Text(said))
            continue
        for setting in found.settings:
            blocks.append(_by_subject(inputs, found, held.exam, setting))
        blocks.append(_differences(inputs, found, held.exam))
    if found.unanswered:
        left = ", ".join(f"{who}: {number:,}" for who, number in found.unanswered.items())
        blocks.append(Text(Both(f"放不进上下文、未作答：{left}。", f"Too long for the model, not answered: {left}."), "warn"))
    return tuple(blocks)


def _verdict(found: ExamSummary, exam: str) -> tuple[str, str]:
    held = next(one for one in found.exams if one.exam == exam)
    rows = _against_floors(found, exam)
    beaten = sum(row.verdict == "better" for row in rows)
    zh = f"{exam}：有答案的 {held.num_scorable:,} 题（共 {held.num_questions:,} 题），猜对的期望 {held.chance:.1%}；"
    en = f"{exam}: {held.num_scorable:,} of {held.num_questions:,} questions have a published answer, guessing gets {held.chance:.1%}; "
    zh += f"主模型与下限的 {len(rows)} 次比较中，{beaten} 次更好。" + ("" if beaten else "成绩与猜测无法区分。")
    en += f"the main system is better in {beaten} of {len(rows)} comparisons with floors" + ("." if beaten else ": no more than a guess.")
    return zh, en


def _tone(found: ExamSummary, exam: str) -> Tone:
    rows = _against_floors(found, exam)
    return "good" if rows and all(row.verdict == "better" for row in rows) else "warn"


def _against_floors(found: ExamSummary, exam: str) -> list[Paired]:
    return [row for row in found.differences if row.exam == exam and row.other in found.floors]


def _by_subject(inputs: Inputs, found: ExamSummary, exam: str, setting: str) -> Table:
    """Subjects down, systems across."""
    rows = [row for row in found.accuracies if row.exam == exam and row.setting in (setting, "")]
    systems = tuple(dict.fromkeys(row.system for row in rows))
    cells = {(row.subject, row.system): row for row in rows}
    lines = []
    for subject in dict.fromkeys(row.subject for row in rows):
        shares = [cells.get((subject, system)) for system in systems]
        n = max(share.n for share in shares if share)
        lines.append(Row((text(_WHOLE.get(subject, subject)), count(n), *map(_share, shares))))
    labels = (_label(inputs, found, system)[0] for system in systems)
    notes = (
        Both("百分比；区间为 Wilson 95 %", "percent; the intervals are Wilson's, 95 %"),
        Both(
            "“总选同一项”取事后看来最好的选项；参数很少的模型接近猜测是意料之中的",
            "same_letter is the letter that turned out best; that a model of few parameters is near a guess is to be expected",
        ),
    )
    caption = Both(f"{exam}，{setting}", f"{exam}, {setting}: right answers by subject")
    return Table(caption, ("科目 / subject", "题 / n", *labels), tuple(lines), notes, (found.signatures[exam][setting],))


def _differences(inputs: Inputs, found: ExamSummary, exam: str) -> Table:
    columns = (
        "对照 / other",
        "设置 / setting",
        "题 / n",
        "差 / difference",
        "仅主对 / only main",
        "仅对照对 / only other",
        "p",
        "p (Holm)",
        "",
    )
    lines = []
    for row in found.differences:
        if row.exam != exam:
            continue
        label, kind = _label(inputs, found, row.other)
        tone = _TONES[row.verdict]
        moved = interval(Estimate(100 * row.mean, 100 * row.low, 100 * row.high), 1, signed=True, tone=tone)
        counts = (count(row.only_main), count(row.only_other))
        p_values = (Cell(decimal(value, 4), value=value) for value in (row.p_value, row.p_holm))
        lines.append(Row((text(label), text(row.setting), count(row.n), moved, *counts, *p_values, text(row.verdict, tone)), kind))
    note = Both(
        "百分点；McNemar 精确检验，p 按本次考试的全部比较校正（Holm）",
        "percentage points; McNemar's exact test, corrected for all comparisons of the exams (Holm)",
    )
    caption = Both(f"{exam}：{found.main} 与其他", f"{exam}: {found.main} against the others")
    return Table(caption, columns, tuple(lines), (note,), tuple(found.signatures[exam].values()))


def _label(inputs: Inputs, found: ExamSummary, system: str) -> tuple[str, Kind]:
    if system in found.floors:
        return f"{system}（{_FLOORS.get(system, system)}）", "floor"
    known = inputs.system(system)
    return known.label, "main" if system == found.main else known.kind


def _share(row: Accuracy | None) -> Cell:
    return interval(Estimate(100 * row.mean, 100 * row.low, 100 * row.high), 1) if row else Cell()
