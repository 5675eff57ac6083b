"""Headless Chromium for tests of pages, and scripts that look for faults in one.

Chromium is not a Python package: `apt install chromium`, or `PZL_CHROMIUM=/path/to/chrome`.
"""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WIDTHS, SCHEMES = (1280, 390), ("light", "dark")

OVERFLOW = """() => {
  const page = document.documentElement, wide = page.clientWidth, found = [];
  if (page.scrollWidth > wide) found.push("the page");
  for (const item of document.querySelectorAll("body *")) {
    if (item.closest(".scroll")) continue;           // these scroll by themselves
    const box = item.getBoundingClientRect();
    if (box.width && (box.right > wide + 0.5 || box.left < -0.5)) found.push(item.outerHTML.slice(0, 80));
  }
  return found;
}"""
CONTRAST = """() => {
  const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (item) => {
    for (; item; item = item.parentElement) {
      const colour = getComputedStyle(item).backgroundColor;
      if (colour.startsWith("rgb(")) return colour;  // rgba(…, 0): what is below shows through
    }
    return "rgb(255, 255, 255)";
  };
  const texts = [...document.querySelectorAll("td, th, p, dt, dd, summary, h1, h2, small, nav a, code")];
  return texts.filter((item) => item.textContent.trim() && item.getClientRects().length).map((item) => {
    const [a, b] = [light(getComputedStyle(item).color), light(ground(item))];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), item.outerHTML.slice(0, 80)];
  }).filter(([ratio]) => ratio < 3.5);
}"""


def chromium() -> str | None:
    """A browser of this machine."""
    return os.environ.get("PZL_CHROMIUM") or next((at for name in NAMES if (at := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    where = chromium()
    if where is None:
        pytest.skip("no Chromium here: `apt install chromium`, or set PZL_CHROMIUM")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=where, args=["--no-sandbox"])
        yield started
        started.close()
