"""Memory of piece making on a large mixture: little more than one layer, however large the model and its files."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from puzzledsl.families.registry import shape_of_config
from puzzledsl.models.families.inventory import inventory
from tests.models.families.sparse import SIZES, save_sparse

SCRIPT = """
import re, sys
from pathlib import Path
import torch
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.ir.nodes import Initialisers
from puzzledsl.models.alternatives.build import initialise
from puzzledsl.models.families.access import layers, shape_of
from puzzledsl.models.families.paged import paged_parent
from puzzledsl.pieces.initialise.statistics import walk_from

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
