"""Loading and running a parent changes nothing of transformers that the models of others in the same process would see.

The room that is left is the least of what machine, control groups and the process's own limits leave; freed memory is taken
again without the system's help.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from puzzledsl.families.registry import FAMILIES
from puzzledsl.models import machine
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.kernels import products
from puzzledsl.models.kernels.products import keep_freed_memory, whole_rows
from tests.tiny import save_tiny, tiny_tokens


def output_of(program: str, *arguments: str) -> list[str]:
    """Lines that a program prints in a process of its own."""
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


PROBE = """
import logging, os, sys
import transformers, torch
from transformers import masking_utils, modeling_utils
from transformers.models.llama import modeling_llama

ATTENTION, MASKS = modeling_utils.ALL_ATTENTION_FUNCTIONS, masking_utils.ALL_MASK_ATTENTION_FUNCTIONS

def seen():
    found = {f"{r}.{name}": r[name] for r in (ATTENTION, MASKS) for name in r.valid_keys()}
    for module in (masking_utils, modeling_utils, modeling_llama, torch.nn.functional):
        found |= {f"{module.__name__}.{name}": value for name, value in vars(module).items() if callable(value)}
    found |= {f"environment {name}": value for name, value in os.environ.items()}
    found |= {"threads": torch.get_num_threads(), "dtype": torch.get_default_dtype()}
    return found | {"level": logging.getLogger("transformers.integrations.hub_kernels").level}

before, modules = seen(), set(sys.modules)
from pathlib import Path
from puzzledsl.models.families.load import load_parent
from puzzledsl.uptrain.model import hidden_states

inside = []
model = load_parent(Path(sys.argv[1]))
model.model.layers[1].register_forward_hook(lambda *_: inside.append(seen()))
hidden_states(model, torch.arange(40)[None], every_layer=True)
for after in (*inside, seen()):
    print(sorted(name for name in before if after.get(name) is not before[name] and after.get(name) != before[name]))
    print(sorted(name.rpartition(".")[2] for name in after.keys() - before.keys()))
print(sorted(modules - set(sys.modules)))
"""


@pytest.mark.more
def test_the_models_of_others_stay_as_they_were(tmp_path: Path) -> None:
    *rest, gone = output_of(PROBE, str(save_tiny(tmp_path)))
    assert rest == ["[]", "['puzzledsl_sdpa', 'puzzledsl_sdpa']"] * 2 and gone == "[]"


@pytest.mark.parametrize("family", FAMILIES)
def test_whole_rows_give_the_bits_of_a_search_that_finds_none(tmp_path: Path, family: str) -> None:
    model, ids_BT = load_parent(save_tiny(tmp_path, family)), tiny_tokens()
    arguments = whole_rows(model)
    assert bool(arguments) == ("mixer" not in FAMILIES[family].takes)  # mixers keep a state for a cache
    plain = model.base_model(input_ids=ids_BT, use_cache=False).last_hidden_state
    with pytest.MonkeyPatch.context() as patch:
        if arguments:
            patch.setattr("transformers.masking_utils.find_packed_sequence_indices", pytest.fail)
        found = model.base_model(input_ids=ids_BT, use_cache=False, **arguments)
    assert torch.equal(found.last_hidden_state, plain)


LIMITS = """
import resource
from pathlib import Path
from puzzledsl.models import machine
for limit, used in ((resource.RLIMIT_DATA, "VmData"), (resource.RLIMIT_AS, "VmSize")):
    taken = machine._table(Path("/proc/self/status"))[used]
    resource.setrlimit(limit, (taken + (64 << 20), resource.RLIM_INFINITY))
    print(machine.room_bytes() >> 20)
    resource.setrlimit(limit, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


def test_a_limit_of_the_process_counts_what_it_uses_already() -> None:
    assert all(60 <= int(room_mib) <= 64 for room_mib in output_of(LIMITS))


def group(path: Path, **files: object) -> None:
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (path / name.replace("__", ".")).write_text(f"{content}\n")


def test_control_groups_of_both_versions(tmp_path: Path) -> None:
    membership, job = tmp_path / "cgroup", tmp_path / "user" / "job"
    membership.write_text("0::/user/job\n")
    stat = "inactive_file 30\nactive_file 30\nfile_dirty 6\nfile_writeback 4\nx 1"
    group(job, memory__max=1000, memory__current=400, memory__stat=stat)
    group(tmp_path / "user", memory__max="max", memory__current=1, memory__stat="inactive_file 0")
    assert list(machine._left_in_control_groups(tmp_path, membership)) == [650]
    membership.write_text("4:cpu,cpuacct:/\n9:memory:/job\n")
    whole, endless = tmp_path / "memory", (1 << 63) - 4096
    stat = "total_inactive_file 90\ntotal_active_file 20\ntotal_dirty 10"
    group(whole / "job", memory__limit_in_bytes=2000, memory__usage_in_bytes=500, memory__stat=stat)
    stat = "total_inactive_file 0"
    group(whole, memory__limit_in_bytes=endless, memory__usage_in_bytes=1, memory__stat=stat)
    assert list(machine._left_in_control_groups(tmp_path, membership)) == [1600]


def test_without_glibc_or_where_memory_is_short_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products.ctypes, "CDLL", lambda _: object())
    assert not keep_freed_memory.__wrapped__()
    monkeypatch.setattr(products, "room_bytes", lambda: 1 << 30)
    monkeypatch.setattr(products.ctypes, "CDLL", lambda _: pytest.fail("the C library is told"))
    assert not keep_freed_memory.__wrapped__()
