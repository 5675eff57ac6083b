"""Shipped files, and entry points where `importlib.metadata` finds them."""

import sys
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from puzzledsl.base.resources import entry_points, folder, listing, resource

GROUP = "puzzledsl.alternatives"
INFO = {
    "METADATA": "Metadata-Version: 2.1\nName: low-rank\nVersion: 1\n",
    "entry_points.txt": f"[console_scripts]\nlow = low:main\n[{GROUP}]\nwide = low:Wide\nlow = low:Low\n",
}


def in_a_folder(path: Path) -> Path:
    (path / "low_rank-1.dist-info").mkdir(parents=True)
    for name, text in INFO.items():
        (path / "low_rank-1.dist-info" / name).write_text(text)
    return path


def in_a_zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, text in INFO.items():
            file.writestr(f"low_rank-1.dist-info/{name}", text)
    return path


@pytest.mark.parametrize("make", [in_a_folder, in_a_zip], ids=lambda make: make.__name__)
def test_they_are_found(
    make: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(make(tmp_path / "packages")))
    found = entry_points(GROUP)
    assert [entry.name for entry in found] == ["low", "wide"]
    assert set(found) == set(metadata.entry_points(group=GROUP))


def test_none_are_found_without_parsing_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(in_a_folder(tmp_path)), str(tmp_path / "gone"), *sys.path])
    monkeypatch.delattr(metadata, "entry_points")
    assert entry_points("puzzledsl.no_such_group") == []


def test_the_grammar_is_there() -> None:
    assert resource("grammars", "pzl.lark").read_text("utf-8").startswith("//")
    assert listing("grammars", "*.lark") == ["lexical.lark", "pzl.lark"]
    assert folder("grammars").is_dir()


@pytest.mark.parametrize("name", ["none.lark", "../pyproject.toml", "/etc/passwd", ""])
def test_nothing_outside_is_there(name: str) -> None:
    with pytest.raises(FileNotFoundError):
        resource("grammars", name)
