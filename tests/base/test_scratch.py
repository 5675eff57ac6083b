"""Leftovers of a killed process go with the next one; files that a living process holds stay."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from puzzledsl.base.files import appearing, scratch, sweep_scratch, write_text

HOLD = """
import sys, time
from pathlib import Path
from puzzledsl.base.files import replacing
from puzzledsl.base.files import appearing, scratch
place = Path(sys.argv[1])
with scratch("speed") as folder, replacing(place / "child.gguf") as file, appearing(place / "child") as new:
    for path in (folder / "model", file, new / "weights"):
        path.write_bytes(bytes(1000))
    print("ready", flush=True)
    time.sleep(600)
"""


@contextmanager
def holder(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of writing two outputs in `place`, with its own temporary directory."""
    place.joinpath("tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(place / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    command = [sys.executable, "-c", HOLD, str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


def names(place: Path) -> list[str]:
    """The names in a directory, and in the temporary one inside."""
    return sorted([*os.listdir(place), *os.listdir(place / "tmp")])


@pytest.mark.parametrize("killed", [True, False])
def test_leftovers_go_when_their_process_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    with holder(tmp_path, monkeypatch) as process:
        before = names(tmp_path)
        if killed:
            process.kill()
            process.wait()
        sweep_scratch()
        write_text(tmp_path / "notes.txt", "")
        assert len(before) == 4
        assert names(tmp_path) == (["notes.txt", "tmp"] if killed else sorted([*before, "notes.txt"]))


def test_other_files_of_such_names_stay(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "pzl-scratch-mine").symlink_to(tmp_path / "real")
    (tmp_path / ".notes").write_text("mine")
    write_text(tmp_path / "notes.txt", "")
    assert sorted(os.listdir(tmp_path)) == [".notes", "notes.txt", "pzl-scratch-mine", "real"]


def test_a_directory_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "child"
    with appearing(out) as new:
        (new / "weights").write_text("one")
    with pytest.raises(FileNotFoundError), appearing(out) as new:
        (new / "missing" / "weights").write_text("two")
    assert (out / "weights").read_text() == "one"
    with appearing(out) as new:
        (new / "other").write_text("three")
    assert os.listdir(out) == ["other"] and os.listdir(tmp_path) == ["child"]
    assert out.stat().st_mode & 0o777 == 0o755


def test_a_scratch_folder_goes_with_its_context() -> None:
    with scratch("test") as folder:
        (folder / "file").write_text("")
    assert not folder.exists()
