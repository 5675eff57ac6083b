"""What is written reads back as the same costs."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.costs.csv_table import csv_of
from puzzledsl.costs.table import cost_table
from puzzledsl.ir import facts
from puzzledsl.ir.nodes import LayerChoice, Shape, TableHardware
from puzzledsl.ir.tables import Cost, CostTable, ScenarioCosts
from tests.costs.conftest import Build

WIDE = LayerChoice(
    attention=(ParentAttention(), GqaAttention(kv_heads=1)), ffn=(ParentFfn(), MlpFfn(width=32), NoOpFfn())
)
NARROW = LayerChoice(attention=(ParentAttention(),), ffn=(ParentFfn(), MlpFfn(width=32)))
SPACE = (WIDE, NARROW, WIDE)
FIGURES = ("weights_bytes", "kv_cache_bytes", "prefill_ns", "decode_ns")


@st.composite
def tables(draw: st.DrawFn, shape: Shape) -> CostTable:
    """Two scenarios, one at two batches; costs the same in all layers, or each layer's own."""
    figure = st.integers(0, 10**12)
    alike = draw(st.booleans())

    def cost(params: int) -> Cost:
        return Cost(params=params, **{name: draw(figure) for name in FIGURES})

    def scenario(name: str, batch: int) -> ScenarioCosts:
        attention: list[dict[str, Cost]] = [{} for _ in SPACE]
        ffn: list[dict[str, Cost]] = [{} for _ in SPACE]
        known: dict[str, Cost] = {}
        for index, choice in enumerate(SPACE):
            for part, alternatives in ((attention, choice.attention), (ffn, choice.ffn)):
                for alternative in alternatives:
                    key = f"{alternative.__class__.__name__}{alternative.name}"
                    if not alike or key not in known:
                        known[key] = cost(alternative.params(shape))
                    part[index][alternative.name] = known[key]
        return ScenarioCosts(
            scenario=name,
            batch=batch,
            prompt=8,
            output=16,
            fixed=cost(facts.fixed_params(shape)),
            attention=tuple(attention),
            ffn=tuple(ffn),
        )

    return CostTable(
        space="wide",
        scenarios={"chat": (scenario("chat", 1), scenario("chat", 4)), "rag": (scenario("rag", 2),)},
        params_fixed=0,
        params_attention=({},) * 3,
        params_ffn=({},) * 3,
    )


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_written_table_reads_back(
    tmp_path: Path, small: Shape, program: Build, data: st.DataObject
) -> None:
    shape = small.model_copy(update={"layers": 3})
    table = data.draw(tables(shape))
    (tmp_path / "costs.csv").write_text(csv_of(table), "utf-8")
    spec = TableHardware(path="costs.csv")
    reading = program(shape, SPACE, chat=(spec, (1, 4), 8, 16), rag=(spec, (), 8, 16))
    read = cost_table(reading, "wide", tmp_path)
    for name, candidates in table.scenarios.items():
        for wrote, found in zip(candidates, read.scenarios[name], strict=True):
            assert (found.batch, found.pairs) == (wrote.batch, ())
            for mine, other in [
                (wrote.fixed, found.fixed),
                *((c, found.attention[i][n]) for i, x in enumerate(wrote.attention) for n, c in x.items()),
                *((c, found.ffn[i][n]) for i, x in enumerate(wrote.ffn) for n, c in x.items()),
            ]:
                assert [getattr(mine, f) for f in FIGURES] == [getattr(other, f) for f in FIGURES]
