"""The page in a real browser: by keys alone, resumed, and asking nobody but its own server."""

import shutil
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from medchatzh.label.server import Server
from medchatzh.label.session import Session
from tests.label.conftest import HOSTILE

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


@pytest.fixture
def server(made) -> Iterator[Server]:
    """All 40 questions."""
    folder, _ = made(num_tasks=40, overlap=1.0)
    session = Session(folder, "wang")
    made_server = Server(session)
    threading.Thread(target=made_server.serve_forever, args=(0.01,), daemon=True).start()
    yield made_server
    made_server.shutdown()
    made_server.server_close()
    session.close()


@pytest.fixture
def visit(chromium, server) -> Iterator[Callable[..., Any]]:
    """Opens the page, with options of a browser context; afterwards no complaint, and no request to anybody else."""
    contexts: list[Any] = []
    asked: list[str] = []
    complaints: list[str] = []

    def visit(**options: Any) -> Any:
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(server.url)
        page.wait_for_selector(".answer, #told:not([hidden])")
        return page

    visit.complaints = complaints
    yield visit
    for context in contexts:
        context.close()
    assert asked and all(url.startswith(server.url) or url == "data:," for url in asked), asked
    assert complaints == []


def count(page: Any, text: str) -> None:
    playwright.expect(page.locator("#count")).to_have_text(text)


def keys(page: Any, *pressed: str) -> None:
    for key in pressed:
        page.keyboard.press(key)


def test_ranking_by_keys_alone_and_a_reload_goes_on(visit, server):
    page = visit()
    assert page.locator("[name=submit]").is_disabled()
    keys(page, "2", "1", "3")
    assert page.locator("#order").inner_text() == "B › A › C · 待排 / to rank: D"
    keys(page, "Enter")
    assert server.session.num_done == 0, "nothing half done is sent"
    keys(page, "3", "c", "1")
    assert page.locator("#order").inner_text() == "B = C › A › D"
    keys(page, "n")
    page.keyboard.type("s1 好")
    keys(page, "Control+Enter")
    count(page, "1 / 40")
    task = server.session.queue[0]
    verdict = server.session.verdict(task)
    assert [verdict.ranks[number] for number in server.session.shown(task)] == [3, 1, 1, 4]
    assert verdict.note == "s1 好" and 0 < verdict.seconds < 60

    keys(page, "s", "2")
    count(page, "2 / 40")
    assert server.session.verdict(server.session.queue[1]).skip == "unclear_question"
    asked = page.locator("#question").inner_text()
    page.reload()
    count(page, "2 / 40")
    assert page.locator("#question").inner_text() == asked and page.locator("#order").inner_text() == "待排 / to rank: A B C D"
    keys(page, "1", "2", "3", "4", "Enter")
    count(page, "3 / 40")


def test_the_way_back_shows_and_changes_what_was_said(visit, server):
    page = visit()
    keys(page, "4", "3", "2", "1", "Enter")
    count(page, "1 / 40")
    keys(page, "ArrowLeft")
    playwright.expect(page.locator("#order")).to_have_text("D › C › B › A")
    assert "Answered before" in page.locator("#told").inner_text()
    keys(page, "a", "1", "Enter")
    playwright.expect(page.locator("#question .category")).to_contain_text("2 / 40")
    task = server.session.queue[0]
    assert server.session.verdict(task).ranks[server.session.shown(task)[0]] == 1 and server.session.version(task) == 2
    keys(page, "ArrowRight")
    playwright.expect(page.locator("#question .category")).to_contain_text("3 / 40")
    assert server.session.num_done == 1, "turning a page is no verdict"


def test_keys_mend_and_leave_text_fields_alone(visit, server):
    page = visit()
    keys(page, "1", "a", "Backspace")
    assert page.locator("#order").inner_text() == "待排 / to rank: A B C D"
    keys(page, "9", "i", "z", "n")
    page.keyboard.type("a1s")
    assert page.locator("textarea").input_value() == "a1s" and page.locator("#order").inner_text() == "待排 / to rank: A B C D"
    keys(page, "Escape", "s", "Escape")
    assert not page.locator("#reasons").is_visible()
    keys(page, "s", "4")
    count(page, "1 / 40")
    assert server.session.verdict(server.session.queue[0]).note == "a1s"
    keys(page, "s", "4")
    playwright.expect(page.locator("#told")).to_contain_text("say why in a note")
    assert server.session.num_done == 1
    visit.complaints.clear()  # the browser logs the refusal


