"""The page in a real browser, from a file, without a network."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from medchatzh import report
from medchatzh.records import Score, read
from medchatzh.run import Context

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no chromium on the PATH: apt-get install chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=list(QUIET))
        yield browser
        browser.close()


class Visit:
    """The report in a page of its own, with all that it asked for and complained of."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.url = path.as_uri()
        self.context = browser.new_context(**options)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page = self.context.new_page()
        self.context.route("**", self._answer)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        self.page.goto(self.url)

    def _answer(self, route: Any) -> None:
        """What gets so far would leave the page: the policy has let it through."""
        self.requests.append(route.request.url)
        route.continue_() if route.request.url == self.url else route.abort()

    def close(self) -> None:
        self.context.close()
        assert self.requests == [self.url], "nothing but the file itself"
        assert self.complaints == []


@pytest.fixture
def visit(chromium, finished_run, tmp_path) -> Iterator[Callable[..., Visit]]:
    """A visit with the given options of a browser context; afterwards no request and no complaint."""
    visits: list[Visit] = []
    out = tmp_path / "report"
    out.mkdir()
    report.run(report.Config(title="测试 <报告>", command="medchatzh run quickstart.toml"), finished_run, out, Context(seed=7))

    def made(**options: Any) -> Visit:
        visits.append(Visit(chromium, out / "report.html", **options))
        return visits[-1]

    yield made
    for one in visits:
        one.close()


@pytest.fixture
def page(visit) -> Any:
    return visit().page


SIZES = """svg => [...svg.querySelectorAll("rect, circle, polyline, path")].map(mark => {
    const box = mark.getBoundingClientRect();
    return Math.max(box.width, box.height);
})"""
OUTSIDE = """svg => {
    const frame = svg.viewBox.baseVal;
    return [...svg.querySelectorAll("text")].filter(text => {
        const box = text.getBBox();
        return box.width && (box.x < -1 || box.x + box.width > frame.width + 1 || box.y < -1 || box.y + box.height > frame.height + 1);
    }).map(text => text.textContent);
}"""


def test_every_chart_is_drawn_within_its_frame(page):
    charts = page.query_selector_all("figure svg")
    assert len(charts) > 12
    for chart in charts:
        box = chart.bounding_box()
        assert box["width"] > 300 and box["height"] > 40
        sizes = chart.evaluate(SIZES)
        assert sizes and max(sizes) > 5, chart.get_attribute("aria-label")
        assert chart.evaluate(OUTSIDE) == []


def column(table: Any, number: int) -> list[str]:
    return [cells[number] for cells in table.evaluate("t => [...t.tBodies[0].rows].map(row => [...row.cells].map(c => c.firstChild.data))")]


def test_a_click_sorts_what_compares_and_leaves_copied_rows_below(page):
    table = page.locator("#table1 table").first
    given, copied = column(table, 0), table.evaluate("t => t.tBodies[1].innerText")
    head = table.locator("thead th").nth(2)
    found = []
    for order in ("descending", "ascending", None):
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == order
        found.append((column(table, 0), [float(value) for value in column(table, 2)]))
        assert table.evaluate("t => t.tBodies[1].innerText") == copied, "rows without a protocol are never ranked"
    (_, falling), (_, rising), (names, _) = found
    assert falling == sorted(falling, reverse=True) and rising == sorted(rising) and len(set(rising)) == 5
    assert names == given, "a third click gives back the order of the report"
    assert table.locator("[aria-sort]").count() == 0


def test_keys_sort_too_and_one_column_at_a_time(page):
    table = page.locator("#table1 table").first
    buttons = table.locator("thead button")
    buttons.nth(2).focus()
    page.keyboard.press("Enter")
    by_bleu = column(table, 0)
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert [head.get_attribute("aria-sort") for head in table.locator("thead th").all()].count("descending") == 1
    assert table.locator("thead th").nth(3).get_attribute("aria-sort") == "descending"
    assert column(table, 3) == sorted(column(table, 3), key=float, reverse=True) and by_bleu[0].startswith("canned")
    buttons.nth(0).focus()
    page.keyboard.press("Enter")
    assert column(table, 0) == sorted(column(table, 0)), "text sorts upwards first"


