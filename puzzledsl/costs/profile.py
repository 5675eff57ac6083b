"""Checks of a hardware profile, the provenance of its figures, and the spread of a result where they are not calibrated.

The overhead of a sub-block is the constant that matters most and that no data sheet states. A calibrated profile says its error;
another has h100_sxm's overhead, unless it states its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from puzzledsl.base.diagnostics import Sink
from puzzledsl.base.units import TIME, TOK_PER_S, format_quantity
from puzzledsl.costs.any_batch import AnyBatch
from puzzledsl.costs.dtypes import DTYPE_BYTES, activation_dtype, expert_dtype, head_dtype, peak_flop_per_s
from puzzledsl.costs.errors import NoLink, NoPeakForDtype, UnknownDtype
from puzzledsl.costs.metrics import metrics_of
from puzzledsl.ir.base import span_of
from puzzledsl.ir.nodes import Hardware, Program, RooflineHardware, Search, Space
from puzzledsl.ir.references import references
from puzzledsl.ir.tables import PARENT, Assignment, Solution

FACTORS = (Fraction(1, 2), Fraction(2))
"""An overhead that is not known may be so many times the profile's."""


def provenance_of(profile: RooflineHardware) -> str:
    """Return a profile's provenance for the cost table: `roofline h100_sxm (TensorRT-LLM; mean error 3.8% held out)`."""
    said = [profile.engine] if profile.engine else []
    if profile.calibration_error is not None:
        said.append(f"mean error {float(profile.calibration_error):.1%} held out")
    else:
        said.append("not calibrated")
    return f"roofline {profile.profile}" + (f" ({'; '.join(said)})" if said else "")


def can_run(hardware: Hardware, profile: RooflineHardware, sink: Sink) -> bool:
    """Report figures that the roofline needs and the profile lacks; return True if there are none."""
    span, name, before = span_of(hardware.where), hardware.name, len(sink.items)
    dtypes = (
        *(profile.dtype, expert_dtype(profile), activation_dtype(profile), profile.kv_dtype),
        *(profile.embedding_dtype, head_dtype(profile)),
    )
    for dtype in dict.fromkeys(dtypes):
        if dtype not in DTYPE_BYTES:
            sink.add(UnknownDtype(span, name=name, dtype=dtype, known=", ".join(DTYPE_BYTES)))
    for dtype, role in ((activation_dtype(profile), "activations"), (head_dtype(profile), "head")):
        try:
            peak_flop_per_s(profile, dtype)
        except KeyError:
            known = ", ".join(profile.flop_per_s) or "none"
            sink.add(NoPeakForDtype(span, name=name, dtype=dtype, role=role, known=known))
    if profile.gpus > 1 and not profile.link_bytes_per_s:
        sink.add(NoLink(span, name=name, gpus=profile.gpus))
    return len(sink.items) == before


# ---------------------------------------------------------------- profiles without a calibration


def is_calibrated(profile: RooflineHardware) -> bool:
    """Return True if the profile states the error of a calibration, or has measured times."""
    return profile.calibration_error is not None


def note(
    program: Program, space: Space, scenario: str, batch: int, layers: Sequence[Assignment] | None = None
) -> str:
    """Return the spread of a scenario's throughput in words; empty where the profile is calibrated, or costs are no profile's.

    `layers`: a child's, whose throughput is relative to the parent's; None: the parent's own.
    """
    spec = program.hardware[program.scenarios[scenario].hardware].spec
    if not isinstance(spec, RooflineHardware) or is_calibrated(spec) or program.scenarios[scenario].traffic:
        return ""
    if not spec.overhead_s:
        return f"{scenario}: profile {spec.profile} is not calibrated, and counts no overhead of sub-blocks"
    low, high = sorted(_throughput(program, space, scenario, batch, layers, factor) for factor in FACTORS)
    least, most = (format_quantity(spec.overhead_s * factor, TIME) for factor in FACTORS)
    if layers is None:
        shown = [format_quantity(value, TOK_PER_S) for value in (low, high)]
    else:
        shown = [f"{float(value):.3g}x" for value in (low, high)]
    return (
        f"{scenario}: profile {spec.profile} is not calibrated. With an overhead of {least} to {most} a sub-block, "
        f"throughput is {shown[0]} to {shown[1]}"
    )


def notes(program: Program, search: Search, best: Solution) -> list[str]:
    """Return the notes about a solution, in the scenarios that its search mentions."""
    space, named = program.spaces[search.space], set(references(search))
    found = [
        note(program, space, name, batch, best.layers)
        for name, batch in best.batches.items()
        if name in named
    ]
    return [text for text in found if text]


def _throughput(
    program: Program,
    space: Space,
    scenario: str,
    batch: int,
    layers: Sequence[Assignment] | None,
    factor: Fraction,
) -> Fraction:
    """Return the throughput with another overhead: of the parent, or of a child as a multiple of the parent's."""
    declared = program.scenarios[scenario]
    spec = program.hardware[declared.hardware].spec
    assert isinstance(spec, RooflineHardware)
    changed = spec.model_copy(update={"overhead_s": spec.overhead_s * factor})
    costs = AnyBatch(changed, program.parents[space.parent].shape, space.layers, declared, space.ends).at(
        batch
    )
    parent = metrics_of(costs, [PARENT] * len(space.layers))["throughput"]
    return parent if layers is None else metrics_of(costs, layers)["throughput"] / parent