def test_keys_count_while_an_input_method_is_on(visit):
    page = visit()
    page.evaluate(
        """() => {
        for (const code of ["Digit2", "KeyC", "Numpad1"])
            document.dispatchEvent(new KeyboardEvent("keydown", { key: "Process", code, bubbles: true, cancelable: true }));
    }""".replace("document.dispatchEvent", "document.body.dispatchEvent")
    )
    assert page.locator("#order").inner_text() == "C › A · 待排 / to rank: B D"


def test_a_mouse_will_do(visit, server):
    page = visit()
    for answer, rank in enumerate((2, 2, 1, 4)):
        page.locator(".answer").nth(answer).get_by_role("button", name=str(rank), exact=True).click()
    assert page.locator(".answer").nth(2).locator("[aria-pressed=true]").inner_text() == "1"
    page.locator("[name=submit]").dblclick()
    count(page, "1 / 40")
    assert not page.locator("#told").is_visible(), "the second click sends nothing"
    page.locator("[name=skip]").click()
    page.get_by_role("button", name="1 都不对 / all wrong").click()
    count(page, "2 / 40")


def test_html_in_an_answer_is_text(visit, server):
    task = next(task for task in server.session.queue if any(one.text == HOSTILE for one in task.candidates))
    server.session.queue.remove(task)
    server.session.queue.insert(0, task)
    page = visit()
    texts = page.locator(".answer .text").all_text_contents()
    assert HOSTILE in texts and page.locator(".answer img, .answer script").count() == 0
    assert "Preference labelling" in page.title()


def test_answers_do_not_overtake_each_other(visit, server):
    """Keys come faster than answers; what is shown then stays."""
    page = visit()
    keys(page, *["ArrowRight"] * 12)
    page.wait_for_timeout(300)
    shown = page.locator("#question .category").inner_text()
    page.wait_for_timeout(300)
    assert page.locator("#question .category").inner_text() == shown != "1 / 40"


def test_two_tabs_one_labeller(visit, server):
    first, second = visit(), visit()
    keys(first, "1", "2", "3", "4", "Enter")
    count(first, "1 / 40")
    keys(second, "4", "3", "2", "1", "Enter")
    playwright.expect(second.locator("#told")).to_contain_text("nothing was overwritten")
    playwright.expect(second.locator("#order")).to_have_text("A › B › C › D")
    count(second, "1 / 40")
    assert server.session.version(server.session.queue[0]) == 1
    visit.complaints.clear()


def test_an_enter_too_many_answers_nothing(visit, server):
    page = visit()
    keys(page, "1", "2", "3", "4", "Enter", "Enter", "Enter")
    count(page, "1 / 40")
    page.wait_for_timeout(200)
    assert server.session.num_done == 1


def test_a_server_that_is_gone_is_told(visit, server):
    page = visit()
    server.shutdown()
    server.server_close()
    keys(page, "1", "2", "3", "4", "Enter")
    playwright.expect(page.locator("#told")).to_contain_text("has medchatzh ended in the terminal?")
    assert page.locator("#order").inner_text() == "A › B › C › D", "and the ranking is still there"
    visit.complaints.clear()


def test_all_done(visit, server):
    for task in server.session.queue[:39]:
        server.session.save(task, [1, 2, 3, 4])
    page = visit()
    keys(page, "1", "1", "1", "1", "Enter")
    count(page, "40 / 40")
    assert "All done" in page.locator("#told").inner_text() and not page.locator("main").is_visible()
    page.get_by_role("button", name="look back").click()
    playwright.expect(page.locator("#question .category")).to_contain_text("40 / 40")


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_sticks_out_and_the_answer_in_hand_is_in_view(visit, width):
    page = visit(viewport={"width": width, "height": 850}, reduced_motion="reduce")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    keys(page, "1", "2", "3")
    page.wait_for_timeout(700)
    box, bar = page.locator(".answer.current").bounding_box(), page.locator(".bar").bounding_box()
    assert box["y"] >= 0 and box["y"] + box["height"] <= bar["y"] + 1


def test_the_tab_key_reaches_every_control(visit):
    page = visit()
    reached = set()
    for _ in range(60):
        keys(page, "Tab")
        reached.add(page.evaluate("(() => { const at = document.activeElement; return at.name || at.textContent.slice(0, 40); })()"))
    assert {"1", "2", "3", "4", "skip", "next", "note"} <= reached
    assert page.locator(".text[tabindex='0']").count() == 4
