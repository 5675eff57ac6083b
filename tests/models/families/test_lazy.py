"""Memory of piece making on a large mixture: little more than one layer, however large the model and its files."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from puzzledsl.families.registry import shape_of_config
from puzzledsl.models.families.stored import inventory
from tests.models.families.sparse import SIZES, save_sparse

SCRIPT = """
import re, sys
from pathlib import Path
import torch
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.ir.nodes import Initialisers
from puzzledsl.models.alternatives.realisation import initialise
from puzzledsl.models.families.access import layers, shape_of
from puzzledsl.models.placement import paged_parent
from puzzledsl.pieces.train.layer_trainer import walk_from

def memory(field):
    return int(re.search(field + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

def start_counting():
    Path("/proc/self/clear_refs").write_text("5")

torch.set_num_threads(1)
torch.manual_seed(0)
model, pages = paged_parent(Path(sys.argv[1]), room_bytes=0, dtype=torch.bfloat16)
hidden = [torch.randn(1, 256, 1024, dtype=torch.bfloat16) for _ in range({tokens} // 256)]
before = memory("VmRSS")
start_counting()
for layer, statistics in walk_from(model, 0, hidden, [0]):
    assert statistics.tokens == {tokens} and pages.present == ("model.layers.0",) and pages.reads == 1
    print(memory("VmHWM") - before)
    start_counting()
    own = shape_of(model.config).at(0)
    piece = initialise(layers(model)[0], {piece}, statistics, Initialisers(), own)
    assert piece["{weight}"].shape == (1024, {width}) and piece["{weight}"].count_nonzero() > 0
    print(memory("VmHWM") - before)
"""

BLD = """
import re, sys
from pathlib import Path
import torch
from puzzledsl.base.progress import Silent
from puzzledsl.checker.check import check
from puzzledsl.data.counts import Budget
from puzzledsl.models.placement import paged_parent
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.pieces.train.piece_state import MicroBatches
from puzzledsl.pieces.train.layer_trainer import Order
from puzzledsl.pieces.train.sweep import sweep
from puzzledsl.plan.bld import bld_plan

def memory(field):
    return int(re.search(field + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

torch.set_num_threads(1)
base = Path(sys.argv[1])
program = check(base / "quarter.pzl", {}).program
job = next(job for job in bld_plan(program, "b") if job.layer == 0)
budget, work = Budget.of(job), base / "work"
work.mkdir()
tokens = torch.randint(0, 500, (budget.blocks, budget.context), generator=torch.Generator().manual_seed(0))
order = Order("b", base / "parent", [job], budget, program.spaces["s"].init, tokens, base / "library", work)
model, _ = paged_parent(base / "parent", room_bytes=0)
made, before = [], memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
sweep(model, order, lambda piece, kept: made.append(piece), Silent(), MicroBatches(LayerRunner(model), 1))
assert (base / "library" / made[0].file).stat().st_size > 0
print(memory("VmHWM") - before)
"""
"""Every step of BLD for one piece that is not trained: calibrated, made, compared with the parent, and written."""
QUARTER = """
parent big = hf("parent")
space s of big { attention = parent, ffn = parent | moe(width: 25%) }
data d = text("d.txt")
bld b of s { train = ffn, tokens = 0, context = 128, calibration = 256, data = d }
"""

PIECES = {
    "mlp512": ("MlpFfn(width=512)", "down_proj.weight", 512),
    "moe128k8w256": ("MoeFfn(experts=128, top_k=8, width=256)", "experts.127.down_proj.weight", 256),
    "moe128k8w512": ("MoeFfn(experts=128, top_k=8, width=512)", "experts.127.down_proj.weight", 512),
    "moe128k4w1024": ("MoeFfn(experts=128, top_k=4, width=1024)", "experts.127.down_proj.weight", 1024),
    "moe64k8w1024": ("MoeFfn(experts=64, top_k=8, width=1024)", "experts.63.down_proj.weight", 1024),
    "moe64k8w512": ("MoeFfn(experts=64, top_k=8, width=512)", "experts.63.down_proj.weight", 512),
    "moe32k4w1024": ("MoeFfn(experts=32, top_k=4, width=1024)", "experts.31.down_proj.weight", 1024),
    "moe32k4w256": ("MoeFfn(experts=32, top_k=4, width=256)", "experts.31.down_proj.weight", 256),
}
TOKENS = 256


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sparse(tmp_path_factory.mktemp("sparse") / "parent")


@pytest.mark.slow
@pytest.mark.parametrize("name", PIECES)
def test_one_layer_of_forty_gigabytes_takes_the_memory_of_one_layer(parent: Path, name: str) -> None:
    assert sum(file.stat().st_size for file in parent.iterdir()) > 40e9
    wanted = inventory(shape_of_config(SIZES)).items()
    layer_bytes = sum(2 * math.prod(shape) for name, shape in wanted if name.startswith("model.layers.0."))
    piece, weight, width = PIECES[name]
    script = SCRIPT.format(piece=piece, weight=weight, width=width, tokens=TOKENS)
    run = subprocess.run(
        [sys.executable, "-c", script, str(parent)], capture_output=True, text=True, check=True
    )
    calibration, surgery = (int(line) for line in run.stdout.split())
    assert layer_bytes < calibration < 1.5 * layer_bytes
    assert surgery < 1.5 * layer_bytes


@pytest.mark.slow
def test_a_whole_run_for_a_quarter_of_a_layer_takes_little_more_than_both(tmp_path: Path) -> None:
    sizes = {"hidden_size": 512, "moe_intermediate_size": 512, "num_hidden_layers": 2}
    save_sparse(tmp_path / "parent", {**SIZES, **sizes})
    (tmp_path / "quarter.pzl").write_text(QUARTER)
    run = subprocess.run(
        [sys.executable, "-c", BLD, str(tmp_path)], capture_output=True, text=True, check=True
    )
    layer_bytes = SIZES["num_experts"] * 3 * 512 * 512 * 4  # float32
    assert 1.25 * layer_bytes < int(run.stdout) < 1.5 * layer_bytes
