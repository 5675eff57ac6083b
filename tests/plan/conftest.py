"""A small program by hand: three layers of 4 x 4 alternatives, one BLD declaration of each mode."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, LinearFfn, NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir.nodes import (
    Bld,
    CpSat,
    Data,
    HfSource,
    Initialisers,
    LayerChoice,
    Linear,
    Parent,
    Program,
    Schedule,
    Search,
    Shape,
    Space,
    TextData,
    Where,
)

CHOICE = LayerChoice(
    attention=(ParentAttention(), GqaAttention(kv_heads=1), LinearAttention(), NoOpAttention()),
    ffn=(ParentFfn(), MlpFfn(width=32), LinearFfn(), NoOpFfn()),
)


DEFAULT = Initialisers()


@pytest.fixture
def small() -> Shape:
    return Shape(
        family="llama",
        layers=3,
        hidden=64,
        heads=4,
        kv_heads=2,
        head_dim=32,
        intermediate=128,
        vocab=100,
        tied=True,
    )


@pytest.fixture
def program(small: Shape) -> Callable[..., Program]:
    """`program(line=3, names="", …)`: the same meaning, written elsewhere and with other names."""

    def build(
        line: int = 3,
        suffix: str = "",
        layers: tuple[LayerChoice, ...] = (CHOICE,) * 3,
        shape: Shape = small,
        init: Initialisers = DEFAULT,
        parent: str = "checkpoint",
        data: str = "corpus/*.txt",
        **changes: object,
    ) -> Program:
        here = Where(file=f"t{suffix}.pzl", line=line, column=1, end_line=line, end_column=9)
        blds = {
            f"{mode}{suffix}": Bld(
                name=f"{mode}{suffix}",
                space=f"wide{suffix}",
                mode=mode,
                tokens=1000,
                lr=Schedule(peak=1e-4),
                data=f"mix{suffix}",
                where=here,
            ).model_copy(update=changes)
            for mode in ("decoupled", "coupled")
        }
        return Program(
            source=f"t{suffix}.pzl",
            parents={
                f"p{suffix}": Parent(name=f"p{suffix}", source=HfSource(id=parent), shape=shape, where=here)
            },
            data={f"mix{suffix}": Data(name=f"mix{suffix}", source=TextData(paths=(data,)), where=here)},
            spaces={
                f"wide{suffix}": Space(
                    name=f"wide{suffix}", parent=f"p{suffix}", layers=layers, init=init, where=here
                )
            },
            blds=blds,
            searches={
                "best": Search(
                    name="best",
                    space=f"wide{suffix}",
                    sense="minimize",
                    objective=Linear(terms=()),
                    solver=CpSat(time_s=1),
                    where=here,
                )
            },
        )

    return build
