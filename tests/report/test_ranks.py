"""What changes when only the protocol does."""

from pathlib import Path

import msgspec
import pytest

from medchatzh import report
from medchatzh.metrics.summary import Summary, load
from medchatzh.report.charts import Slopes
from medchatzh.report.view import Figure, Points, Table, Text
from medchatzh.run import Context


def place(folder: Path, values: dict[str, dict[str, dict[str, float]]], verdicts: dict[str, str] | None = None) -> None:
    """Set means: metric → protocol → system → value; and the verdicts on `canned`, protocol → verdict of BLEU-1."""
    path = folder / "summary.json"
    found: Summary = load(path)
    protocols = tuple(dict.fromkeys(protocol for by_protocol in values.values() for protocol in by_protocol))
    one, difference = found.means[0], found.differences[0]
    means = tuple(
        msgspec.structs.replace(one, system=system, protocol=protocol, metric=metric, mean=value)
        for metric, by_protocol in values.items()
        for protocol, row in by_protocol.items()
        for system, value in row.items()
    )
    differences = tuple(
        msgspec.structs.replace(difference, other="canned", protocol=protocol, metric="BLEU-1", verdict=verdict)
        for protocol, verdict in (verdicts or {}).items()
    )
    signatures = {protocol: {metric: f"{metric}|{protocol}" for metric in values} for protocol in protocols}
    changed = {"protocols": protocols, "metrics": tuple(values), "means": means, "differences": differences, "signatures": signatures}
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(found, **changed)))


def section(inputs) -> tuple:
    made = report.build(report.Config(), inputs, Context(seed=7))
    return next(section.blocks for section in made.sections if section.key == "protocols")


SYSTEMS = ("medchatzh", "canned", "random")


def ranked(*values: float) -> dict[str, float]:
    return dict(zip(SYSTEMS, values, strict=True))


@pytest.fixture
def swapped(finished_run):
    """BLEU-1 turns round altogether, ROUGE-L stays, over three protocols."""
    bleu = {"strict": ranked(3, 2, 1), "medchatzh": ranked(50, 60, 70), "huatuogpt-char": ranked(30, 20, 10)}
    rouge = {"strict": ranked(3, 2, 2), "medchatzh": ranked(9, 8, 7), "huatuogpt-char": ranked(3, 2, 1)}
    place(finished_run["evaluate"], {"ROUGE-L": rouge, "BLEU-1": bleu}, {"strict": "better", "medchatzh": "worse"})
    return finished_run


def test_ranks_stand_side_by_side_and_changes_are_marked(swapped):
    table = next(block for block in section(swapped) if isinstance(block, Table))
    cells = {row.cells[0].text.partition("（")[0]: [(cell.text, cell.tone) for cell in row.cells[1:]] for row in table.rows}
    assert cells["medchatzh"] == [("1 → 1 → 1", ""), ("1 → 3 → 1", "warn")]
    assert cells["canned"] == [("2 → 2 → 2", ""), ("2 → 2 → 2", "")]
    assert cells["random"] == [("2 → 3 → 3", "warn"), ("3 → 1 → 3", "warn")], "equal means have equal ranks"
    assert [cell.value for cell in table.rows[-1].cells[1:]] == [0, 3] and table.rows[-1].group != table.rows[0].group


def test_the_metric_with_most_reversals_is_drawn(swapped):
    (figure,) = (block for block in section(swapped) if isinstance(block, Figure))
    assert isinstance(figure.chart, Slopes) and figure.chart.columns == ("strict", "medchatzh", "huatuogpt-char")
    main = figure.chart.slopes[0]
    assert (main.ranks, main.values) == ((1, 3, 1), ("3.00", "50.00", "30.00"))
    assert figure.signatures == ("strict: BLEU-1|strict", "medchatzh: BLEU-1|medchatzh", "huatuogpt-char: BLEU-1|huatuogpt-char")


def test_changed_order_and_verdicts_are_said_in_words(swapped):
    lead, _, points, *_ = section(swapped)
    assert "2 项指标中 1 项有系统的先后颠倒" in lead.text.zh and "BLEU-1 3 对" in lead.text.zh and lead.tone == "warn"
    assert isinstance(points, Points)
    assert points.items[0].text.zh == "medchatzh 对 canned（固定答案）：BLEU-1 ▲ 更好 → ▼ 更差 → —。"


def test_equal_orders_are_said(finished_run):
    same = {"BLEU-1": {"strict": ranked(3, 2, 1), "medchatzh": ranked(30, 20, 10)}}
    place(finished_run["evaluate"], same, {"strict": "better", "medchatzh": "better"})
    lead, *rest = section(finished_run)
    assert "处处相同" in lead.text.zh and not any(isinstance(block, Points) for block in rest)


def test_one_protocol_compares_with_nothing(finished_run):
    place(finished_run["evaluate"], {"BLEU-1": {"strict": ranked(3, 2, 1)}})
    (said,) = section(finished_run)
    assert isinstance(said, Text) and "只用了一种协议" in said.text.zh


def test_one_system_compares_with_nothing(finished_run):
    place(finished_run["evaluate"], {"BLEU-1": {"strict": {"medchatzh": 1.0}, "medchatzh": {"medchatzh": 2.0}}})
    (said,) = section(finished_run)
    assert "没有两个可比的系统" in said.text.zh
