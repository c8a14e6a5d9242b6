import math
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medchatzh.report.charts import Bars, Curve, Effect, Estimate, Forest, Group, Histogram, Line, Lines, Profile, Slope, Slopes, draw
from medchatzh.report.flow import Band, Flow
from medchatzh.report.svg import Series, text_width, ticks

NAMESPACE = "{http://www.w3.org/2000/svg}"
HOSTILE = "<script>\"&'</script>"


def parse(chart) -> ElementTree.Element:
    return ElementTree.fromstring(draw(chart))


def marks(svg: ElementTree.Element, tag: str, css: str) -> list[ElementTree.Element]:
    return [found for found in svg.iter(NAMESPACE + tag) if css in found.get("class", "").split()]


def bars(*values: float | None, faded: bool = False) -> Bars:
    estimates = tuple(None if value is None else Estimate(value, value - 0.1, value + 0.1) for value in values)
    return Bars("scores", tuple(Series(f"s{number}", f"s{number}") for number in range(len(values))), (Group("内科", estimates, faded),))


def drawn_bars(svg: ElementTree.Element) -> list[ElementTree.Element]:
    """The bars without the legend's squares, which have no tooltip."""
    return [found for found in marks(svg, "rect", "bar") if found.find(NAMESPACE + "title") is not None]


def test_bars_are_as_long_as_their_values():
    first, second = drawn_bars(parse(bars(1.0, 3.0)))
    assert float(second.get("width")) == pytest.approx(3 * float(first.get("width")), abs=0.05)
    assert first.get("x") == second.get("x")


def test_negative_bars_end_where_positive_ones_begin():
    below, above = drawn_bars(parse(bars(-2.0, 2.0)))
    assert float(below.get("x")) + float(below.get("width")) == pytest.approx(float(above.get("x")), abs=0.05)
    assert below.get("width") == above.get("width")


def test_a_missing_bar_leaves_its_place_empty():
    one, three = drawn_bars(parse(bars(1.0, None, 1.0)))
    assert float(three.get("y")) - float(one.get("y")) == pytest.approx(18.0)


def test_small_groups_are_faded():
    assert not marks(parse(bars(1.0)), "rect", "faded")
    assert len(marks(parse(bars(1.0, faded=True)), "rect", "faded")) == 1


def test_whisker_spans_the_interval():
    svg = parse(Bars("t", (Series("a", "s1"),), (Group("g", (Estimate(2.0, 1.0, 4.0),)),)))
    (bar,), (whisker,) = drawn_bars(svg), marks(svg, "line", "whisker")
    unit = float(bar.get("width")) / 2
    assert float(whisker.get("x2")) - float(whisker.get("x1")) == pytest.approx(3 * unit, abs=0.05)


def test_forest_puts_the_neutral_line_in_the_middle_and_estimates_to_their_side():
    effects = (Effect("better", Estimate(2, 1, 3), "good", "+2"), Effect("worse", Estimate(-4, -5, -3), "bad", "-4"))
    svg = parse(Forest("t", effects))
    (axis,) = marks(svg, "line", "axis")
    right, left = (float(dot.get("cx")) - float(axis.get("x1")) for dot in marks(svg, "circle", "dot"))
    assert right > 0
    assert left == pytest.approx(-2 * right, abs=0.05)


def test_forest_measures_from_its_neutral_value():
    svg = parse(Forest("t", (Effect("coin", Estimate(0.5, 0.4, 0.6), "main", ""),), neutral=0.5))
    (dot,), (axis,) = marks(svg, "circle", "dot"), marks(svg, "line", "axis")
    assert dot.get("cx") == axis.get("x1")


def test_lines_fall_where_values_fall_and_skip_what_is_no_number():
    svg = parse(Lines("t", "x", "y", (Line("a", "main", ((0, 4.0), (1, math.nan), (2, 2.0), (3, 1.0))),)))
    (line,) = marks(svg, "polyline", "line")
    (x0, y0), (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in line.get("points").split())
    assert y0 < y1 < y2, "SVG counts downwards: a falling loss has growing y"
    assert (y1 - y0) == pytest.approx(2 * (y2 - y1), abs=0.2)
    assert (x1 - x0) == pytest.approx(2 * (x2 - x1), abs=0.2)


