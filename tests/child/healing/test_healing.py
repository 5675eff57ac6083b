"""A healed child is the assembled child with other last weights; what is said of it is true; being killed changes nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.progress import Silent
from puzzledsl.child.checkpoint.contents import load_child
from puzzledsl.child.checkpoint.write import realise
from puzzledsl.child.definition import model_definition
from puzzledsl.child.healing import fit, walk
from puzzledsl.child.healing.layer import ChildSubBlock, Link
from puzzledsl.child.healing.run import HealingInputs, healed_weights
from puzzledsl.child.healing.walk import Healed, heal
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
from tests.pieces.train.bld_programs import make_pieces, make_program
from tests.tiny import FAMILIES, save_tiny, tiny_tokenizer, tiny_tokens

CALIBRATION, HELD_OUT = tiny_tokens(24, 16, seed=1), tiny_tokens(4, 16, seed=2)


def healed(
    directory: Path, layers: list[Choice], work: Path, calibration: Tensor = CALIBRATION, progress: Any = None
) -> tuple[ModelDefinition, Healed, PreTrainedModel]:
    """The definition, what healing gives, and the parent afterwards."""
    parent = load_parent(directory)
    definition = define(layers)
    pieces = random_pieces(parent, layers)
    result = heal(parent, definition.layers, pieces, calibration, HELD_OUT, work, progress or Silent())
    return definition, result, parent


@torch.no_grad()
def kl_of(parent: PreTrainedModel, child: PreTrainedModel) -> float:
    p, q = (model(HELD_OUT, use_cache=False).logits.double().log_softmax(-1) for model in (parent, child))
    return float((p.exp() * (p - q)).sum(-1).mean())


@pytest.mark.parametrize("family", FAMILIES)
def test_both_divergences_are_those_of_the_checkpoints(family: str, tmp_path: Path) -> None:
    directory = save_tiny(tmp_path / "parent", family, layers=6)
    layers = [PARENT, *MIXED, PARENT]
    definition, result, parent = healed(directory, layers, tmp_path / "work")
    untouched = load_parent(directory)
    assert all(torch.equal(w, parent.state_dict()[n]) for n, w in untouched.state_dict().items())
    pieces = random_pieces(parent, layers)
    for name, weights, said in (
        ("assembled", {}, result.kl_before),
        ("healed", result.weights(tmp_path / "work"), result.kl_after),
    ):
        realise(definition, directory, pieces, tmp_path / name, healed=weights)
        child = load_child(tmp_path / name)
        assert kl_of(untouched, child) == pytest.approx(said, rel=1e-4)
    before, after = (open_weights(tmp_path / name) for name in ("assembled", "healed"))
    changed = {n for n in before if not torch.equal(before[n].read(), after[n].read())}
    endings = {".weight": "", ".bias": "_bias"}
    stored = {
        re.sub(r"experts\.\d+\.down_proj(\.\w+)", lambda m: f"experts.down_proj{endings[m[1]]}", name)
        for name in result.weights(tmp_path / "work")
    }
    assert set(before) == set(after) and changed and changed <= stored
    last_maps = ("o_proj.weight", "down_proj.weight", "linear.weight", "experts.down_proj", "down_proj_bias")
    assert all(name.endswith(last_maps) for name in changed)


def test_pieces_below_which_nothing_changed_are_fitted_to_the_parent_alone(tmp_path: Path) -> None:
    """The streams are still one there: with more tokens than inputs, the least squares is an exact linear map's own."""
    directory = save_tiny(tmp_path / "parent", layers=1)
    parent = load_parent(directory)
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
    result = heal(
        parent,
        define([layer]).layers,
        spoilt.__getitem__,
        tiny_tokens(400, 16),
        HELD_OUT,
        tmp_path / "w",
        Silent(),
    )
    for name, weight in result.weights(tmp_path / "w").items():
        wanted = parent.get_parameter(name)
        spoilt_by = 0.3 if "o_proj" in name else 0.2
        error = (weight.read() - wanted).norm() / wanted.norm()
        assert error < 0.2 * spoilt_by
    assert result.kl_after < 0.05 * result.kl_before


