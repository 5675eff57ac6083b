"""Sealed files and lines: whatever bit is flipped, the content is not taken for whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puzzledsl.base import files as checksums
from puzzledsl.base.files import (
    Sealing,
    is_sealed,
    read_sealed,
    seal,
    sealed_line,
    unsealed_line,
    write_sealed,
)
from tests.cases import cases


@settings(deadline=None, max_examples=cases(50))
@given(text=st.text(), at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_sealed_file_is_read_back_or_known_as_damaged(
    tmp_path_factory: object, text: str, at: int, bit: int
) -> None:
    path: Path = tmp_path_factory.mktemp("sealed") / "work.json"  # type: ignore[attr-defined]
    write_sealed(path, text)
    assert read_sealed(path) == text.encode()
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= 1 << bit
    path.write_bytes(bytes(content))
    assert read_sealed(path) is None
    path.write_bytes(bytes(content)[:-1])
    assert read_sealed(path) is None


def test_a_seal_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert not is_sealed(path)
    path.write_bytes(b"x" * 3_000_000)
    assert not is_sealed(path)
    seal(path)
    assert is_sealed(path) and path.stat().st_size == 3_000_032
    path.write_bytes(b"")
    assert not is_sealed(path)
    seal(path)
    assert is_sealed(path) and read_sealed(path) == b""


def test_content_is_sealed_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the same bytes as `seal`, and nothing is read again; what fails has no seal."""
    parts = [bytes([i]) * 100_000 for i in range(5)]
    plain, path = tmp_path / "plain", tmp_path / "file"
    plain.write_bytes(b"".join(parts))
    seal(plain)
    monkeypatch.setattr(checksums, "sha256_of", None)
    with path.open("wb") as file, Sealing(path) as sealing:
        for part in parts:
            file.write(part)
            sealing.add(memoryview(part))
        file.flush()
    assert is_sealed(path) and path.read_bytes() == plain.read_bytes()
    path.write_bytes(parts[0])
    with pytest.raises(KeyboardInterrupt):
        interrupted(path, parts[0])
    assert path.read_bytes() == parts[0]


def interrupted(path: Path, part: bytes) -> None:
    with Sealing(path) as sealing:
        sealing.add(memoryview(part))
        raise KeyboardInterrupt


@given(text=st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\n")), at=st.integers(0, 500))
def test_a_sealed_line_is_read_back_or_known_as_damaged(text: str, at: int) -> None:
    line = sealed_line(text)
    assert unsealed_line(line) == unsealed_line(line[:-1]) == text
    at %= len(line) - 1
    changed = line[:at] + ("x" if line[at] != "x" else "y") + line[at + 1 :]
    assert unsealed_line(changed) is None
    assert unsealed_line("") is None and unsealed_line(text) in (None, text.rpartition("\t")[0])
