"""The room that is left is the least of what machine, control groups and the process's own limits leave."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from puzzledsl.models import machine

MIB = 1 << 20


def test_there_is_room_and_less_than_the_machine_has() -> None:
    import os

    assert 0 < machine.room_bytes() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(("limit", "used"), [("RLIMIT_AS", "VmSize"), ("RLIMIT_DATA", "VmData")])
def test_a_limit_of_the_process_counts_what_it_uses_already(limit: str, used: str) -> None:
    program = f"""
import resource
from puzzledsl.models import machine
taken = machine._used_by_this_process()["{used}"]
resource.setrlimit(resource.{limit}, (taken + {64 * MIB}, resource.RLIM_INFINITY))
print(machine.room_bytes())
"""
    room = int(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    )
    assert 60 * MIB <= room <= 64 * MIB


def group(path: Path, **files: str) -> None:
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (path / name.replace("__", ".")).write_text(content)


def test_control_groups_of_both_versions(tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("0::/user/job\n")
    group(
        tmp_path / "user" / "job",
        memory__max="1000\n",
        memory__current="400\n",
        memory__stat="inactive_file 30\nactive_file 30\nfile_dirty 6\nfile_writeback 4\nx 1\n",
    )
    group(tmp_path / "user", memory__max="max\n", memory__current="1\n", memory__stat="inactive_file 0\n")
    assert list(machine._left_in_control_groups(tmp_path, membership)) == [650]
    membership.write_text("4:cpu,cpuacct:/\n9:memory:/job\n")
    group(
        tmp_path / "memory" / "job",
        memory__limit_in_bytes="2000\n",
        memory__usage_in_bytes="500\n",
        memory__stat="total_inactive_file 90\ntotal_active_file 20\ntotal_dirty 10\n",
    )
    group(
        tmp_path / "memory",
        memory__limit_in_bytes=f"{(1 << 63) - 4096}\n",
        memory__usage_in_bytes="1\n",
        memory__stat="total_inactive_file 0\n",
    )
    assert list(machine._left_in_control_groups(tmp_path, membership)) == [1600]
