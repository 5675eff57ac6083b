"""Every code has a golden: its words stand in some `.err` file, where they are read before they change."""

from __future__ import annotations

import os
import re
from pathlib import Path

from puzzledsl.base.render import render
from puzzledsl.cli.codes import all_codes
from tests.cli.later_stages import MESSAGES

TESTS = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "later_stages.err"


def test_messages_of_later_stages_are_those_of_the_golden() -> None:
    codes = all_codes()
    shown = [render(codes[c](None, **words), {}, color=False) for c, words in MESSAGES.items() if c in codes]
    text = "\n\n".join(shown) + "\n"
    if os.environ.get("PZL_UPDATE_GOLDENS"):
        GOLDEN.write_text(text, "utf-8")
    assert text == GOLDEN.read_text("utf-8")


def test_every_code_has_a_golden() -> None:
    goldens = "".join(path.read_text("utf-8", "replace") for path in sorted(TESTS.rglob("*.err")))
    shown = set(re.findall(r"^(?:error|warning)\[([EW]\d{4})\]", goldens, re.MULTILINE))
    missing = sorted(set(all_codes()) - shown)
    assert missing == [], "give them a program with an .err beside it, or words in tests/cli/later_stages.py"


def test_messages_are_of_codes_that_exist() -> None:
    assert sorted(set(MESSAGES) - set(all_codes())) == []


def test_no_message_shows_how_it_is_made() -> None:
    """No braces of a template, no Python, no empty quotes, no doubled blank; a message begins in lower case or code."""
    for text in [GOLDEN.read_text("utf-8"), *(p.read_text("utf-8", "replace") for p in TESTS.rglob("*.err"))]:
        for line in re.findall(r"^(?:error|warning)\[[EW]\d{4}\]: (.*)$", text, re.MULTILINE):
            assert not re.search(r"\{\w*\}|None|``|Traceback|<class|  |\.$", line), line
