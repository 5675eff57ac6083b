"""Scores of rounded keys and values are those of whole models that round them, with the pieces of unrounded ones."""

from pathlib import Path

import pytest
import torch

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.progress import Silent
from puzzledsl.child.healing.walk import HealingInputs, healed_weights
from puzzledsl.models.families.load import load_parent
from tests.scoring.cases import Case

ATTENTION = (
    ParentAttention(),
    ParentAttention(kv_cache="q8_0"),
    ParentAttention(kv_cache="fp8"),
    GqaAttention(kv_heads=1),
    GqaAttention(kv_heads=1, kv_cache="q8_0"),
)
MODEL = {"layers": 2, "hidden": 64, "head_dim": 32}
FFN = (ParentFfn(), MlpFfn(width=16))


def made(folder: Path, family: str = "llama", **changes: object) -> Case:
    return Case.of(folder, family, attention=ATTENTION, ffn=FFN, model=MODEL, **changes)


@torch.no_grad()
@pytest.mark.states("space.kv-cache")
@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_scores_are_those_of_whole_forward_passes(family: str, tmp_path: Path) -> None:
    case = made(tmp_path, family)
    for metric in ("kl_divergence", "lm_loss", "cosine"):
        table = case.score(metric=metric, samples=45)
        for layer, found in enumerate(table.attention):
            wanted = {a.name: case.naive(layer, a, ParentFfn(), 45)[metric] for a in ATTENTION[1:]}
            assert found == pytest.approx(wanted, abs=1e-5)
            if metric == "kl_divergence":
                assert 1e-8 < found["parent@kv_q8_0"] < found["parent@kv_fp8"]


@torch.no_grad()
@pytest.mark.parametrize("mode", ["decoupled", "coupled"])
def test_pairs_are_those_of_whole_forward_passes(mode: str, tmp_path: Path) -> None:
    case = made(tmp_path, mode=mode)
    table = case.score(metric="kl_divergence", samples=32, unit="block")
    for layer, found in enumerate(table.pairs):
        assert len(found) == len(ATTENTION) * 2 - 1
        wanted = case.naive(layer, ATTENTION[1], ParentFfn(), 32)["kl_divergence"]
        assert found["parent@kv_q8_0/parent"] == pytest.approx(wanted, abs=1e-5)


@torch.no_grad()
def test_children_with_types_are_healed(tmp_path: Path) -> None:
    """Healing refits what follows a rounded attention of the parent's, and its own last map."""
    case = made(tmp_path)
    child = case.child([(ATTENTION[2], ParentFfn()), (ATTENTION[4], ParentFfn())])
    parts = (case.program, child.search, case.base / "parent", case.base, case.library, case.jobs)
    found = healed_weights(HealingInputs(*parts, case.base / "heal", Silent(), definition=child))
    assert {name.split(".")[2] for name in found} <= {"0", "1"}
    parent = load_parent(case.base / "parent").state_dict()
    own = found.get("model.layers.0.self_attn.o_proj.weight")
    assert own is None or not torch.equal(own.read(), parent["model.layers.0.self_attn.o_proj.weight"])
