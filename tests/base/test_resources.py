from __future__ import annotations

import pytest

from puzzledsl.base.resources import folder, listing, resource


def test_the_grammar_is_there() -> None:
    assert resource("grammars", "pzl.lark").read_text("utf-8").startswith("//")
    assert listing("grammars", "*.lark") == ["lexical.lark", "pzl.lark"]
    assert folder("grammars").is_dir()


@pytest.mark.parametrize("name", ["none.lark", "../pyproject.toml", "/etc/passwd", ""])
def test_nothing_outside_is_there(name: str) -> None:
    with pytest.raises(FileNotFoundError):
        resource("grammars", name)
