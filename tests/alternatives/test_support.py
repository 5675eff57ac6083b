"""What an architecture of a runtime says of layers, models and storage types, and what alternatives store."""

import pytest

from puzzledsl.alternatives.linear import LinearFfn
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.precision import CACHES, PRECISIONS, WIDTH, misfit
from puzzledsl.alternatives.shape import Shape
from puzzledsl.alternatives.support import FAMILY, NATIVE, Absent, Architecture, worst
from puzzledsl.alternatives.weights import USUAL

DENSE = Shape(
    family="llama", layers=4, hidden=64, heads=8, kv_heads=4, head_dim=8, intermediate=128, vocab=512, tied=False,
    attention_bias=True,
)  # fmt: skip
MIXTURE = DENSE.model_copy(
    update={
        "family": "qwen3_moe",
        "ffn": "moe",
        "experts": 8,
        "top_k": 2,
        "expert_width": 32,
        "intermediate": 0,
    }
)
NO = Absent(reason="no")


def architecture(**more: object) -> Architecture:
    return Architecture(name="a", source="a.py", families={"llama": NATIVE}, **more)


def test_what_it_lacks_of_a_model() -> None:
    found = dict(architecture().of_model(MIXTURE, USUAL))
    assert "has qwen3_moe layers" in found[FAMILY].reason and len(found) == 1
    assert dict(architecture().of_model(DENSE, USUAL)) == {}
    yarn = USUAL.model_copy(update={"ropes": ("default", "yarn")})
    assert dict(architecture().of_model(DENSE, yarn)) == {}
    assert [*dict(architecture(ropes=("default",)).of_model(DENSE, yarn))] == ["`yarn` rotary embeddings"]


@pytest.mark.parametrize("cache", [None, *CACHES])
def test_caches_and_types_that_it_has(cache: str | None) -> None:
    has, lacks = architecture(caches=tuple(CACHES)), architecture()
    assert has.caching(cache) == NATIVE
    assert (lacks.caching(cache) == NATIVE) == (cache is None)
    assert architecture(precisions=("q8_0",), quantised_experts=NO).storage("q8_0", mixture=True) == NO
    assert lacks.storage("q8_0", mixture=False).kind == "absent"


def test_a_dense_ffn_in_a_mixture_is_no_other_width() -> None:
    own = architecture(dense_in_mixture=NO, width=Absent(reason="width"))
    narrow = DENSE.model_copy(update={"intermediate": 96})
    assert [*own.of_layer("ffn", MIXTURE, narrow, first=False)] == [NO]
    assert [*own.of_layer("ffn", DENSE, narrow, first=False)] == [own.width]
    assert [*own.of_layer("ffn", DENSE, DENSE, first=False)] == [NATIVE]


def test_the_worst_answer_counts() -> None:
    assert worst(NATIVE, NO, NATIVE) == NO and worst(NATIVE) == NATIVE


def test_weights_have_the_names_of_checkpoints() -> None:
    attention = {f"{name}_proj.{kind}" for name in "qkv" for kind in ("weight", "bias")} | {"o_proj.weight"}
    assert {*ParentAttention().weights(DENSE)} == attention
    assert {*LinearFfn().weights(DENSE)} == {"linear.weight"}
    experts = {f"experts.{e}.{name}_proj.weight" for e in range(8) for name in ("gate", "up", "down")}
    assert {*ParentFfn().weights(MIXTURE)} == {"gate.weight"} | experts


def test_scales_of_experts_and_widths_that_are_filled_up() -> None:
    """Eight bits have one scale for 32 numbers of a row."""
    stored = MoeFfn(experts=8, top_k=2, width=32, dtype="q8_0").size(MIXTURE).stored
    assert stored is not None
    assert (stored.scales, stored.expert_scales, stored.plain) == (0, 8 * 3 * 64, 8 * 64)
    eight_bits = PRECISIONS["q8_0"]
    assert misfit(eight_bits, [(WIDTH, (64, 40))]) == "" and "q_proj" in misfit(
        eight_bits, [("q_proj.weight", (64, 40))]
    )