def test_a_child_of_trained_pieces_gets_better(tmp_path: Path) -> None:
    program, definition, library = trained(tmp_path)
    weights = by_program(program, definition, library, tmp_path)
    assert weights
    events = Recorded()
    again = by_program(program, definition, library, tmp_path, progress=events, work="other")
    (event,) = events.of("healed")
    assert event["kept"] == "healed" and event["kl_healed"] < event["kl_assembled"]
    assert all(torch.equal(weights[n].read(), again[n].read()) for n in weights)


def test_a_parent_that_is_read_layer_by_layer_gives_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, definition, library = trained(tmp_path)
    whole = by_program(program, definition, library, tmp_path)
    monkeypatch.setattr(placement, "room_bytes", lambda: 1)
    events = Recorded()
    paged = by_program(program, definition, library, tmp_path, progress=events, work="paged")
    assert events.of("paged") and whole and set(paged) == set(whole)
    assert all(torch.equal(whole[n].read(), paged[n].read()) for n in whole)


def test_of_a_coupled_piece_both_halves_are_healed_and_so_is_the_parents(tmp_path: Path) -> None:
    attention, ffn = (ParentAttention(), GqaAttention(kv_heads=1)), (ParentFfn(), MlpFfn(width=24))
    program = make_program(
        tmp_path, mode="coupled", attention=attention, ffn=ffn, model={"layers": 2}, tokens=128
    )
    library = make_pieces(program, tmp_path)
    definition = defined(program, [("gqa1", "mlp24"), ("gqa1", "parent")])
    parent, pieces = load_parent(tmp_path / "parent"), library.load
    result = heal(parent, definition.layers, pieces, CALIBRATION, HELD_OUT, tmp_path / "w", Silent())
    last = ["0.mlp.down_proj", "0.self_attn.o_proj", "1.mlp.down_proj", "1.self_attn.o_proj"]
    assert sorted(result.weights(tmp_path / "w")) == [f"model.layers.{name}.weight" for name in last]


DROPPED: Choice = (NoOpAttention(), NoOpFfn())


def test_a_dropped_layer_is_made_up_for_by_those_around_it_and_others_stay(tmp_path: Path) -> None:
    """Heal the FFN of the layer below, which writes what the layer above reads. Nothing below that changes."""
    directory = save_tiny(tmp_path / "parent", layers=5)
    _, result, _ = healed(directory, [PARENT, PARENT, DROPPED, PARENT, PARENT], tmp_path / "work")
    last = [
        "1.mlp.down_proj",
        *(f"{i}.{name}" for i in (3, 4) for name in ("mlp.down_proj", "self_attn.o_proj")),
    ]
    assert sorted(result.weights(tmp_path / "work")) == [f"model.layers.{name}.weight" for name in last]
    assert result.kl_after < 0.9 * result.kl_before


def test_streams_in_files_give_the_same_weights_and_leave_nothing_behind(tmp_path: Path) -> None:
    directory = save_tiny(tmp_path / "parent", layers=6)
    parent, layers = load_parent(directory), [PARENT, *MIXED, PARENT]
    definition, pieces = define(layers), random_pieces(parent, layers)
    found = []
    for work, held_bytes in (("memory", 1 << 30), ("files", 1)):
        result = heal(
            parent,
            definition.layers,
            pieces,
            CALIBRATION,
            HELD_OUT,
            tmp_path / work,
            Silent(),
            held_bytes=held_bytes,
        )
        found.append(result)
        assert not list((tmp_path / work).glob("hidden*"))
    assert found[0].kl_after == found[1].kl_after
    names = [path.name for path in (tmp_path / "memory").iterdir()]
    assert all((tmp_path / "memory" / n).read_bytes() == (tmp_path / "files" / n).read_bytes() for n in names)


def test_a_child_that_healing_makes_worse_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, definition, library = trained(tmp_path)
    monkeypatch.setattr(walk, "fit_last", lambda sub_block, *_: sub_block.last.weight.mul_(-20))
    events = Recorded()
    assert by_program(program, definition, library, tmp_path, progress=events) == {}
    (event,) = events.of("healed")
    assert event["kept"] == "assembled" and event["kl_healed"] > event["kl_assembled"]


