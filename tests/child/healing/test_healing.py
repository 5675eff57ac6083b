"""A healed child is the assembled child with other last weights; what is said of it is true; being killed changes nothing."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.base.progress import Silent
from puzzledsl.child.checkpoint.contents import load_child
from puzzledsl.child.checkpoint.write import realise
from puzzledsl.child.definition import model_definition
from puzzledsl.child.healing import fit, walk
from puzzledsl.child.healing.layer import ChildSubBlock, Link
from puzzledsl.child.healing.walk import Healed, HealingInputs, heal, healed_weights
from puzzledsl.data.counts import Budget
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import LayerAssignment, ModelDefinition, Solution
from puzzledsl.models import placement
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.families.tensors import open_weights
from puzzledsl.pieces.store.library import Library
from puzzledsl.plan.bld import bld_plan
from tests.blocks import token_blocks
from tests.children import MIXED, PARENT, Choice, define, random_pieces
from tests.export.variants import G1, NA, NF, A, F
from tests.interrupting import Interrupting, Recorder
from tests.pieces.train.bld_programs import make_pieces, make_program
from tests.tiny import FAMILIES, save_tiny, tiny_tokenizer, tiny_tokens

CALIBRATION, HELD_OUT = tiny_tokens(24, 16, seed=1), tiny_tokens(4, 16, seed=2)
AROUND: list[Choice] = [PARENT, *MIXED, PARENT]
DROPPED: Choice = (NA, NF)


def healed(directory: Path, layers: list[Choice], work: Path, progress: Any = None, **options: Any) -> Healed:
    """Heal a child with random pieces; the parent stays as it is."""
    parent = load_parent(directory)
    before = {name: weight.clone() for name, weight in parent.state_dict().items()}
    pieces, texts = random_pieces(parent, layers), (CALIBRATION, HELD_OUT)
    result = heal(parent, define(layers).layers, pieces, *texts, work, progress or Silent(), **options)
    assert all(torch.equal(weight, before[name]) for name, weight in parent.state_dict().items())
    return result


def same_files(one: Path, other: Path) -> bool:
    files = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in (one, other)]
    return files[0] == files[1]


@torch.no_grad()
def kl_of(parent: PreTrainedModel, child: PreTrainedModel) -> float:
    p, q = (model(HELD_OUT, use_cache=False).logits.double().log_softmax(-1) for model in (parent, child))
    return float((p.exp() * (p - q)).sum(-1).mean())


@pytest.mark.parametrize("family", FAMILIES)
def test_both_divergences_are_those_of_the_checkpoints(family: str, tmp_path: Path) -> None:
    directory = save_tiny(tmp_path / "parent", family, layers=6)
    result, parent = healed(directory, AROUND, tmp_path / "work"), load_parent(directory)
    fitted = result.weights(tmp_path / "work")
    for name, weights, said in (("assembled", {}, result.kl_before), ("healed", fitted, result.kl_after)):
        realise(define(AROUND), directory, random_pieces(parent, AROUND), tmp_path / name, healed=weights)
        assert kl_of(parent, load_child(tmp_path / name)) == pytest.approx(said, rel=1e-4)
    before, after = (open_weights(tmp_path / name) for name in ("assembled", "healed"))
    changed = {n for n in before if not torch.equal(before[n].read(), after[n].read())}
    endings = {".weight": "", ".bias": "_bias"}
    stored = {
        re.sub(r"experts\.\d+\.down_proj(\.\w+)", lambda m: f"experts.down_proj{endings[m[1]]}", name)
        for name in fitted
    }
    assert set(before) == set(after) and changed and changed <= stored
    last_maps = ("o_proj.weight", "down_proj.weight", "linear.weight", "experts.down_proj", "down_proj_bias")
    assert all(name.endswith(last_maps) for name in changed)


def test_pieces_below_which_nothing_changed_are_fitted_to_the_parent_alone(tmp_path: Path) -> None:
    """The streams are still one there: with more tokens than inputs, the least squares is an exact linear map's own."""
    parent = load_parent(save_tiny(tmp_path / "parent", layers=1))
    layer = (
        GqaAttention(kv_heads=4),
        MlpFfn(width=40),
    )  # more heads, all channels: the parent is among its fits
    own = dict(parent.model.layers[0].self_attn.state_dict())
    heads = {n: own[n].view(2, 8, -1).repeat_interleave(2, 0).flatten(0, 1) for n in own if n[0] in "kv"}
    ffn = dict(parent.model.layers[0].mlp.state_dict())
    spoilt = {
        "attention-0": own | heads | {"o_proj.weight": 1.3 * own["o_proj.weight"]},
        "ffn-0": ffn | {"down_proj.weight": 0.8 * ffn["down_proj.weight"]},
    }
    texts = tiny_tokens(400, 16), HELD_OUT
    result = heal(parent, define([layer]).layers, spoilt.__getitem__, *texts, tmp_path / "w", Silent())
    for name, weight in result.weights(tmp_path / "w").items():
        wanted = parent.get_parameter(name)
        spoilt_by = 0.3 if "o_proj" in name else 0.2
        assert (weight.read() - wanted).norm() / wanted.norm() < 0.2 * spoilt_by
    assert result.kl_after < 0.05 * result.kl_before