@pytest.fixture
def scores(finished_run) -> dict[tuple[str, str, str], float]:
    return {(score.system, score.id, score.metric): score.value for score in read(finished_run["evaluate"] / "scores.jsonl", Score)}


def shown(page: Any) -> list[str]:
    """Ids of the questions in the list, by a walk through all of them."""
    walk = """list => [...list.children].map(option => {
        option.click();
        return document.querySelector(".browser article h3 code").textContent;
    })"""
    return page.locator(".browser .list").evaluate(walk)


def test_questions_sort_by_the_difference_of_two_systems(page, scores):
    page.select_option("[name=column]", label="medchatzh/BLEU-1")
    page.select_option("[name=first]", label="random（随机答案）")
    page.select_option("[name=second]", label="canned（固定答案）")

    def difference(key: str) -> float:
        return scores["random", key, "medchatzh/BLEU-1"] - scores["canned", key, "medchatzh/BLEU-1"]

    for order, measure in (
        ("ahead", lambda key: -difference(key)),
        ("behind", difference),
        ("difference", lambda key: -abs(difference(key))),
    ):
        page.select_option("[name=order]", order)
        found = shown(page)
        assert len(found) == 121 and found == sorted(found, key=measure) and measure(found[0]) < measure(found[-1])
    first, second = scores["random", found[0], "medchatzh/BLEU-1"], scores["canned", found[0], "medchatzh/BLEU-1"]
    numbers = f"{first:.2f} − {second:.2f} = {first - second:+.2f}".replace("-", "−")
    assert page.locator(".browser .option .numbers").first.inner_text() == numbers


def test_what_has_no_score_stands_last(page):
    page.select_option("[name=first]", label="silent")
    page.select_option("[name=order]", "difference")
    assert page.locator(".browser .option").count() == 121
    assert page.locator(".browser .option .numbers").first.inner_text().startswith("— −")


def test_filters_narrow_and_tell_how_many(page):
    page.select_option("[name=category]", "儿科")
    assert page.locator(".browser output").inner_text() == "1 / 12"
    assert {key.removeprefix("webmedqa:")[:2] for key in shown(page)} == {"儿科"}
    page.fill("[name=find]", "问题11？")
    assert shown(page) == ["webmedqa:儿科11"]
    page.fill("[name=find]", "没有这样的字")
    assert "没有符合的题目" in page.locator(".browser output").inner_text()
    assert page.locator(".browser article").inner_text() == "" and page.locator("[name=next]").is_disabled()


def test_a_question_shows_references_answers_and_scores(page, scores):
    article = page.locator(".browser article")
    key = article.locator("h3 code").inner_text()
    assert article.locator(".reference:not(.sampled)").inner_text().endswith("真实答案0")
    assert not article.locator(".sampled").first.is_visible()
    article.locator("summary").click()
    assert article.locator(".sampled").count() == 2 and "别题的答案0" in article.locator(".sampled").first.inner_text()
    page.locator("[name=next]").click()
    assert article.locator(".sampled").first.is_visible(), "unfolded for one, unfolded for the next"
    page.locator("[name=previous]").click()
    assert "<script>alert('x')</script>" in article.locator(".question").inner_text(), "shown, not obeyed"
    assert article.locator("dt").count() == 6 and "没有回答" in article.locator("dd").last.inner_text()
    tables = article.locator("table")
    assert [table.locator("thead th").all_inner_texts()[1:] for table in tables.all()] == [["BLEU-1", "ROUGE-L"], ["BLEU-1"], ["reward"]]
    assert "ROUGE|refs:strict|v:test" in article.locator(".signed").first.inner_text()
    canned = [cell.inner_text() for cell in tables.first.locator("tbody tr").nth(3).locator("td").all()]
    assert canned == [f"{scores['canned', key, f'strict/{metric}']:.2f}" for metric in ("BLEU-1", "ROUGE-L")]