def test_faint_lines_stand_behind_and_out_of_the_legend():
    points = ((0.0, 1.0), (1.0, 2.0))
    svg = parse(Lines("t", "x", "y", (Line("smooth", "main", points), Line("raw", "main", points, faint=True))))
    assert ["faint" in line.get("class") for line in marks(svg, "polyline", "line")] == [True, False]
    assert "raw" not in [found.text for found in svg.iter(NAMESPACE + "text")]


def test_flow_heights_are_proportional_and_losses_named():
    svg = parse(Flow("t", ("in", "kept", "used"), (Band("clinic", "main", (1000, 600, 300)), Band("belle", "s2", (200, 200, None)))))
    heights = {tone: [float(node.get("height")) for node in marks(svg, "rect", tone)] for tone in ("main", "s2", "bad")}
    clinic, belle, lost = heights.values()
    assert clinic[0] == pytest.approx(clinic[1] / 0.6, abs=0.05) == pytest.approx(clinic[2] / 0.3, abs=0.05)
    assert belle == [pytest.approx(clinic[0] / 5, abs=0.05)] * 2
    assert lost == [pytest.approx(clinic[0] * 0.4, abs=0.05), pytest.approx(clinic[0] * 0.3, abs=0.05)]
    assert [found.text for found in marks(svg, "text", "loss")] == ["−400", "−300"]


def test_flow_ends_with_counts_and_shares():
    words = [found.text for found in parse(Flow("t", ("in", "out"), (Band("clinic", "main", (1000, 250)),))).iter(NAMESPACE + "text")]
    assert "clinic 1,000" in words and "250 (25 %)" in words


def test_small_sources_stand_apart():
    """Labels of many tiny sources would lie on each other."""
    bands = (Band("large", "main", (100_000, 1)), *(Band(f"small{number}", "s2", (number, number)) for number in range(1, 6)))
    svg = parse(Flow("t", ("in", "out"), bands))
    heights = sorted(float(found.get("y")) for found in svg.iter(NAMESPACE + "text") if (found.text or "").startswith(("small", "large")))
    assert min(after - before for before, after in pairwise(heights)) >= 14


def test_histogram_bars_stand_on_the_axis_and_are_as_tall_as_their_counts():
    svg = parse(Histogram("t", "chars", ("0–9", "≥ 10"), (100, 40), (50, 40), ("before", "after"), "main"))
    before, after = (
        [found for found in marks(svg, "rect", tone) if found.find(NAMESPACE + "title") is not None] for tone in ("floor2", "main")
    )
    tall = [float(bar.get("height")) for bar in (*before, *after)]
    assert tall == pytest.approx([tall[0], tall[0] * 0.4, tall[0] * 0.5, tall[0] * 0.4], abs=0.05)
    (axis,) = marks(svg, "line", "axis")
    assert all(float(bar.get("y")) + float(bar.get("height")) == pytest.approx(float(axis.get("y1")), abs=0.05) for bar in before)
    assert before[0].find(NAMESPACE + "title").text == "0–9: 100 → 50"


def test_a_profile_has_its_whiskers_where_its_intervals_are_and_gaps_where_nothing_is():
    curve = Curve("a", "s1", (Estimate(1.0, 0.0, 2.0), None, Estimate(3.0, 3.0, 3.0)))
    svg = parse(Profile("t", "x", "y", ("0–9", "10–19", "20–29"), (curve, Curve("b", "s2", (None,) * 3))))
    first, last = marks(svg, "circle", "dot")
    (whisker,) = marks(svg, "line", "interval")
    y = [float(whisker.get(end)) for end in ("y1", "y2")]
    assert float(whisker.get("x1")) == float(whisker.get("x2")) == pytest.approx(float(first.get("cx")), abs=0.05)
    assert sum(y) / 2 == pytest.approx(float(first.get("cy")), abs=0.1), "the whisker is about its value"
    assert float(first.get("cy")) - float(last.get("cy")) == pytest.approx(y[0] - y[1], abs=0.1), "2 units up, as the whisker is long"
    labels = {text.text: float(text.get("x")) for text in svg.iter(NAMESPACE + "text")}
    assert abs(float(last.get("cx")) - labels["20–29"]) < 10 < labels["20–29"] - labels["10–19"]


