"""Sealed files and lines: whatever bit is flipped, the content is not taken for whole."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from puzzledsl.base import files
from puzzledsl.base import files as checksums
from tests.cases import cases


@settings(max_examples=cases(50), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(), at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_sealed_file_is_read_back_or_known_as_damaged(tmp_path: Path, text: str, at: int, bit: int) -> None:
    path = tmp_path / "work.json"
    files.write_sealed(path, text)
    assert files.read_sealed(path) == text.encode()
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= 1 << bit
    path.write_bytes(bytes(content))
    assert files.read_sealed(path) is None
    path.write_bytes(bytes(content)[:-1])
    assert files.read_sealed(path) is None


def test_a_seal_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert not files.is_sealed(path)
    for content in (b"x" * 3_000_000, b""):
        path.write_bytes(content)
        assert not files.is_sealed(path)
        files.seal(path)
        assert files.is_sealed(path) and files.read_sealed(path) == content
        assert path.stat().st_size == len(content) + 32


def test_content_is_sealed_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the same bytes as `seal`, and nothing is read again; what fails has no seal."""
    parts = [bytes([i]) * 100_000 for i in range(5)]
    plain, path = tmp_path / "plain", tmp_path / "file"
    plain.write_bytes(b"".join(parts))
    files.seal(plain)
    monkeypatch.setattr(checksums, "sha256_of", None)
    with path.open("wb") as file, files.Sealing(path) as sealing:
        for part in parts:
            file.write(part)
            sealing.add(memoryview(part))
        file.flush()
    assert files.is_sealed(path) and path.read_bytes() == plain.read_bytes()
    path.write_bytes(parts[0])
    with suppress(KeyboardInterrupt), files.Sealing(path) as sealing:
        sealing.add(memoryview(parts[0]))
        raise KeyboardInterrupt
    assert path.read_bytes() == parts[0]


@given(text=st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\n")), at=st.integers(0, 500))
def test_a_sealed_line_is_read_back_or_known_as_damaged(text: str, at: int) -> None:
    line = files.sealed_line(text)
    assert files.unsealed_line(line) == files.unsealed_line(line[:-1]) == text
    at %= len(line) - 1
    changed = line[:at] + ("x" if line[at] != "x" else "y") + line[at + 1 :]
    assert files.unsealed_line(changed) is None
    assert files.unsealed_line("") is None and files.unsealed_line(text) in (None, text.rpartition("\t")[0])