def test_keys_turn_to_the_next_and_previous_question(page):
    def place() -> str:
        return page.locator(".browser output").inner_text()

    box = page.locator(".browser .list")
    box.focus()
    for key, expected in {"ArrowDown": 2, "j": 3, "PageDown": 13, "k": 12, "End": 121, "ArrowUp": 120, "Home": 1}.items():
        page.keyboard.press(key)
        assert place() == f"{expected} / 121"
        chosen = page.locator(".browser [aria-selected=true]")
        assert chosen.count() == 1 and chosen.get_attribute("id") == box.get_attribute("aria-activedescendant")
        inside = "(list) => { const at = list.querySelector('[aria-selected]').getBoundingClientRect(), box = list.getBoundingClientRect();"
        assert box.evaluate(inside + " return at.top >= box.top - 1 && at.bottom <= box.bottom + 1; }"), "the chosen one is in view"
    page.locator("[name=find]").focus()
    page.keyboard.type("k")
    assert page.input_value("[name=find]") == "k", "a letter typed is a letter"


REACHED = """() => {
    const at = document.activeElement, style = getComputedStyle(at);
    at.dataset.reached = "";
    if (at === document.body) return null;
    return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1 ? "" : at.outerHTML.slice(0, 120);
}"""
UNREACHED = """() => [...document.querySelectorAll("a, button, input, select, summary, [tabindex='0']")]
    .filter(one => !("reached" in one.dataset) && !one.disabled && one.checkVisibility()).map(one => one.outerHTML.slice(0, 120))"""


def test_the_tab_key_alone_reaches_everything_and_shows_where_it_is(page):
    unmarked, stops = [], 0
    while True:
        page.keyboard.press("Tab")
        shown = page.evaluate(REACHED)
        if shown is None:
            break
        unmarked += [shown] if shown else []
        stops += 1
        assert stops < 1000, "the focus never comes out of the page"
    assert unmarked == [] and page.evaluate(UNREACHED) == []


def test_the_page_lets_no_text_of_others_ask_or_run_anything(visit):
    one = visit()
    done = one.page.evaluate("""async () => {
        const refused = [];
        document.addEventListener("securitypolicyviolation", event => refused.push(event.effectiveDirective));
        const script = document.createElement("script");
        script.textContent = "document.title = 'taken over'";
        const image = new Image();
        image.src = "https://example.org/pixel.png";
        document.body.append(script, image);
        await fetch("https://example.org").catch(() => 0);
        await new Promise(done => setTimeout(done, 100));
        return [document.title, refused.sort()];
    }""")
    assert done == ["测试 <报告>", ["connect-src", "img-src", "script-src-elem"]]
    assert all("Content Security Policy" in said or "Fetch API cannot load" in said for said in one.complaints)
    one.complaints.clear()


def test_without_scripts_the_samples_and_tables_are_there(visit):
    page = visit(java_script_enabled=False).page
    assert not page.locator(".browser").is_visible() and page.locator("noscript p").is_visible()
    assert page.locator("#samples .sample").count() == 12 and page.locator("#samples .sample .question").first.is_visible()
    assert page.locator("thead button").count() == 0 and page.locator("#table1 table").count() == 4


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out_of_the_window(visit, width):
    page = visit(viewport={"width": width, "height": 800}).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width


CONTRAST = """() => {
    const channels = colour => {
        const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d");
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const light = colour => channels(colour).slice(0, 3).map(c => c / 255).map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
        .reduce((sum, c, at) => sum + c * [.2126, .7152, .0722][at], 0);
    const ground = one => {
        const colour = getComputedStyle(one).backgroundColor;
        return channels(colour)[3] || !one.parentElement ? colour : ground(one.parentElement);
    };
    const found = {};
    for (const one of document.querySelectorAll("main *")) {
        const own = [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim());
        if (!own || one.closest("svg") || !one.checkVisibility() || one.disabled) continue;
        const [a, b] = [light(getComputedStyle(one).color), light(ground(one))].sort((x, y) => y - x);
        const ratio = (a + .05) / (b + .05);
        if (ratio < 4.5) found[`${one.tagName} .${one.className}`] = ratio;
    }
    return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(visit, scheme):
    """4.5 to 1: WCAG 2.2, 1.4.3."""
    assert visit(color_scheme=scheme).page.evaluate(CONTRAST) == {}
