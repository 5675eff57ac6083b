"""`pzl explore` on 80 layers x 54 pairs: milliseconds from a move of a slider to its picture, in headless Chromium.

A move is one press of an arrow key on a random slider, sent when the picture of the last one is there; a drag is a slider that
moves 60 times a second. Times are measured in the page, from the event until after the frame with the new strip.

Run `python -m benchmarks.explore [--moves 200] [--rounds 3]`. Needs `pip install '.[explore]'`, playwright and Chromium.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.cold import ENVIRONMENT, write_program

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
TARGET_MS = 150
LAST = "() => performance.getEntriesByName('answer').length"
TIMES = "() => performance.getEntriesByName('answer').map((entry) => entry.duration)"
DRAG = """async (count) => {
  const range = document.querySelectorAll(".slide input[type=range]")[1];
  for (let i = 0; i < count; i++) {
    range.value = Number(range.value) + (i % 40 < 20 ? 1 : -1);
    range.dispatchEvent(new Event("input"));
    await new Promise((then) => setTimeout(then, 16));
  }
}"""


def browser_path() -> str | None:
    """Return a Chromium of this machine."""
    return os.environ.get("PZL_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)


@contextmanager
def chromium() -> Iterator[Any]:
    """Start a browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def page_of(browser: Any, program: Path) -> Iterator[Any]:
    """Open the page of a program and wait for all of its first answer."""
    command = [sys.executable, "-m", "puzzledsl.cli.main", "explore", str(program), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as server:
        try:
            assert server.stdout is not None
            address = json.loads("".join(server.stdout.readline() for _ in range(3)))["address"]
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(address)
            page.wait_for_selector("body[data-settled]", timeout=60_000)
            yield page
            page.close()
        finally:
            server.send_signal(signal.SIGINT)


def moves(page: Any, count: int, seed: int = 0) -> list[float]:
    """Milliseconds of single moves of random sliders."""
    rng = random.Random(seed)
    sliders = page.locator(".slide input[type=range]")
    before = page.evaluate(LAST)
    for done in range(count):
        sliders.nth(rng.randrange(sliders.count())).focus()
        page.keyboard.press(rng.choice(["ArrowRight", "ArrowLeft"]))
        page.wait_for_function(f"() => performance.getEntriesByName('answer').length > {before + done}")
    return list(page.evaluate(TIMES)[before:])


def drag(page: Any, count: int) -> list[float]:
    """Milliseconds from the first move that a picture is late for, while a slider moves without a pause."""
    before = page.evaluate(LAST)
    page.evaluate(DRAG, count)
    page.wait_for_timeout(500)
    return list(page.evaluate(TIMES)[before:])


def share(values: list[float], quantile: float) -> float:
    """Return a quantile."""
    return sorted(values)[min(int(len(values) * quantile), len(values) - 1)]


def p95(browser: Any, count: int = 60, seed: int = 0) -> float:
    """Return the 95th percentile of single moves."""
    with tempfile.TemporaryDirectory() as folder, page_of(browser, write_program(Path(folder), seed)) as page:
        moves(page, 10, seed + 1)
        return share(moves(page, count, seed), 0.95)


def main() -> int:
    """Print a line a round."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--moves", type=int, default=200, help="of a round (default: %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=3, help="each with scores of its own (default: %(default)s)"
    )
    options = parser.parse_args()
    with chromium() as browser:
        for seed in range(options.rounds):
            print(_round(browser, options.moves, seed), flush=True)
    return 0


def _round(browser: Any, count: int, seed: int) -> str:
    with tempfile.TemporaryDirectory() as folder, page_of(browser, write_program(Path(folder), seed)) as page:
        moves(page, 10, seed + 1)
        single, dragged = moves(page, count, seed), drag(page, count)
    return (
        f"seed {seed}: slider to picture p50 {share(single, 0.5):.0f} ms, p95 {share(single, 0.95):.0f} ms, "
        f"most {max(single):.0f} ms (target: p95 < {TARGET_MS} ms); while dragging p50 {share(dragged, 0.5):.0f} ms, "
        f"p95 {share(dragged, 0.95):.0f} ms, {len(dragged)} pictures of {count} moves; load {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