def test_the_parent_and_a_child_of_no_ops_have_nothing_to_heal(tmp_path: Path) -> None:
    program, _, library = trained(tmp_path)
    for names in (("parent", "parent"), ("noop", "noop")):
        definition = defined(program, [names] * 3)
        assert by_program(program, definition, library, tmp_path) == {}


def spied(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Calibration and held-out tokens that healing is given from now on."""
    seen: list[Tensor] = []

    def spy(
        model: Any, layers: Any, pieces: Any, calibration: Tensor, held_out: Tensor, *rest: Any, **more: Any
    ) -> Healed:
        seen.extend((calibration, held_out))
        return Healed((), 1.0, 0.5, calibration.numel(), held_out.numel())

    monkeypatch.setattr("puzzledsl.child.healing.run.heal", spy)
    return seen


SCORED_BLOCKS = 3
"""The test program's score has 40 positions, 16 a block."""


@pytest.mark.parametrize("free", [5, 100_000])
def test_it_sees_no_block_that_is_scored_and_is_judged_on_others_than_it_is_fitted_to(
    free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BLD's own tokens first, then those behind what scoring reads, as many as are asked for or there are."""
    program, definition, library = trained(tmp_path)
    bld = program.blds["b"]
    budget, seen = Budget.of(bld), spied(monkeypatch)
    known, behind = budget.calibration + budget.training, budget.blocks + 2 * SCORED_BLOCKS
    asked = bld.model_copy(update={"heal_tokens": (known + free) * bld.context})
    by_program(program.model_copy(update={"blds": {"b": asked}}), definition, library, tmp_path)
    blocks = blocks_of(program, tmp_path, 150)
    used = seen[0][: known + 5]
    assert torch.equal(used, torch.cat([blocks[:known], blocks[behind : behind + 5]]))
    assert (len(seen[0]) == known + 5) == (free == 5)
    assert torch.equal(seen[1], blocks[known : budget.blocks])


def test_a_text_of_its_own_is_read_from_behind_what_is_scored_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, definition, library = trained(tmp_path)
    seen, bld = spied(monkeypatch), program.blds["b"]
    method = nodes.ReplaceOne(metric="kl_divergence", samples=40, data="other")
    program = program.model_copy(
        update={
            "blds": {"b": bld.model_copy(update={"heal_tokens": 80, "heal_data": "other"})},
            "data": program.data | {"other": program.data["mix"].model_copy(update={"name": "other"})},
            "scores": {"s": program.scores["s"].model_copy(update={"method": method})},
        }
    )
    by_program(program, definition, library, tmp_path)
    blocks, judging = blocks_of(program, tmp_path, 150), 1024 // bld.context
    assert torch.equal(seen[1], blocks[2 * SCORED_BLOCKS :][:judging])
    assert torch.equal(seen[0], blocks[2 * SCORED_BLOCKS + judging :][:5])


def test_without_tokens_to_heal_on_a_child_stays_as_assembled(tmp_path: Path) -> None:
    program, definition, library = trained(tmp_path)
    bld = program.blds["b"].model_copy(update={"heal_tokens": 0})
    assert by_program(program.model_copy(update={"blds": {"b": bld}}), definition, library, tmp_path) == {}


def blocks_of(program: nodes.Program, base: Path, count: int) -> Tensor:
    """The first blocks of the order that BLD, scoring and healing share out."""
    bld = program.blds["b"]
    tokens, seed = count * bld.context, bld.seed
    return token_blocks(
        program.data["mix"], base, tiny_tokenizer(), context=bld.context, tokens=tokens, seed=seed
    )


class Killed(Exception):
    """Stands for SIGKILL at a layer's end."""


class Recorded(Silent):
    """Keeps log lines, and dies at a layer's end where it is told to."""

    def __init__(self, die_after: int | None = None) -> None:
        self.lines: list[dict[str, Any]] = []
        self.left = die_after

    def log(self, event: str, **fields: object) -> None:
        self.lines.append({"event": event, **fields})

    def of(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == event]

    def advance(self, amount: int = 1, **figures: float | str) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise Killed


@pytest.mark.parametrize("layers_done", [2, 4])
def test_killed_it_ends_in_the_same_bytes_and_fits_no_layer_twice(
    layers_done: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = save_tiny(tmp_path / "parent", layers=6)
    layers = [PARENT, *MIXED, PARENT]
    _, whole, _ = healed(directory, layers, tmp_path / "whole")
    fitted: list[Link] = []
    real = fit.fit_last

    def counted(sub_block: ChildSubBlock, *passages: Any) -> None:
        fitted.append(sub_block.link)
        real(sub_block, *passages)

    monkeypatch.setattr(walk, "fit_last", counted)
    with pytest.raises(Killed):
        healed(directory, layers, tmp_path / "work", progress=Recorded(die_after=layers_done))
    _, result, _ = healed(directory, layers, tmp_path / "work")
    assert len(fitted) == len(set(fitted)) == len(whole.weights(tmp_path / "whole"))
    assert (result.kl_before, result.kl_after) == (whole.kl_before, whole.kl_after)
    files = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "work").iterdir())
    assert all((tmp_path / "whole" / n).read_bytes() == (tmp_path / "work" / n).read_bytes() for n in files)


class Counted(Silent):
    """Adds up units and work."""

    def start(self, task: str, total: int) -> None:
        self.units = total

    def ready(self, work: float | None = None, at_once: int = 1, cold: int = 0) -> None:
        self.work = work or 0.0

    def advance(self, amount: int = 1, *, kept: bool = False, work: float | None = None, **_: object) -> None:
        self.units, self.work = self.units - amount, self.work - (work or 0.0)


@pytest.mark.parametrize("layers", [[PARENT, *MIXED, PARENT], [*MIXED, PARENT]])
def test_all_work_is_counted_once(layers: list[Choice], tmp_path: Path) -> None:
    """Layers below the first change, those that are healed, and the comparison of the child before and after."""
    counted = Counted()
    healed(save_tiny(tmp_path / "parent", layers=len(layers)), layers, tmp_path / "work", progress=counted)
    assert counted.units == 0 and abs(counted.work) < 1


# ---------------------------------------------------------------- programs


def trained(base: Path) -> tuple[nodes.Program, ModelDefinition, Library]:
    """A program whose pieces are made, and a child that uses one of each kind."""
    program = make_program(base, calibration_tokens=512, tokens=256)
    library = make_pieces(program, base)
    return program, defined(program, [("gqa1", "mlp24"), ("linear", "mlp8"), ("parent", "linear")]), library


def defined(program: nodes.Program, names: list[tuple[str, str]]) -> ModelDefinition:
    layers = tuple(LayerAssignment(attention=a, ffn=f) for a, f in names)
    program = program.model_copy(
        update={
            "searches": {
                "best": nodes.Search(
                    name="best",
                    space="w",
                    where=program.blds["b"].where,
                    sense="minimize",
                    objective=nodes.Linear(terms=()),
                    solver=nodes.CpSat(),
                )
            }
        }
    )
    return model_definition(program, "best", Solution(objective=0, layers=layers), bld_plan(program, "b"))


def by_program(
    program: nodes.Program,
    definition: ModelDefinition,
    library: Library,
    base: Path,
    progress: Any = None,
    work: str = "work",
) -> dict[str, Any]:
    return healed_weights(
        HealingInputs(
            program,
            definition.search,
            base / "parent",
            base,
            library,
            bld_plan(program, "b"),
            base / work,
            progress or Silent(),
            definition=definition,
        )
    )


@pytest.mark.parametrize("family", ["granite", "olmo2", "gemma3_text", "phi3"])
def test_healing_brings_children_of_each_kind_of_layer_back(tmp_path: Path, family: str) -> None:
    """Factors, norms behind and joined projections: after a dropped attention and a dropped FFN."""
    model = load_parent(save_tiny(tmp_path / "parent", family, layers=4, scale=0.15))
    dropped = [PARENT, (NoOpAttention(), ParentFfn()), PARENT, (ParentAttention(), NoOpFfn())]
    texts = tiny_tokens(64, 32), tiny_tokens(16, 32, seed=1)
    healed = heal(model, define(dropped).layers, {}.__getitem__, *texts, tmp_path / "work", Silent())
    assert healed.kl_after < 0.8 * healed.kl_before
