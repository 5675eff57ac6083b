"""Files are whole or as they were, and errors name the file that was meant."""

import errno
import os
import pickle
from pathlib import Path

import pytest

from puzzledsl.base.diagnostics import DiagnosticError, Span
from puzzledsl.base.files import make_directory, matching, replacing, reserve, write_bytes, write_text
from puzzledsl.checker.errors import DuplicateName


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "inside" / "a.txt"
    write_text(path, "é\n")
    assert path.read_bytes() == "é\n".encode()
    write_bytes(path, b"new")
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"] and path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644
    path.chmod(0o600)  # a private file stays private
    write_text(path, "newer")
    assert path.read_text() == "newer" and path.stat().st_mode & 0o777 == 0o600


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text(f"half {1 // 0}")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"] and path.read_text() == "old"


def test_an_error_names_the_file_that_was_meant(tmp_path: Path) -> None:
    path, other = tmp_path / "a.txt", str(tmp_path / "other")
    for said, named in ((None, str(path)), (other, other), ("temporary", str(path))):
        with pytest.raises(OSError) as caught, replacing(path) as temporary:  # noqa: PT011
            raise OSError(errno.EIO, "Input/output error", str(temporary) if said == "temporary" else said)
        assert caught.value.filename == named
        assert not temporary.exists()


def test_a_place_without_directories_is_a_read_only_one() -> None:
    if not Path("/proc/self").exists():
        pytest.skip("no /proc here")
    with pytest.raises(OSError) as caught:  # noqa: PT011
        make_directory(Path("/proc/nowhere/deep"))
    assert caught.value.errno == errno.EROFS


@pytest.mark.parametrize("size", [0, 1, (1 << 20) + 7])
@pytest.mark.parametrize("fallocate", [True, False])
def test_room_is_reserved_for_all_of_a_file(
    tmp_path: Path, size: int, fallocate: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the system cannot set room aside: then it is written."""
    if not fallocate:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    path = tmp_path / "map"
    path.touch()
    reserve(path, size)
    assert path.read_bytes() == bytes(size)


def test_diagnostics_come_whole_out_of_another_process() -> None:
    error = DiagnosticError(DuplicateName(Span("a.pzl", 1, 2, 1, 3), name="x"))
    [told] = pickle.loads(pickle.dumps(error)).diagnostics
    assert (told.code, told.message) == ("E0203", "`x` is declared twice")
    assert told.span == Span("a.pzl", 1, 2, 1, 3)


def test_globs_are_relative_to_any_folder(tmp_path: Path) -> None:
    base = tmp_path / "[drafts]"
    for name in ("a.txt", "b[1].txt", "deep/inside/c.txt"):
        write_text(base / name, "text")

    def found(pattern: str) -> set[str]:
        return {path.relative_to(base).as_posix() for path in matching(base, pattern)}

    assert found("*.txt") == {"a.txt", "b[1].txt"}
    assert found("b[1].txt") == {"b[1].txt"} and found(str(base / "a.txt")) == {"a.txt"}
    assert found("**/*.txt") == {"a.txt", "b[1].txt", "deep/inside/c.txt"}
    assert found("deep") == found("no\0name") == set()
