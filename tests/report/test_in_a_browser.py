"""The page in headless Chromium: at two widths, light and dark, nothing overflows, nothing is fetched, nothing complains."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from puzzledsl.report.write import write_report
from tests.browsers import CONTRAST, OVERFLOW, SCHEMES, WIDTHS, browser

pytestmark = pytest.mark.slow
__all__ = ["browser"]


Opened = Callable[[int, str], tuple[Any, list[str]]]


@pytest.fixture
def opened(browser: Any, built: Any) -> Iterator[Opened]:
    """Opens the page of the whole build; what went wrong is in the list, by then and later."""
    report, pages = write_report(built.program, built.build, built.source).as_uri(), []

    def open_page(width: int, scheme: str) -> tuple[Any, list[str]]:
        page, said = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme), []
        page.on("console", lambda message: said.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("request", lambda request: said.append(f"request: {request.url}"))
        page.goto(report)
        said.remove(f"request: {report}")
        pages.append(page)
        return page, said

    yield open_page
    for page in pages:
        page.close()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_it_opens_without_a_fault(opened: Opened, width: int, scheme: str) -> None:
    page, said = opened(width, scheme)
    assert page.evaluate(OVERFLOW) == []
    assert page.evaluate(CONTRAST) == []
    for summary in page.query_selector_all("summary"):
        summary.click()
    assert page.evaluate(OVERFLOW) == [], "with everything opened"
    assert said == []


def test_a_layer_is_read_out(opened: Opened, built: Any) -> None:
    page, said = opened(1280, "light")
    layer = built.results["fast"].solutions[0].layers[7]
    page.hover(".strip .cells:nth-of-type(4) i:nth-child(8)")
    text = page.text_content(".readout")
    assert text.startswith(f"layer 7 · attention · {layer.attention} · prefill ")
    assert f"FFN · {layer.ffn}" in text and "of all layers" in text and "score lost" in text
    assert page.locator(".strip .on").count() == 4
    page.focus(".strip")
    page.keyboard.press("ArrowRight")
    assert page.text_content(".readout").startswith("layer 8 ")
    assert said == []


def test_a_line_of_the_source_is_a_click_away(opened: Opened) -> None:
    page, said = opened(390, "dark")
    link = page.locator(".requirements a").first
    link.click()
    assert page.url.endswith(link.get_attribute("href"))
    assert [s for s in said if not s.startswith("request: ") or "#" not in s] == []


def test_it_prints(opened: Opened, tmp_path: Path) -> None:
    page, _ = opened(1280, "dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert page.pdf(format="A4").startswith(b"%PDF")
