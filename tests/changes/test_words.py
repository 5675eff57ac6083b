"""Requirements in words: a statement about layers can be written again as it is told, amounts are told as they were meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from puzzledsl.changes.compare import requirement_text
from puzzledsl.ir import nodes
from tests.checker.programs import TINY, lowered


def required(folder: Path, text: str) -> nodes.Requirement:
    """The meaning of one `require`."""
    program = lowered(folder, f"{TINY}search s of w {{\n  minimize kl\n  require {text}\n}}\n")
    [found] = program.searches["s"].requirements
    return found


@pytest.mark.parametrize(
    "text",
    [
        "layers[3].attention is noop",
        "layers[3].ffn is not noop",
        "layers[1].attention is noop and layers[2].attention is not noop",
        "layers[1].attention is noop or (layers[2].ffn is noop and layers[3].ffn is noop)",
        "layers[1].attention is noop implies layers[0].attention is not noop",
        "(layers[1].attention is noop or layers[2].attention is noop) implies layers[0].ffn is not noop",
        "not (layers[1].attention is noop and layers[2].attention is noop)",
        "1 <= runs(l is noop for l in layers[1..]) < 3",
        "longest(attention is not noop) == 2",
        "distinct(ffn.width) <= 2",
        "layers[1] same as layers[2]",
    ],
)
def test_what_is_told_of_a_statement_is_how_it_is_written(tmp_path: Path, text: str) -> None:
    assert requirement_text(required(tmp_path, text)) == text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("params <= 1M", "params <= 1M"),
        ("chat.memory <= 3GiB", "chat.memory <= 3GiB"),
        ("chat.latency <= 1.5x", "chat.latency <= 1.5x"),
        ("kl <= 0.25", "kl <= 0.25"),
        ("2 * kl - params / 1M >= 1", "2 * kl - params / 1M >= 1"),
        ("sum(ffn.width) <= 300", "sum(ffn.width) <= 300"),
        ("count(attention is gqa) <= 2", "count(attention is gqa) <= 2"),
        ("count(layers[0, 2].attention is noop) >= 1", "count(layers[0, 2].attention is noop) >= 1"),
        (
            "sum(l.ffn.width * l.attention.kv_heads for l in layers[1..2]) <= 9",
            "sum(l.ffn.width * l.attention.kv_heads for l in layers[1..2]) <= 9",
        ),
        ("layers[1].attention is gqa", "layers[1].attention is gqa"),
    ],
)
def test_amounts_are_told_in_their_units(tmp_path: Path, text: str, told: str) -> None:
    assert requirement_text(required(tmp_path, text)) == told
