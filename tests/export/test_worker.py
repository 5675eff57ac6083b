"""An engine's process ends soon after the one that started it was killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path

import pytest

ENGINE = """
import time
class Engine:
    version = "1"
    def __init__(self, path, request): time.sleep(600)
"""
START = """
import subprocess, sys, time
worker = subprocess.Popen([sys.executable, sys.argv[1], "slow", "--serve"], stdin=subprocess.PIPE, start_new_session=True)
worker.stdin.write(b'{"op": "open", "path": "", "request": {}}\\n')
worker.stdin.flush()
print(worker.pid, flush=True)
time.sleep(600)
"""
WAIT_S = 30


def test_a_worker_ends_with_its_parent(tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    shutil.copy(str(resources.files("puzzledsl.export.engines") / "worker.py"), worker)
    (tmp_path / "slow_engine.py").write_text(ENGINE)
    with subprocess.Popen(
        [sys.executable, "-c", START, str(worker)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        time.sleep(1)
        os.kill(pid, 0)  # it works, and reads no input
        process.kill()
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        status = Path(f"/proc/{pid}/stat")
        if not status.is_file() or status.read_text().split()[2] == "Z":  # nobody waits for it here
            return
        time.sleep(0.1)
    pytest.fail("it still runs")
