"""`pzl watch`: a real process, a file that is saved again and again, and what it says each time."""

from __future__ import annotations

import os
import pty
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from puzzledsl.cli.commands.search.watch import version

PROGRAM = """\
parent p = shape(family: llama, layers: 8, hidden: 64, heads: 8, kv_heads: 8, head_dim: 8, intermediate: 256, vocab: 512)
space w of p {{
  attention = parent | gqa(kv_heads: 4) | noop
  ffn = parent | mlp(width: 50%) | noop
}}
score kl of w = table("kl.csv")
search best of w {{
  minimize kl
  require params <= {limit}  because "small"
}}
"""
COMMAND = [sys.executable, "-m", "puzzledsl.cli.main", "watch"]
PATIENCE_S = 60.0
ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def write(directory: Path, limit: str) -> Path:
    """The program with one requirement, saved as an editor does: beside, then renamed."""
    rows = ["layer,attention,ffn,kl"]
    for layer in range(8):
        for i, attention in enumerate(("parent", "gqa4", "noop")):
            for j, ffn in enumerate(("parent", "mlp128", "noop")):
                rows.append(f"{layer},{attention},{ffn},{(layer + 1) * (i + 2 * j) / 10}")
    if not (directory / "kl.csv").exists():
        (directory / "kl.csv").write_text("\n".join(rows) + "\n")
    path = directory / "moving.pzl"
    path.with_suffix(".new").write_text(PROGRAM.format(limit=limit))
    path.with_suffix(".new").replace(path)
    return path


class Watching:
    """The process, and what it has said."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process, self._lines = process, queue.Queue[str]()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def until(self, pattern: str) -> str:
        """All that is said up to a line with this in it."""
        said, end = "", time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            try:
                said += self._lines.get(timeout=1)  # a failure says what was said instead
            except queue.Empty:
                assert self.process.poll() is None, said
                continue
            if re.search(pattern, said.splitlines()[-1]):
                return said
        pytest.fail(f"{pattern!r} was not said, but:\n{said}")


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[Watching]:
    process = subprocess.Popen(
        [*COMMAND, str(write(tmp_path, "0.8x"))],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )
    yield Watching(process)
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def objective(said: str) -> float:
    match = re.search(r"best  optimal  kl = ([\d.e+-]+)", said)
    assert match, said
    return float(match[1])


def test_moving_a_requirement_moves_the_answer(watching: Watching, tmp_path: Path) -> None:
    first = watching.until(r"^  ffn ")
    assert "✓ params <= 0.8x" in first and "was" not in first
    write(tmp_path, "0.6x")
    second = watching.until("changed    layer")
    assert objective(second) > objective(first)
    assert f"(was {objective(first):g}, +" in second and "✓ params <= 0.6x" in second

    write(tmp_path, "0.6GiB")
    wrong = watching.until("stays until")
    assert "error[E03" in wrong and "moving.pzl:9" in wrong
    write(tmp_path, "0.6x\n  require params >= 0.7x")
    impossible = watching.until("dropping")
    assert "best  infeasible" in impossible and "E0501" in impossible and "0.7x" in impossible
    write(tmp_path, "0.8x")
    again = watching.until(r"^  ffn ")
    assert objective(again) == objective(first)

    watching.process.send_signal(signal.SIGINT)
    assert watching.process.wait(timeout=60) == 0
    assert not (tmp_path / "build").exists(), "it writes nothing"


def test_a_table_it_reads_is_watched_too(watching: Watching, tmp_path: Path) -> None:
    first = watching.until(r"^  ffn ")
    table = tmp_path / "kl.csv"
    table.write_text(
        re.sub(r"[\d.]+$", lambda m: f"{2 * float(m[0])}", table.read_text(), flags=re.MULTILINE)
    )
    assert objective(watching.until(r"^  ffn ")) == pytest.approx(2 * objective(first))
    watching.process.send_signal(signal.SIGINT)
    assert watching.process.wait(timeout=60) == 0


def test_on_a_terminal_the_last_answer_stays_behind(tmp_path: Path) -> None:
    """On the terminal's other screen while it runs; in the scrollback after Ctrl-C; no trace of an error."""
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [*COMMAND, str(write(tmp_path, "0.8x"))], stdout=slave, stderr=slave, stdin=slave, env=environment
    )
    os.close(slave)
    said = _read_until(master, "ffn ")
    assert "\x1b[?1049h" in said
    process.send_signal(signal.SIGINT)
    rest = _read_until(master, None)
    os.close(master)
    assert process.wait(timeout=60) == 0
    assert "\x1b[?1049l" in rest
    left = ANSI.sub("", rest.rpartition("\x1b[?1049l")[2])
    assert "best  optimal  kl =" in left and "Traceback" not in left and "interrupted" not in left


def _read_until(master: int, text: str | None) -> str:
    """What a terminal shows until `text`, or (None) until the process has ended."""
    said, end = "", time.monotonic() + PATIENCE_S
    while time.monotonic() < end and (text is None or text not in said):
        try:
            chunk = os.read(master, 65536).decode("utf-8", "replace")
        except OSError:  # the other end is closed
            return said
        if not chunk:
            return said
        said += chunk
    return said


def test_once_is_one_look(tmp_path: Path) -> None:
    path = write(tmp_path, "0.8x")
    for limit, code in (("0.8x", 0), ("nonsense", 1)):
        write(tmp_path, limit)
        result = subprocess.run(
            [*COMMAND, "--once", str(path)], capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )
        assert result.returncode == code, result.stderr
        assert ("best  optimal" in result.stdout) == (code == 0)


def test_versions_tell_saving_in_place_and_by_renaming(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    assert version([a]) == ()
    a.write_text("1")
    first = version([a])
    b.write_text("1")
    os.utime(b, ns=(a.stat().st_atime_ns, a.stat().st_mtime_ns))
    b.replace(a)
    assert version([a]) != first
    second = version([a])
    a.write_text("12")
    assert version([a]) != second == version([a, b])[:0] + second
