"""A check of a text that an editor changes, which reads anew only what changed, says what a check of the text alone says."""

import re
from pathlib import Path
from random import Random
from typing import Any

import pytest

from puzzledsl.base.diagnostics import Sink
from puzzledsl.checker.check import inspect
from puzzledsl.server.document import Project
from puzzledsl.server.parts import parse_parts
from puzzledsl.syntax import tree
from puzzledsl.syntax.parse import parse

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").rglob("*.pzl"))
TYPED = ("\nlet best = 4\n", "\nsearch z of wide { minimize params }\n", "\n}\n", "/* ", *'{}()=,\n#"| a1')


def edited(text: str, rng: Random) -> str:
    """A text after something is typed, removed, or written in a word's or a line's place."""
    place = rng.choice((r"", r"", r"\d+", r"\b(?=\d)", r"\w+", r"\w+", r"(?m)^.*\n", r"(?s).{20}"))
    old, other = (rng.choice([*re.finditer(place, text)]) for _ in "ab")
    typed = rng.choice([*TYPED, other.group()]) if place not in (r"\d+", r"\b(?=\d)") else rng.choice("137")
    return text[: old.start()] + typed * rng.choice((0, 1, 1, 1)) + text[old.end() :]


def spans(node: tree.Node) -> list[Any]:
    return [node.span, *map(spans, tree.children(node))]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_what_is_remembered_changes_no_answer(example: Path, tmp_path: Path) -> None:
    rng, project, path, text = Random(0), Project(), tmp_path / "program.pzl", example.read_text("utf-8")
    words = " ".join(dict.fromkeys(re.findall(r"\w+", text)))
    versions = [text, re.sub(r"(?m)^(?=\w)", "\n", text), text.replace("{", f"{{ # {words}\n")]
    for number in range(16):
        text = versions[number] if number < 3 else edited(rng.choice([*versions, text]), rng)
        alone, parts = Sink(), Sink()
        trees = parse(text, "f", alone), parse_parts(text, "f", parts)
        assert trees[0] == trees[1] and trees[0].broken == trees[1].broken, text
        assert spans(trees[0]) == spans(trees[1]) and list(map(repr, alone)) == list(map(repr, parts)), text
        again = project.open(path.as_uri(), text, number).inspected[0]
        anew = inspect(path, {}, {str(path): text})[0]
        assert again.program == anew.program, text
        assert list(map(repr, again.diagnostics)) == list(map(repr, anew.diagnostics)), text
