"""One mistake, one diagnostic: what follows from a mistake is not reported, and nothing beside it is left unchecked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checker.programs import TINY, mistakes

SEARCH = (
    "search s of w {\n  minimize kl\n  require chat.memory <= 3GiB\n}\nsearch t of s { solver = cpsat }\n"
)


@pytest.mark.parametrize(
    ("right", "wrong", "code"),
    [
        ("parent p", "parent", "E0001"),
        ("parent p =", "parent p", "E0001"),
        ("layers: 4", "layers: 4s", "E0303"),
        ("family: llama", "family llama", "E0001"),
        ("space w of p {", "space w off p {", "E0001"),
        ("space w of p {", "bld w of p {", "E0222"),
        ("ffn = mlp", "ffn: mlp", "E0001"),
        ("linear | noop,", "linear || noop,", "E0006"),
        ("score kl of w = table", "export kl of w = table", "E0222"),
        ("scenario chat on h", "scenario chat h", "E0001"),
        ("128 -> 64", "128, 64", "E0210"),
        ("search s of w {", "search s = w {", "E0215"),
        ("minimize kl\n", "minimize\n", "E0001"),
        ("{ solver = cpsat }", "{{ solver = cpsat }", "E0001"),
        ("{ solver = cpsat }", "{ solver } = greedy }", "E0001"),
        ("chat.memory", "chat memory", "E0001"),
    ],
)
def test_one_mistake_is_one_diagnostic(tmp_path: Path, right: str, wrong: str, code: str) -> None:
    text = TINY + SEARCH
    assert right in text
    assert [found for found, _ in mistakes(tmp_path, text.replace(right, wrong))] == [code]


@pytest.mark.parametrize(
    "broken", ["parent p = shape(layers: )", "parent p = shape(", "parent p = hf()", "parent p = nothing"]
)
def test_what_needs_a_broken_declaration_is_checked_all_the_same(tmp_path: Path, broken: str) -> None:
    lines = TINY.split("\n")
    lines[0] = broken
    text = "\n".join(lines) + SEARCH.replace("3GiB", "3s").replace("cpsat", "cpsta")
    found = mistakes(tmp_path, text)
    assert [line for _, line in found] == [1, 8, 10]
    assert {code for code, line in found if line > 1} == {"E0301", "E0305"}


def test_only_what_is_near_a_mistake_of_the_text_is_spared(tmp_path: Path) -> None:
    text = TINY + "let = 3\nbld b of w { train = ffn }\nscore r of w\nlet y = llama.layers\n"
    assert mistakes(tmp_path, text) == [("E0001", 6), ("E0209", 7), ("E0209", 8)]
