"""The registry holds every alternative once, under its word, and reads what checkpoints and tables call it."""

import re
from pathlib import Path
from types import FunctionType

import pytest

import puzzledsl
from puzzledsl.alternatives.alternative import SUB_BLOCKS, Alternative
from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, LinearFfn, NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.registry import ATTENTION, FFN, KINDS, is_canonical
from puzzledsl.alternatives.shape import Shape

LLAMA_8B = Shape(
    family="llama", layers=32, hidden=4096, heads=32, kv_heads=8, head_dim=128, intermediate=14336, vocab=128256, tied=False
)  # fmt: skip
EXAMPLES: tuple[Alternative, ...] = (
    ParentAttention(),
    GqaAttention(kv_heads=4),
    GqaAttention(kv_heads=4, window=8192),
    GqaAttention(kv_heads=2, window=64, sinks=4),
    LinearAttention(),
    NoOpAttention(),
    ParentFfn(),
    MlpFfn(width=21504),
    MoeFfn(experts=8, top_k=2, width=1024),
    LinearFfn(),
    NoOpFfn(),
)


@pytest.mark.parametrize("sub_block", SUB_BLOCKS)
def test_each_is_under_its_word_and_sub_block(sub_block) -> None:
    of_all = {*ATTENTION.values(), *FFN.values()}
    assert {type(example) for example in EXAMPLES} == of_all, "add an instance of each to EXAMPLES"
    for word, kind in KINDS[sub_block].items():
        assert (kind.kind, kind.sub_block) == (word, sub_block)
        assert kind.summary.endswith(".")
        assert set(kind.fields()) <= set(kind.arguments)
        assert 0 <= kind.positional <= len(kind.arguments)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda a: f"{a.sub_block}-{a.name}")
def test_names_are_canonical_in_their_sub_block_alone_and_parts_make_up_the_whole(
    example: Alternative,
) -> None:
    assert is_canonical(example.name, example.sub_block)
    assert not is_canonical(example.name + "x", example.sub_block)
    (other,) = {*SUB_BLOCKS} - {example.sub_block}
    assert is_canonical(example.name, other) == (example.kind in KINDS[other])
    if example.kind != "moe":  # several GPUs' matrices add up if all divides: key/value heads, no router
        for gpus in (1, 2, 4) if example.kind != "gqa" else (1, 2):
            assert gpus * example.size(LLAMA_8B, gpus).matrices == example.size(LLAMA_8B).matrices


def test_the_interface_is_small_and_nothing_outside_asks_for_no_ops_by_name() -> None:
    methods = [
        name
        for name, of in vars(Alternative).items()
        if isinstance(of, FunctionType | property | classmethod) and not name.startswith("_")
    ]
    assert len(methods) <= 20, methods
    files = Path(puzzledsl.__file__).parent.rglob("*.py")
    assert not [str(file) for file in files if re.search(r'kind [!=]= "noop"', file.read_text("utf-8"))]
