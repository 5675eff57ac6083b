"""The page in headless Chromium: ten scenarios at two widths, light and dark, by keyboard alone.

No message in the console, no request but to the server itself, nothing wider than the window, no text too faint to read.
"""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from puzzledsl.explore import serving
from tests.api.programs import write_program
from tests.browsers import CONTRAST, OVERFLOW, SCHEMES, WIDTHS, browser
from tests.explore.programs import VARIED, sheet_of
from tests.explore.serving import Page, Served, served

__all__ = ["browser"]
pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, serving.LIBRARIES)), reason="`pip install '.[explore]'`"
)
RANGE = "input[type=range]"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(write_program(tmp_path_factory.mktemp("program"), VARIED)) as running:
        yield running


def focus(page: Page, selector: str, most: int = 120) -> None:
    """Press Tab until an element has the focus: what cannot be reached that way is no use without a mouse."""
    for _ in range(most):
        page.press("Tab")
        if page.page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"Tab never comes to {selector}")


def lever(number: int, inside: str) -> str:
    return f'.lever[data-statement="{number}"] {inside}'


def type_bound(page: Page, number: int, text: str) -> None:
    focus(page, lever(number, ".number"))
    page.page.keyboard.type(text)
    page.press("Enter")


def objective(page: Page) -> float:
    return float(page.page.get_attribute("#figures data", "value"))


def a_bound_is_moved(page: Page) -> None:
    """A slider moves, the strip and the figures follow, and the answer is proven."""
    before = page.text("#figures")
    focus(page, lever(0, RANGE))
    page.press(*["ArrowRight"] * 10)
    page.settle()
    assert page.text(lever(0, ".amount")) == "1.40x" and page.text("#figures") != before
    assert page.text("#proof").startswith("Proven")
    assert page.page.get_attribute(lever(0, RANGE), "aria-valuetext") == "1.40x"
    assert page.text(lever(0, ".state")).startswith("✓ 1.4")
    assert page.text("#text .lines").startswith("require chat.throughput >= 1.40x because")
    focus(page, lever(0, ".back"))
    page.press("Enter")
    page.settle()
    assert page.text("#figures") == before and page.page.is_disabled("#reset")


def a_number_is_typed(page: Page) -> None:
    """A number is typed instead; one of another unit is refused and marked."""
    type_bound(page, 0, "1.25x")
    page.settle()
    assert page.text(lever(0, ".amount")) == "1.25x"
    page.press("Control+a")
    page.page.keyboard.type("1GiB")
    page.press("Enter")
    assert page.page.get_attribute(lever(0, ".number"), "aria-invalid") == "true"
    assert page.text(lever(0, ".amount")) == "1.25x"


def a_requirement_is_left_out(page: Page) -> None:
    """A switch turns a requirement off: the answer gets better, and the file would have it commented out."""
    better = objective(page)
    focus(page, lever(0, ".switch"))
    page.press("Space")
    page.settle()
    assert objective(page) < better
    assert "would not hold" in page.text(lever(0, ".state"))
    assert page.text("#text .lines").startswith("# require chat.throughput >= speedup")
    page.press("Space")
    page.settle()
    assert objective(page) == better


def a_layer_is_pinned(page: Page) -> None:
    """A layer is chosen on the strip; its alternatives have proven regrets; the pinned one costs what was said."""
    before = objective(page)
    focus(page, "#strip .strip")
    page.press("ArrowRight", "ArrowRight", "ArrowRight")
    page.page.wait_for_selector("#layer .regret.costs, #layer .regret.free")
    page.page.wait_for_function("() => !document.querySelector('#layer small').textContent.includes('…')")
    assert page.text("#layer h2").startswith("Layer 2") and "proven" in page.text("#layer h2")
    assert page.page.get_attribute("#strip .strip", "aria-valuenow") == "2"
    assert page.page.get_attribute("#strip .strip", "aria-valuetext").startswith("layer 2 · attention · ")
    other = page.page.locator('#layer fieldset[data-part="ffn"] li:not(.chosen)').first
    name, regret = other.get_attribute("data-name"), other.locator(".regret").inner_text()
    page.press("Enter")  # from the strip to the buttons
    focus(page, f'#layer [data-key="ffn-{name}-pin"]')
    page.press("Enter")
    page.settle()
    after = objective(page)
    lost = float(regret.replace("+", "").replace("±", ""))
    assert after - before == pytest.approx(lost, rel=0.01, abs=1e-9)
    assert f"layers[2].ffn is {name}" in page.text(".choices")
    assert page.page.evaluate("() => document.activeElement.dataset.key") == f"ffn-{name}-pin"
    assert page.page.locator("#strip .cell.pinned").count() == 1
    page.press("Escape")
    assert page.page.evaluate("() => document.activeElement.matches('#strip .strip')")


