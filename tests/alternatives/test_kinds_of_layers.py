"""Alternatives in layers of different kinds: where each fits, their names, figures and entries of a checkpoint."""

from fractions import Fraction
from typing import Any

import pytest

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, LinearFfn, NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.registry import is_canonical
from puzzledsl.alternatives.shape import FIELDS_OF, LAYER_FIELDS, LayerShape, Shape, StateShape
from puzzledsl.families.block_configs import entry_of, from_entry
from puzzledsl.ir.facts import layer_fact, layer_kinds

SIZES: dict[str, Any] = {
    "family": "llama", "layers": 4, "hidden": 64, "heads": 8, "kv_heads": 4, "head_dim": 8, "intermediate": 192,
    "vocab": 256, "tied": False,
}  # fmt: skip
DENSE = Shape(**SIZES)
MIXTURE = Shape(**SIZES, ffn="moe", experts=8, top_k=2, expert_width=32, shared_width=16)
STATE = Shape(
    **SIZES, mixer="mamba2", ffn="none", state=StateShape(heads=8, head_dim=8, groups=2, state=16, conv=4)
)
ONLY_FFN = Shape(**SIZES, mixer="none")


@pytest.mark.parametrize(
    ("kind", "fits"),
    [
        (ParentAttention, {"dense", "mixture", "state", "ffn"}),
        (ParentFfn, {"dense", "mixture", "state", "ffn"}),
        (GqaAttention, {"dense", "mixture"}),
        (LinearAttention, {"dense", "mixture", "state"}),
        (NoOpAttention, {"dense", "mixture", "state"}),
        (MlpFfn, {"dense", "mixture", "ffn"}),
        (MoeFfn, {"mixture"}),
        (LinearFfn, {"dense", "mixture", "ffn"}),
        (NoOpFfn, {"dense", "mixture", "ffn"}),
    ],
)
def test_where_each_fits(kind: type[Alternative], fits: set[str]) -> None:
    layers = {"dense": DENSE, "mixture": MIXTURE, "state": STATE, "ffn": ONLY_FFN}
    assert {name for name, own in layers.items() if not kind.unfit(own)} == fits
    assert sorted((*FIELDS_OF["attention"], *FIELDS_OF["ffn"])) == sorted(LAYER_FIELDS)


@pytest.mark.parametrize(
    ("alternative", "name", "heads"),
    [
        (GqaAttention(kv_heads=2), "gqa2", 8),
        (GqaAttention(kv_heads=2, heads=4), "gqa2h4", 4),
        (GqaAttention(kv_heads=4, heads=4, window=64, sinks=4), "gqa4h4w64s4", 4),
    ],
)
def test_fewer_query_heads(alternative: GqaAttention, name: str, heads: int) -> None:
    assert alternative.name == name
    assert is_canonical(name, "attention")
    assert alternative.alone(DENSE).query_heads == heads
    assert alternative.figure("heads", DENSE) == heads
    sizes = alternative.stored(DENSE)
    assert sizes["q_proj.weight"] == (heads * 8, 64)
    assert sizes["o_proj.weight"] == (64, heads * 8)
    assert sizes["k_proj.weight"] == (alternative.kv_heads * 8, 64)
    entry = {"no_op": False, "replace_with_linear": False} | entry_of(alternative, DENSE)
    assert from_entry("attention", entry, DENSE) == alternative
    assert type(alternative).from_json(alternative.model_dump_json()) == alternative


def test_figures_of_the_parent() -> None:
    parent = ParentFfn()
    assert [parent.answers_to("mlp", own) for own in (DENSE, MIXTURE, STATE)] == [True, False, False]
    assert [parent.answers_to("moe", own) for own in (DENSE, MIXTURE, STATE)] == [False, True, False]
    assert [parent.figure(field, MIXTURE) for field in ("experts", "top_k", "width")] == [8, 2, 32]
    assert parent.figure("width", DENSE) == 192
    attention, windowed = ParentAttention(), DENSE.model_copy(update={"window": 64})
    assert attention.answers_to("gqa", DENSE)
    assert not attention.answers_to("gqa", STATE)
    assert attention.figure("window", windowed) == Fraction(64)
    assert GqaAttention(kv_heads=2).figure("window", windowed) == Fraction(64)
    assert [own.ffn_width for own in (DENSE, MIXTURE, STATE)] == [192, 80, 0]


def test_kinds_of_layers_in_words() -> None:
    matrix = LayerShape(layers=(1,), mixer="linear", ffn="none")
    state = LayerShape(layers=(2,), mixer="mamba2", state=STATE.state, ffn="linear")
    mixed = DENSE.model_copy(update={"by_layer": (matrix, state, LayerShape(layers=(3,), mixer="none"))})
    assert "; ".join(layer_kinds(mixed)) == (
        "layer 0: attention, FFN of 192; layer 1: a matrix in place of attention; "
        "layer 2: Mamba2, a matrix in place of the FFN; layer 3: FFN of 192"
    )
    assert [layer_fact(own, "heads") for own in mixed.each] == [8, 0, 0, 0]
