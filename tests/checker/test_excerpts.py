"""Excerpts of shipped files: the same declarations at the same places as in the whole file."""

from __future__ import annotations

from pathlib import Path

import pytest

from puzzledsl.base.diagnostics import Sink
from puzzledsl.base.resources import listing, resource
from puzzledsl.checker.check import check, inspect
from puzzledsl.checker.names.names import excerpt
from puzzledsl.syntax import tree
from puzzledsl.syntax.parse import parse

FILES = list(listing("spaces", "std/*.pzl"))
TWICE = """\
use "std/hardware.pzl" (h100_sxm)
use "part.pzl" (card)
parent p = shape(family: llama, layers: 4, hidden: 64, heads: 8, head_dim: 8, intermediate: 192, vocab: 256)
hardware h = h100_sxm(gpus: 1)
scenario c on card = batch(1, 8 -> 8)
scenario d on h = batch(1, 8 -> 8)
space w of p { ffn = parent | noop }
search s of w { maximize params, require c.memory + d.memory <= 3GiB }
"""


def declarations(module: tree.Module) -> dict[str, tuple[object, object]]:
    named = [item for item in module.items if not isinstance(item, tree.Use | tree.Assert)]
    return {item.name.text: (item, item.span) for item in named}


@pytest.mark.parametrize("file", FILES)
def test_a_part_of_a_shipped_file_is_as_in_the_whole(file: str) -> None:
    text = resource("spaces", file).read_text("utf-8")
    whole = declarations(parse(text, file, Sink()))
    for name in whole:
        sink = Sink()
        part = excerpt(text, [name])
        assert part is not None and part.count("\n") == text.count("\n")
        found = declarations(parse(part, file, sink))
        assert name in found and not sink.items
        assert all(found[each] == whole[each] for each in found)
    assert excerpt(text, [*whole]) == text
    assert excerpt(text, ["nobody"]) is None


def test_a_second_use_reads_the_rest(tmp_path: Path) -> None:
    (tmp_path / "part.pzl").write_text('use "std/hardware.pzl" (a100)\nhardware card = a100(gpus: 1)\n')
    (tmp_path / "wide.pzl").write_text(TWICE)
    found, context = inspect(tmp_path / "wide.pzl", {})
    assert not found.diagnostics and found.program is not None and context is not None
    assert found.program.hardware["card"].spec.profile == "a100"  # type: ignore[union-attr]
    whole, _ = inspect(tmp_path / "wide.pzl", {}, None, lambda text, file, sink: parse(text, file, sink))
    assert whole.program == found.program


def test_a_name_that_a_shipped_file_lacks_is_missed_as_before(tmp_path: Path) -> None:
    (tmp_path / "wide.pzl").write_text(TWICE.replace("(h100_sxm)", "(h100_sxm, h20)").replace("card", "h"))
    said = [d for d in check(tmp_path / "wide.pzl").diagnostics if d.code == "E0213"]
    assert [d.help for d in said] == ["did you mean `h200`?"]