def an_alternative_is_forbidden(page: Page) -> None:
    """An alternative is forbidden and freed again."""
    focus(page, "#strip .strip")
    page.press("End")
    page.page.wait_for_selector("#layer li.chosen")
    name = page.page.get_attribute('#layer fieldset[data-part="ffn"] li.chosen', "data-name")
    focus(page, f'#layer [data-key="ffn-{name}-forbid"]')
    page.press("Enter")
    page.settle()
    assert f"layers[5].ffn is not {name}" in page.text(".choices")
    assert "require layers[5].ffn is not" in page.text("#text .lines")
    page.page.focus("#reset")
    focus(page, ".choices button")
    page.press("Enter")
    page.settle()
    assert not page.page.is_visible("#choices")


def a_conflict_is_explained(page: Page) -> None:
    """Too much is asked for: each requirement of the conflict says how far it could go, and one press gets out."""
    type_bound(page, 0, "9x")
    page.settle()
    assert page.text("#proof").startswith("No solution") and page.page.is_visible("#conflict")
    assert page.page.evaluate("() => getComputedStyle(document.querySelector('#strip')).opacity") < "0.5"
    assert "In conflict. Best " in page.text(lever(0, ".blame"))
    focus(page, "#conflict button")
    page.press("Enter")
    page.settle()
    assert page.text("#proof").startswith("Proven") and not page.page.is_visible("#conflict")


def moves_are_undone(page: Page) -> None:
    """Undo takes back one move at a time, Reset all of them."""
    type_bound(page, 1, "70GiB")
    focus(page, lever(4, ".switch"))
    page.press("Space")
    page.settle()
    page.page.focus(".skip")
    focus(page, "#undo")
    page.press("Enter")
    page.settle()
    assert page.page.is_checked(lever(4, ".switch")) and page.text(lever(1, ".amount")) == "70GiB"
    focus(page, "#reset")
    page.press("Enter")
    page.settle()
    assert page.text(lever(1, ".amount")) == "80GiB" and page.page.is_disabled("#reset")


def the_lines_are_copied(page: Page) -> None:
    """ "Copy as .pzl" gives the lines that differ."""
    page.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    focus(page, lever(0, RANGE))
    page.press("ArrowRight")
    page.settle()
    focus(page, "#copy")
    page.press("Enter")
    page.page.wait_for_selector("#toast:visible")
    copied = page.page.evaluate("() => navigator.clipboard.readText()")
    assert copied.split() == 'require chat.throughput >= 1.31x because "half the fleet"'.split()


SCENARIOS: list[Callable[[Page], None]] = [
    *(a_bound_is_moved, a_number_is_typed, a_requirement_is_left_out, a_layer_is_pinned),
    *(an_alternative_is_forbidden, a_conflict_is_explained, moves_are_undone, the_lines_are_copied),
]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("play", SCENARIOS)
def test_a_scenario(
    browser: Any, server: Served, width: int, scheme: str, play: Callable[[Page], None]
) -> None:
    page = Page.open(browser, server.address, width, scheme)
    play(page)
    assert page.page.evaluate(OVERFLOW) == page.page.evaluate(CONTRAST) == page.said == []
    page.page.context.clear_permissions()
    page.page.close()


def test_the_page_answers_a_move_and_a_pin(browser: Any, server: Served) -> None:
    test_a_scenario(browser, server, 390, "dark", a_bound_is_moved)
    test_a_scenario(browser, server, 1280, "light", a_layer_is_pinned)


@pytest.mark.slow
def test_the_browser_is_led_to_the_page_by_a_private_file(
    browser: Any, server: Served, tmp_path: Path
) -> None:
    page = browser.new_page()
    page.goto(serving.private_link(tmp_path, server.address).as_uri())
    page.wait_for_url(server.address)
    page.wait_for_selector("#strip .cell")
    assert page.evaluate("() => document.referrer") == ""
    page.close()


@pytest.mark.slow
def test_the_figures_are_the_solvers(browser: Any, server: Served, tmp_path: Path) -> None:
    """The page shows the objective of the Python API, to the last digit."""
    sheet = sheet_of(tmp_path)
    wanted = sheet.program.solve("best")
    page = Page.open(browser, server.address)
    assert objective(page) == wanted.objective
    shown = page.page.eval_on_selector_all(
        "#strip .cells:nth-of-type(2) .cell",
        "(cells) => cells.map((cell) => cell.dataset.tip.split(' · ')[2])",
    )
    assert shown == [layer.attention for layer in wanted.layers]
