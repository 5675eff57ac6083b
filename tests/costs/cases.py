"""Llama-3.1-70B on an H100, a small parent of two layers, and programs of one space."""

from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.checker.check import shipped_profiles, shipped_shapes
from puzzledsl.ir import nodes
from puzzledsl.ir.nodes import LayerChoice, MeasuredHardware, RooflineHardware, Shape, TableHardware
from puzzledsl.ir.tables import LayerAssignment

HERE = nodes.Where(file="t.pzl", line=3, column=1, end_line=3, end_column=9)
PROFILES, SHAPES = shipped_profiles(), shipped_shapes()
LLAMA_70B = SHAPES["llama3_1_70b"]
SIZES = {"layers": 2, "hidden": 64, "heads": 4, "kv_heads": 4, "head_dim": 16, "intermediate": 128}
SMALL = LLAMA_70B.model_copy(update={**SIZES, "vocab": 100, "tied": True})
H100 = PROFILES["h100_sxm"].model_copy(update={"dtype": "fp8", "kv_dtype": "fp8"})
PARENT = LayerAssignment(attention="parent", ffn="parent")
OWN = LayerChoice(attention=(ParentAttention(),), ffn=(ParentFfn(),))
Spec = RooflineHardware | MeasuredHardware | TableHardware


def program(
    shape: Shape, layers: tuple[LayerChoice, ...], **scenarios: tuple[Spec, tuple[int, ...], int, int]
) -> nodes.Program:
    """`program(shape, choices, chat=(spec, batches, prompt, output), …)`: a space `wide` and one hardware a scenario."""
    return nodes.Program(
        source="t.pzl",
        parents={"p": nodes.Parent(name="p", source=nodes.ShapeSource(), shape=shape, where=HERE)},
        hardware={n: nodes.Hardware(name=n, spec=s[0], where=HERE) for n, s in scenarios.items()},
        scenarios={
            n: nodes.Scenario(name=n, hardware=n, batches=b, prompt=p, output=o, where=HERE)
            for n, (_, b, p, o) in scenarios.items()
        },
        spaces={"wide": nodes.Space(name="wide", parent="p", layers=layers, where=HERE)},
    )


def with_changes(hardware: RooflineHardware, **changes: object) -> RooflineHardware:
    return hardware.model_copy(update=changes)
