"""Memory of two processes that train one model, measured: half of parent and child, and about a layer."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from puzzledsl.alternatives.linear import NoOpAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.child.checkpoint.write import realise
from puzzledsl.models.families.load import load_parent
from tests.children import Choice, define, random_pieces
from tests.pieces.train.bld_programs import make_program
from tests.tiny import save_tiny
from tests.uptrain.cases import with_uptrain
from tests.uptrain.test_sharded import TORCHRUN

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
LAYERS, SIZES = 24, {"hidden": 512, "heads": 8, "kv_heads": 8, "head_dim": 64, "intermediate": 2048}
LAYER_BYTES = 4 * (4 * 512 * 512 + 3 * 512 * 2048 + 2 * 512)
ALLOCATOR_BYTES = 4 << 20


def stored_bytes(directory: Path) -> int:
    """Bytes of a checkpoint's weights as float32."""
    with safe_open(directory / "model.safetensors", framework="pt") as file:
        return sum(4 * file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, int, list[dict[str, Any]]]:
    """Bytes of the parent, of the child, and what each process measured."""
    base = tmp_path_factory.mktemp("memory")
    parent = save_tiny(base / "parent", layers=LAYERS, scale=0.02, **SIZES)
    layers: list[Choice] = [(ParentAttention(), ParentFfn())] * LAYERS
    layers[3], layers[7] = (ParentAttention(), MlpFfn(width=1024)), (NoOpAttention(), ParentFfn())
    realise(define(layers), parent, random_pieces(load_parent(parent), layers), base / "models" / "best")
    (base / "text.txt").write_text("\n\n".join(f"document {i} of many" for i in range(200)))
    program = with_uptrain(make_program(base, attention=[ParentAttention()], ffn=[ParentFfn()]), tokens=128)
    (base / "program.json").write_text(program.model_dump_json())
    # freed memory goes back to the system at once, so that what is measured is what is in use
    at_once = dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), "131072")
    usual = {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **usual, **at_once}
    command = [*TORCHRUN, "-m", "tests.uptrain.memory_worker", str(base)]
    done = subprocess.run(command, env=environment, cwd=base, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr[-6000:]
    found = [json.loads((base / f"memory-{rank}.json").read_text()) for rank in range(2)]
    return stored_bytes(parent), stored_bytes(base / "models" / "best"), found


def test_opening_takes_half_of_both_and_a_layer(measured) -> None:
    parent, child, found = measured
    for one in found:
        assert 0.45 * (parent + child) < one["open"] <= (parent + child) / 2 + LAYER_BYTES


def test_a_step_takes_half_of_all_state_and_the_layers_that_are_gathered(measured) -> None:
    """The child's gradient and two moments beside its weights. In the backward pass two layers' weights and gradients are whole,
    each twice while it is sent.
    """
    parent, child, found = measured
    for one in found:
        steps = [value for name, value in one.items() if name.startswith("step")]
        assert max(steps) <= (parent + 4 * child) / 2 + 8 * LAYER_BYTES


def test_export_gathers_a_tensor_at_a_time(measured) -> None:
    for one in measured[2]:
        assert one["export"] - one["trained"] <= LAYER_BYTES + ALLOCATOR_BYTES
