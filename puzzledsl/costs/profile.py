"""Checks of a hardware profile, and the provenance of its figures."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Sink
from puzzledsl.costs.dtypes import DTYPE_BYTES, activation_dtype, expert_dtype, head_dtype, peak_flop_per_s
from puzzledsl.costs.errors import NoLink, NoPeakForDtype, UnknownDtype
from puzzledsl.ir.nodes import Hardware, RooflineHardware
from puzzledsl.ir.source_location import span_of


def provenance_of(profile: RooflineHardware) -> str:
    """Return a profile's provenance for the cost table: `roofline h100_sxm (TensorRT-LLM; mean error 3.8% held out)`."""
    said = [profile.engine] if profile.engine else []
    if profile.calibration_error is not None:
        said.append(f"mean error {float(profile.calibration_error):.1%} held out")
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
