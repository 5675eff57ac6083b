"""The site builds without a warning, shows what the pages say, and loads nothing from elsewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import ROOT

LOADS = re.compile(
    r'<(?:script|img|iframe|source)\b[^>]*?\ssrc="([^"]*)|<(?:use|link(?![^>]*rel="canonical"))\b[^>]*?\shref="([^"]*)'
)
"""What a page has the browser fetch by itself."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. `--strict` makes a page outside the menu, a dead link and a dead anchor errors."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_there_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert len(pages) > 12 and all((site / page).is_file() for page in pages)
    assert LOADS.findall('<script src="https://x/y.js"></script><a href="https://z">') == [
        ("https://x/y.js", "")
    ]
    for page in site.rglob("*.html"):
        found = [source or link for source, link in LOADS.findall(page.read_text("utf-8"))]
        assert found and not [url for url in found if re.match(r"(\w+:)?//", url)], page
    for style in site.rglob("*.css"):
        text = style.read_text("utf-8")
        assert not re.findall(r"@import[^;]*//|url\([\"']?(?:https?:)?//", text), style


def test_programs_have_colours_and_tags_are_dropped(site: Path) -> None:
    text = (site / "language.html").read_text("utf-8")
    assert '<span class="kd">space</span>' in text
    assert "with=base.pzl" not in text and "file=base.pzl" not in text
    assert re.search(r'class="[^"]*\bwrong\b', text)
