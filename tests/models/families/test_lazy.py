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
from puzzledsl.ir.nodes import Initialisers
from puzzledsl.models.alternatives.build import initialise
from puzzledsl.models.families.access import layers, shape_of
from puzzledsl.models.families.paged import paged_parent
from puzzledsl.pieces.initialise.statistics import walk_layers

def memory(field):
    return int(re.search(field + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

torch.set_num_threads(1)
model, pages = paged_parent(Path(sys.argv[1]), room_bytes=0, dtype=torch.bfloat16)
before = memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
for layer, statistics in walk_layers(model, [torch.arange(64)[None]], layers=[0]):
    assert statistics.tokens == 64 and pages.present == ("model.layers.0",)
    own = shape_of(model.config).at(0)
    piece = initialise(layers(model)[0], MlpFfn(width=512), statistics, Initialisers(), own)
    assert piece["down_proj.weight"].shape == (1024, 512)
print(memory("VmHWM") - before)
"""


@pytest.mark.slow
def test_one_layer_of_forty_gigabytes_takes_the_memory_of_one_layer(tmp_path: Path) -> None:
    parent = save_sparse(tmp_path / "parent")
    assert sum(file.stat().st_size for file in parent.iterdir()) > 40e9
    wanted = inventory(shape_of_config(SIZES)).items()
    layer_bytes = sum(2 * math.prod(shape) for name, shape in wanted if name.startswith("model.layers.0."))
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(parent)], capture_output=True, text=True, check=True
    )
    assert layer_bytes < int(run.stdout) < 1.5 * layer_bytes
