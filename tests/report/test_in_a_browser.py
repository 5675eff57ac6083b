"""The page in headless Chromium: at two widths, light and dark, nothing overflows, nothing is fetched, nothing complains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from puzzledsl.report.write import write_report
from tests.browsers import CONTRAST, OVERFLOW, SCHEMES, WIDTHS, browser

pytestmark = pytest.mark.slow
__all__ = ["browser"]

NUMBERS = "() => [...document.querySelectorAll('data')].map((d) => [Number(d.value), d.textContent])"


@pytest.fixture(scope="module")
def report(built: Any) -> Path:
    """The page of the whole build."""
    return write_report(built.program, built.build, built.source)


@pytest.fixture
def opened(browser: Any, report: Path) -> Iterator[Callable[..., tuple[Any, list[str]]]]:
    """Opens the page; what went wrong is in the list, by then and later."""
    pages = []

    def open_page(width: int, scheme: str) -> tuple[Any, list[str]]:
        page, said = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme), []
        page.on("console", lambda message: said.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("request", lambda request: said.append(f"request: {request.url}"))
        page.goto(report.as_uri())
        said.remove(f"request: {report.as_uri()}")
        pages.append(page)
        return page, said

    yield open_page
    for page in pages:
        page.close()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_it_opens_without_a_fault(opened: Any, width: int, scheme: str) -> None:
    page, said = opened(width, scheme)
    assert page.evaluate(OVERFLOW) == []
    assert page.evaluate(CONTRAST) == []
    for summary in page.query_selector_all("summary"):
        summary.click()
    assert page.evaluate(OVERFLOW) == [], "with everything opened"
    assert said == []


def test_its_numbers_are_the_artefacts(opened: Any, built: Any) -> None:
    """As the browser shows them: measured figures, the search's, the library's means."""
    page, _ = opened(1280, "light")
    shown = {value for value, text in page.evaluate(NUMBERS) if text}
    for model in built.evaluation.models:
        if model.model in ("parent", "fast", "final"):
            assert {figure.value for figure in model.figures.values()} <= shown, model.model
    fast = built.results["fast"]
    assert {fast.objective, fast.bound, fast.gap} <= shown


def test_a_layer_is_read_out(opened: Any, built: Any) -> None:
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


def test_a_line_of_the_source_is_a_click_away(opened: Any) -> None:
    page, said = opened(390, "dark")
    link = page.locator(".requirements a").first
    link.click()
    assert page.url.endswith(link.get_attribute("href"))
    assert [s for s in said if not s.startswith("request: ") or "#" not in s] == []


def test_it_prints(opened: Any, tmp_path: Path) -> None:
    page, _ = opened(1280, "dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert page.pdf(format="A4").startswith(b"%PDF")
