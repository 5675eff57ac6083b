"""A small program by hand: three layers of 4 x 4 alternatives, one BLD declaration of each mode."""

from collections.abc import Callable

import pytest

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, LinearFfn, NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir import nodes

CHOICE = nodes.LayerChoice(
    attention=(ParentAttention(), GqaAttention(kv_heads=1), LinearAttention(), NoOpAttention()),
    ffn=(ParentFfn(), MlpFfn(width=32), LinearFfn(), NoOpFfn()),
)
SIZES = {"hidden": 64, "heads": 4, "kv_heads": 2, "head_dim": 32, "intermediate": 128, "vocab": 100}
SMALL = nodes.Shape(family="llama", layers=3, tied=True, **SIZES)
DEFAULT = nodes.Initialisers()


def make_program(
    line: int = 3,
    suffix: str = "",
    layers: tuple[nodes.LayerChoice, ...] = (CHOICE,) * 3,
    shape: nodes.Shape = SMALL,
    init: nodes.Initialisers = DEFAULT,
    parent: str = "checkpoint",
    data: str = "corpus/*.txt",
    **changes: object,
) -> nodes.Program:
    """The program; other lines and suffixes are the same meaning, written elsewhere and with other names."""
    here = nodes.Where(file=f"t{suffix}.pzl", line=line, column=1, end_line=line, end_column=9)
    p, w, mix = f"p{suffix}", f"wide{suffix}", f"mix{suffix}"
    usual = {"space": w, "tokens": 1000, "lr": nodes.Schedule(peak=1e-4), "data": mix, "where": here}
    blds = (
        nodes.Bld(name=f"{mode}{suffix}", mode=mode, **usual).model_copy(update=changes)
        for mode in ("decoupled", "coupled")
    )
    best = nodes.Search(
        name="best",
        space=w,
        sense="minimize",
        objective=nodes.Linear(terms=()),
        solver=nodes.CpSat(time_s=1),
        where=here,
    )
    return nodes.Program(
        source=f"t{suffix}.pzl",
        parents={p: nodes.Parent(name=p, source=nodes.HfSource(id=parent), shape=shape, where=here)},
        data={mix: nodes.Data(name=mix, source=nodes.TextData(paths=(data,)), where=here)},
        spaces={w: nodes.Space(name=w, parent=p, layers=layers, init=init, where=here)},
        blds={bld.name: bld for bld in blds},
        searches={"best": best},
    )


@pytest.fixture
def small() -> nodes.Shape:
    return SMALL


@pytest.fixture
def program() -> Callable[..., nodes.Program]:
    return make_program
