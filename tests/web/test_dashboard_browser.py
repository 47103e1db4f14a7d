"""The dashboard in a real Chromium, as somebody sees it and works it.

Needs Debian's `chromium` (apt-get install chromium); without it all of this is skipped.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from receiptd.clock import ManualClock
from tests.web.dashboard_scene import DAY, NOW, PHONE, Scene, ordinary_day
from tests.web.http_harness import TOKEN, Running, running

CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("Chromium is needed: apt-get install chromium", allow_module_level=True)

_ARGUMENTS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
# Returns the texts that are not told from their background, as `colour on colour: text`.
_FAINT = """
() => {
  const parse = colour => colour.match(/[0-9.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b]
    .map(one => one / 255)
    .map(one => one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
    .reduce((sum, one, place) => sum + one * [0.2126, 0.7152, 0.0722][place], 0);
  const paper = element => {
    for (let one = element; one; one = one.parentElement) {
      const colour = parse(getComputedStyle(one).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.99) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
    if (!text || element.closest("title, desc")) continue;
    const style = getComputedStyle(element);
    const ink = parse(element.closest("svg") ? style.fill : style.color);
    const [dark, bright] = [light(ink), light(paper(element))].sort((a, b) => a - b);
    const ratio = (bright + 0.05) / (dark + 0.05);
    if (ratio < 4.5) faint.push(`${ratio.toFixed(1)} ${ink} on ${paper(element)}: ${text}`);
  }
  return faint;
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        yield one
        one.close()


@pytest.fixture
def server(url: str) -> Iterator[Running]:
    with running(url, clock=ManualClock(NOW)) as one:
        yield one


@pytest.fixture
def scene(server: Running) -> Scene:
    return Scene(server.store, ManualClock(NOW))


Open = Callable[..., Page]


@pytest.fixture
def opened(browser: Browser, server: Running) -> Iterator[Open]:
    """Open a page in a fresh profile; at the end, nothing may have been complained about, and
    nothing asked of anybody else."""
    contexts: list[Any] = []
    complaints: list[str] = []
    asked: list[str] = []

    def open_(target: str = "/", *, width: int = 1360, **options: Any) -> Page:
        options.setdefault("locale", "en-US")
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"http://127.0.0.1:{server.http.port}{target}")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []
    assert {url.partition("?")[0].rpartition("/")[0] for url in asked} == {
        f"http://127.0.0.1:{server.http.port}"
    }


@contextmanager
def looked_at(page: Page, path: Path) -> Iterator[None]:
    """Leave a picture if what is looked at is not as it should be."""
    try:
        yield
    except AssertionError:
        page.screenshot(path=path / "page.png", full_page=True)
        raise


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("target", ["/", "/search?q=order-1", "/?period=1y"])
def test_every_text_is_told_from_its_background(
    opened: Open, scene: Scene, tmp_path: Path, colours: str, target: str
) -> None:
    ordinary_day(scene)
    scene.quarantined(1, "not_json")

    if "1y" in target:  # an error's status is a complaint of its own
        page = opened("/search?q=139****0001", color_scheme=colours)
    else:
        page = opened(target, color_scheme=colours)

    with looked_at(page, tmp_path):
        assert page.evaluate(_FAINT) == []


def test_dark_is_dark_and_light_is_light(opened: Open) -> None:
    papers = {
        colours: opened("/", color_scheme=colours).evaluate(
            "getComputedStyle(document.body).backgroundColor"
        )
        for colours in ("light", "dark")
    }

    assert papers == {"light": "rgb(245, 246, 248)", "dark": "rgb(15, 19, 23)"}


def test_it_works_without_scripts_by_clicking(opened: Open, scene: Scene) -> None:
    ordinary_day(scene)
    page = opened("/", java_script_enabled=False)
    expect(page.get_by_text("All is well")).to_be_visible()

    page.get_by_role("link", name="30 days").click()
    expect(page.get_by_role("link", name="30 days")).to_have_attribute("aria-current", "true")

    page.get_by_role("combobox", name="Account").select_option("shop")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("region", name="By template").get_by_role("row")).to_have_count(2)
    assert "period=30d" in page.url

    page.get_by_role("link", name="中文").click()
    expect(page.get_by_role("heading", name="按模板")).to_be_visible()
    assert "account=shop" in page.url


def test_a_search_leads_to_a_timeline_and_back(opened: Open, scene: Scene) -> None:
    ordinary_day(scene)
    page = opened("/?period=7d", java_script_enabled=False)

    page.get_by_role("searchbox", name="biz_id, out_id or phone").fill("order-3")
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", name="order-3")).to_be_visible()
    expect(page.get_by_role("row", name="sent through SendSms")).to_be_visible()
    expect(page.get_by_text("139****0001")).to_be_visible()
    page.get_by_role("link", name="Overview").click()
    expect(page.get_by_role("link", name="7 days")).to_have_attribute("aria-current", "true")


def test_a_browser_speaks_chinese_to_those_who_read_it(opened: Open, scene: Scene) -> None:
    ordinary_day(scene)

    page = opened("/", locale="zh-CN")

    expect(page.get_by_text("一切正常")).to_be_visible()
    expect(page.get_by_role("img", name="发送量与结果")).to_be_visible()


@pytest.mark.parametrize(
    ("width", "locale"), [(320, "en-US"), (320, "zh-CN"), (768, "en-US"), (1360, "zh-CN")]
)
def test_no_width_makes_the_page_scroll_sideways(
    opened: Open, scene: Scene, tmp_path: Path, width: int, locale: str
) -> None:
    ordinary_day(scene)
    scene.quarantined(3, "missing_field")

    page = opened("/", width=width, locale=locale)

    with looked_at(page, tmp_path):
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_can_be_worked_with_the_keyboard(opened: Open, scene: Scene) -> None:
    ordinary_day(scene)
    page = opened("/")

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="24 hours")).to_be_focused()

    table = page.get_by_role("region", name="SMS sent").get_by_role("table")
    expect(table).to_be_hidden()
    page.get_by_text("As a table").first.focus()
    page.keyboard.press("Enter")
    expect(table).to_be_visible()