def test_slopes_put_the_best_on_top_and_cross_where_order_changes():
    up, down = Slope("up", "s1", (2, 1), ("1.00", "9.00")), Slope("down", "s2", (1, 2), ("2.00", "8.00"))
    svg = parse(Slopes("t", ("strict", "medchatzh"), (up, down)))
    (y0, y1), (z0, z1) = ([float(point.split(",")[1]) for point in line.get("points").split()] for line in marks(svg, "polyline", "line"))
    assert y0 == z1 > y1 == z0
    words = [found.text for found in svg.iter(NAMESPACE + "text")]
    assert "2. up\u20031.00" in words and "9.00\u20031. up" in words


def test_equal_ranks_do_not_lie_on_each_other():
    svg = parse(Slopes("t", ("a", "b"), tuple(Slope(name, "s1", (1, 1), ("1", "1")) for name in "xy")))
    assert len({(dot.get("cx"), dot.get("cy")) for dot in marks(svg, "circle", "dot")}) == 4


def test_a_system_without_a_rank_has_no_mark():
    svg = parse(Slopes("t", ("a", "b", "c"), (Slope("x", "s1", (1, None, 1), ("1", "", "2")),)))
    assert len(marks(svg, "circle", "dot")) == 2


@pytest.mark.parametrize(
    "chart",
    [
        Profile("empty", "x", "y", (), ()),
        Slopes("empty", ("a", "b"), ()),
        Bars("empty", (), ()),
        Forest("empty", ()),
        Lines("empty", "x", "y", ()),
        Lines("one", "x", "y", (Line("a", "main", ((1.0, 1.0),)),)),
        Histogram("empty", "chars", (), (), (), ("before", "after"), "main"),
        Flow("empty", ("in", "out"), ()),
        Flow("zero", ("in", "out"), (Band("a", "main", (0, 0)),)),
    ],
)
def test_nothing_to_draw_is_no_error(chart):
    assert parse(chart).find(NAMESPACE + "title").text == chart.title


@pytest.mark.parametrize(
    "chart",
    [
        Bars(HOSTILE, (Series(HOSTILE, HOSTILE),), (Group(HOSTILE, (Estimate(1, 0, 2),)),)),
        Forest(HOSTILE, (Effect(HOSTILE, Estimate(1, 0, 2), HOSTILE, HOSTILE),), left=HOSTILE, right=HOSTILE),
        Lines(HOSTILE, HOSTILE, HOSTILE, (Line(HOSTILE, HOSTILE, ((0, 0), (1, 1))),), ((0.5, HOSTILE),)),
        Flow(HOSTILE, (HOSTILE, HOSTILE), (Band(HOSTILE, HOSTILE, (2, 1)),)),
        Histogram(HOSTILE, HOSTILE, (HOSTILE,), (2,), (1,), (HOSTILE, HOSTILE), HOSTILE),
    ],
)
def test_every_text_is_escaped(chart):
    assert "<script" not in draw(chart)
    assert HOSTILE in [found.text for found in parse(chart).iter()]


finite = st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 6))  # scores, not subnormal numbers


@given(finite, st.floats(1e-3, 1e6))
def test_ticks_are_few_and_lie_within(low: float, length: float):
    high = low + length
    found = ticks(low, high)
    assert len(found) <= 6
    assert found == sorted(found)
    assert all(low - 1e-6 * length - 1e-9 <= tick <= high + 1e-6 * length + 1e-9 for tick in found)


@given(st.lists(st.tuples(finite, finite, finite).map(sorted), min_size=1, max_size=6))
def test_bars_stay_inside_the_drawing(triples):
    svg = parse(
        Bars("t", tuple(Series("s", "s1") for _ in triples), (Group("g", tuple(Estimate(mid, low, high) for low, mid, high in triples)),))
    )
    for bar in drawn_bars(svg):
        assert 0 <= float(bar.get("x")) <= float(bar.get("x")) + float(bar.get("width")) <= 760


def test_hanzi_are_wider_than_letters():
    assert text_width("内科") > text_width("ab") * 1.5
