"""Healing quantised sub-blocks: their last maps are fitted and rounded again, and lie on their grids, in any dtype."""

from pathlib import Path

import pytest
import torch

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention
from puzzledsl.alternatives.precision import PRECISIONS
from puzzledsl.base.progress import Silent
from puzzledsl.child.checkpoint.contents import from_directory, load_child
from puzzledsl.child.checkpoint.write import realise
from puzzledsl.child.healing.walk import heal
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.precision.gptq import codes_of
from tests.child.healing.test_healing import CALIBRATION, HELD_OUT, kl_of, same_files
from tests.children import PARENT, Choice, define, random_pieces
from tests.export.variants import A, F
from tests.interrupting import Interrupting
from tests.tiny import save_tiny

LAYERS: list[Choice] = [
    (ParentAttention(dtype="fp8"), MlpFfn(width=32, dtype="int4")),
    (GqaAttention(kv_heads=1, dtype="int8"), F),
    (A, LinearFfn(dtype="int4")),
    PARENT,
]
SIZES = {"layers": 4, "hidden": 32}
TYPES = {
    "layers.0.self_attn.": "fp8",
    "layers.0.mlp.": "int4",
    "layers.1.self_attn.": "int8",
    "layers.2.mlp.": "int4",
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_healed_weights_lie_on_their_grids(dtype: torch.dtype, tmp_path: Path) -> None:
    directory = save_tiny(tmp_path / "parent", **SIZES)
    definition, parent = define(LAYERS), load_parent(directory, dtype=dtype)
    pieces = random_pieces(parent, LAYERS)
    result = heal(parent, definition.layers, pieces, CALIBRATION, HELD_OUT, tmp_path / "work", Silent())
    realise(definition, directory, pieces, tmp_path / "plain", dtype=dtype)
    fitted = result.weights(tmp_path / "work")
    realise(definition, directory, pieces, tmp_path / "healed", healed=fitted, dtype=dtype)
    before, after = (from_directory(tmp_path / name) for name in ("plain", "healed"))
    assert set(after.storage_types().values()) == {"fp8", "int8", "int4"}
    for name, storage in after.storage_types().items():
        assert after.weights[name].dtype == torch.float32
        assert storage == next(kind for start, kind in TYPES.items() if start in name)
        assert codes_of(after.weights[name].read(), PRECISIONS[storage]) is not None, name
    changed = "model.layers.0.mlp.down_proj.weight"
    assert not torch.equal(before.weights[changed].read(), after.weights[changed].read())
    if dtype == torch.float32:
        kls = [kl_of(parent, load_child(tmp_path / name)) for name in ("plain", "healed")]
        assert kls == pytest.approx([result.kl_before, result.kl_after], rel=1e-4)
        assert kls[1] < kls[0]


def test_an_interrupted_healing_gives_the_same_weights(tmp_path: Path) -> None:
    parent, definition = load_parent(save_tiny(tmp_path / "parent", **SIZES)), define(LAYERS)
    given = parent, definition.layers, random_pieces(parent, LAYERS), CALIBRATION, HELD_OUT
    whole = heal(*given, tmp_path / "whole", Silent())
    with pytest.raises(KeyboardInterrupt):
        heal(*given, tmp_path / "again", Interrupting(2))
    assert heal(*given, tmp_path / "again", Silent()).kl_after == whole.kl_after
    assert same_files(tmp_path / "whole", tmp_path / "again")