def test_landmarks_and_charts_have_names(opened: Open, scene: Scene) -> None:
    ordinary_day(scene)
    page = opened("/")

    for role in ("banner", "main", "contentinfo", "search"):
        expect(page.get_by_role(role)).to_have_count(1)
    for name in ("SMS sent, by what became of them", "Delivery rate", "How long it took"):
        expect(page.get_by_role("img", name=name)).to_be_visible()
    unnamed = "input:not([type=hidden]):not([id]), select:not([id])"
    drawings = "svg:not([role]):not([aria-hidden]):not([aria-hidden] *)"
    expect(page.locator(f"{unnamed}, {drawings}")).to_have_count(0)


def test_bars_and_lines_are_drawn(opened: Open, scene: Scene) -> None:
    ordinary_day(scene)
    page = opened("/")

    bars = page.locator("svg[aria-labelledby^=volume] rect[fill='url(#p-failed)']")
    sizes = [bars.nth(place).bounding_box() for place in range(bars.count())]
    assert sizes
    assert all(size is not None and size["width"] > 5 and size["height"] >= 0.8 for size in sizes)
    line = page.locator("path.l-rate").last.bounding_box()
    assert line is not None
    assert line["width"] > 300


def test_an_outage_is_told_at_the_top_in_words(opened: Open, scene: Scene) -> None:
    ordinary_day(scene)
    scene.source("pushed", told_ago=DAY)
    scene.awaited(3, ago=29 * DAY + DAY / 2)

    alert = opened("/").get_by_role("alert")

    expect(alert).to_contain_text("Source pushed is silent")
    expect(alert).to_contain_text("lost for ever within 24 h: 3.")
    box = alert.bounding_box()
    assert box is not None
    assert box["y"] < 120


def test_a_database_that_is_away_is_told(browser: Browser, server: Running) -> None:
    server.store.close()
    page = browser.new_page(locale="en-US")

    answer = page.goto(f"http://127.0.0.1:{server.http.port}/")

    assert answer is not None
    assert answer.status == 503
    expect(page.get_by_role("alert")).to_contain_text("The database does not answer")
    page.close()


def test_a_browser_gives_the_token_as_a_password(browser: Browser, url: str) -> None:
    clock = ManualClock(NOW)
    with running(url, clock=clock, token=TOKEN) as server:
        Scene(server.store, clock).sms(1)
        place = f"http://127.0.0.1:{server.http.port}/search?q=order-1"
        told = browser.new_context(http_credentials={"username": "", "password": TOKEN})
        page = told.new_page()
        page.goto(place)
        expect(page.get_by_text(PHONE)).to_be_visible()
        # The stylesheet came with the same password.
        assert page.evaluate("getComputedStyle(document.body).maxWidth") == "1360px"
        told.close()
