"""`pzl explore` as a process, and a page of it in Chromium."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.documents import ROOT

SETTLED = "() => document.body.dataset.settled === String(number)"
WAIT_MS = 60_000


@dataclass
class Served:
    """A running command."""

    address: str
    process: subprocess.Popen[str]


@contextmanager
def served(file: Path, *options: str) -> Iterator[Served]:
    """Serve a program."""
    command = [sys.executable, "-m", "puzzledsl.cli.main", "explore", str(file), "--json", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            lines = [process.stdout.readline() for _ in range(3)]
            assert all(lines), process.stderr.read()
            yield Served(json.loads("".join(lines))["address"], process)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)


@dataclass
class Page:
    """An open page, and everything that went wrong with it."""

    page: Any
    address: str
    said: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, browser: Any, address: str, width: int = 1280, scheme: str = "light") -> Page:
        """Open the page and wait for its first answer and all that follows it."""
        opened = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page = cls(opened, address)
        opened.on("console", lambda message: page.said.append(f"console: {message.text}"))
        opened.on("pageerror", lambda error: page.said.append(f"error: {error}"))
        opened.on("requestfailed", lambda request: page.said.append(f"failed: {request.url}"))
        opened.on("request", lambda request: page.asked(request.url))
        opened.goto(address)
        page.settle()
        return page

    def asked(self, url: str) -> None:
        """Note a request to anything but this server."""
        if urlsplit(url).netloc != urlsplit(self.address).netloc:
            self.said.append(f"request: {url}")

    def settle(self) -> None:
        """Wait until the page shows the answer to its newest question, and all that is asked about it."""
        self.page.wait_for_function(SETTLED, timeout=WAIT_MS)

    def press(self, *keys: str) -> None:
        """Press keys one after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    def text(self, selector: str) -> str:
        """Visible text, with single blanks."""
        return " ".join(self.page.inner_text(selector).split())