def test_of_a_coupled_piece_both_halves_are_healed_and_so_is_the_parents(tmp_path: Path) -> None:
    attention, ffn = (A, G1), (F, MlpFfn(width=24))
    sizes: dict[str, Any] = {"model": {"layers": 2}, "tokens": 128}
    program = make_program(tmp_path, mode="coupled", attention=attention, ffn=ffn, **sizes)
    library = make_pieces(program, tmp_path)
    definition = defined(program, [("gqa1", "mlp24"), ("gqa1", "parent")])
    parent, pieces = load_parent(tmp_path / "parent"), library.load
    result = heal(parent, definition.layers, pieces, CALIBRATION, HELD_OUT, tmp_path / "w", Silent())
    last = ["0.mlp.down_proj", "0.self_attn.o_proj", "1.mlp.down_proj", "1.self_attn.o_proj"]
    assert sorted(result.weights(tmp_path / "w")) == [f"model.layers.{name}.weight" for name in last]


def test_a_dropped_layer_is_made_up_for_by_those_around_it_and_others_stay(tmp_path: Path) -> None:
    """Heal the FFN of the layer below, which writes what the layer above reads. Nothing below that changes."""
    directory = save_tiny(tmp_path / "parent", layers=5)
    result = healed(directory, [PARENT, PARENT, DROPPED, PARENT, PARENT], tmp_path / "work")
    above = (f"{i}.{name}" for i in (3, 4) for name in ("mlp.down_proj", "self_attn.o_proj"))
    last = ["1.mlp.down_proj", *above]
    assert sorted(result.weights(tmp_path / "work")) == [f"model.layers.{name}.weight" for name in last]
    assert result.kl_after < 0.9 * result.kl_before


def test_streams_in_files_give_the_same_weights_and_leave_nothing_behind(tmp_path: Path) -> None:
    directory = save_tiny(tmp_path / "parent", layers=6)
    held = healed(directory, AROUND, tmp_path / "memory", held_bytes=1 << 30)
    assert healed(directory, AROUND, tmp_path / "files", held_bytes=1).kl_after == held.kl_after
    assert not list(tmp_path.rglob("hidden*")) and same_files(tmp_path / "memory", tmp_path / "files")


@pytest.mark.parametrize("layers_done", [2, 4])
def test_killed_it_ends_in_the_same_bytes_and_fits_no_layer_twice(
    layers_done: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = save_tiny(tmp_path / "parent", layers=6)
    whole = healed(directory, AROUND, tmp_path / "whole")
    fitted: list[Link] = []
    real = fit.fit_last

    def counted(sub_block: ChildSubBlock, *passages: Any) -> None:
        fitted.append(sub_block.link)
        real(sub_block, *passages)

    monkeypatch.setattr(walk, "fit_last", counted)
    with pytest.raises(KeyboardInterrupt):
        healed(directory, AROUND, tmp_path / "work", Interrupting(layers_done))
    result = healed(directory, AROUND, tmp_path / "work")
    assert len(fitted) == len(set(fitted)) == len(whole.weights(tmp_path / "whole"))
    assert (result.kl_before, result.kl_after) == (whole.kl_before, whole.kl_after)
    assert same_files(tmp_path / "whole", tmp_path / "work")


@pytest.mark.parametrize("family", ["granite", "olmo2", "gemma3_text", "phi3"])
def test_healing_brings_children_of_each_kind_of_layer_back(tmp_path: Path, family: str) -> None:
    """Factors, norms behind and joined projections: after a dropped attention and a dropped FFN."""
    model = load_parent(save_tiny(tmp_path / "parent", family, layers=4, scale=0.15))
    dropped = [PARENT, (NA, F), PARENT, (A, NF)]
    texts = tiny_tokens(64, 32), tiny_tokens(16, 32, seed=1)
    healed = heal(model, define(dropped).layers, {}.__getitem__, *texts, tmp_path / "work", Silent())
    assert healed.kl_after < 0.8 * healed.kl_before


# ---------------------------------------------------------------- programs


@dataclass(frozen=True)
class Trained:
    """A program whose pieces are made, and a child that uses one of each kind."""

    base: Path
    program: nodes.Program
    library: Library
    definition: ModelDefinition

    def healed(
        self, work: Path, program: nodes.Program | None = None, definition: ModelDefinition | None = None
    ) -> tuple[dict[str, Any], Recorder]:
        """Healed weights of the child, and the log."""
        program, log = program or self.program, Recorder()
        inputs = HealingInputs(
            program, "best", self.base / "parent", self.base, self.library, bld_plan(program, "b"), work, log,
            definition=definition or self.definition,
        )  # fmt: skip
        return healed_weights(inputs), log

    def with_bld(self, **changes: Any) -> nodes.Program:
        bld = self.program.blds["b"].model_copy(update=changes)
        return self.program.model_copy(update={"blds": {"b": bld}})

    def blocks(self) -> Tensor:
        """The first blocks of the order that BLD, scoring and healing share out."""
        bld, data = self.program.blds["b"], self.program.data["mix"]
        sizes = {"context": bld.context, "tokens": 150 * bld.context, "seed": bld.seed}
        return token_blocks(data, self.base, tiny_tokenizer(), **sizes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    base = tmp_path_factory.mktemp("trained")
    program = make_program(base, calibration_tokens=512, tokens=256)
    definition = defined(program, [("gqa1", "mlp24"), ("linear", "mlp8"), ("parent", "linear")])
    return Trained(base, program, make_pieces(program, base), definition)


def defined(program: nodes.Program, names: list[tuple[str, str]]) -> ModelDefinition:
    layers = tuple(LayerAssignment(attention=a, ffn=f) for a, f in names)
    search = nodes.Search(
        name="best",
        space="w",
        where=program.blds["b"].where,
        sense="minimize",
        objective=nodes.Linear(terms=()),
        solver=nodes.CpSat(),
    )
    program = program.model_copy(update={"searches": {"best": search}})
    return model_definition(program, "best", Solution(objective=0, layers=layers), bld_plan(program, "b"))


def test_a_child_of_trained_pieces_gets_better(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, log = trained.healed(tmp_path / "whole")
    (event,) = log.named("healed")
    assert whole and event["kept"] == "healed" and event["kl_healed"] < event["kl_assembled"]
    again, _ = trained.healed(tmp_path / "again")
    monkeypatch.setattr(placement, "room_bytes", lambda: 1)
    paged, log = trained.healed(tmp_path / "paged")  # the parent is read layer by layer
    assert log.named("paged") and set(paged) == set(again) == set(whole)
    for name, weight in whole.items():
        assert torch.equal(weight.read(), again[name].read()) and torch.equal(
            weight.read(), paged[name].read()
        )


def test_a_child_that_healing_makes_worse_stays_as_it_is(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "fit_last", lambda sub_block, *_: sub_block.last.weight.mul_(-20))
    found, log = trained.healed(tmp_path)
    (event,) = log.named("healed")
    assert found == {} and event["kept"] == "assembled" and event["kl_healed"] > event["kl_assembled"]


def test_what_has_nothing_to_heal_stays_as_assembled(trained: Trained, tmp_path: Path) -> None:
    """The parent, a child of no-ops, and one without tokens to heal on."""
    for name in ("parent", "noop"):
        definition = defined(trained.program, [(name, name)] * 3)
        assert trained.healed(tmp_path / name, definition=definition)[0] == {}
    assert trained.healed(tmp_path / "none", trained.with_bld(heal_tokens=0))[0] == {}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Calibration and held-out tokens that healing is given."""
    found: list[Tensor] = []

    def spy(*given: Any, **_: Any) -> Healed:
        found.extend(given[3:5])
        return Healed((), 1.0, 0.5, given[3].numel(), given[4].numel())

    monkeypatch.setattr("puzzledsl.child.healing.walk.heal", spy)
    return found


SCORED_BLOCKS = 3
"""The test program's score has 40 positions, 16 a block."""


@pytest.mark.parametrize("free", [5, 100_000])
def test_it_sees_no_block_that_is_scored_and_is_judged_on_others_than_it_is_fitted_to(
    trained: Trained, free: int, tmp_path: Path, seen: list[Tensor]
) -> None:
    """BLD's own tokens first, then those behind what scoring reads, as many as are asked for or there are."""
    bld, blocks = trained.program.blds["b"], trained.blocks()
    budget = Budget.of(bld)
    known, behind = budget.calibration + budget.training, budget.blocks + 2 * SCORED_BLOCKS
    trained.healed(tmp_path, trained.with_bld(heal_tokens=(known + free) * bld.context))
    used = seen[0][: known + 5]
    assert torch.equal(used, torch.cat([blocks[:known], blocks[behind : behind + 5]]))
    assert (len(seen[0]) == known + 5) == (free == 5)
    assert torch.equal(seen[1], blocks[known : budget.blocks])


def test_a_text_of_its_own_is_read_from_behind_what_is_scored_on_it(
    trained: Trained, tmp_path: Path, seen: list[Tensor]
) -> None:
    program = trained.with_bld(heal_tokens=80, heal_data="other")
    method = nodes.ReplaceOne(metric="kl_divergence", samples=40, data="other")
    data = program.data | {"other": program.data["mix"].model_copy(update={"name": "other"})}
    scores = {"s": program.scores["s"].model_copy(update={"method": method})}
    trained.healed(tmp_path, program.model_copy(update={"data": data, "scores": scores}))
    blocks, judging = trained.blocks(), 1024 // program.blds["b"].context
    assert torch.equal(seen[1], blocks[2 * SCORED_BLOCKS :][:judging])
    assert torch.equal(seen[0], blocks[2 * SCORED_BLOCKS + judging :][:5])
