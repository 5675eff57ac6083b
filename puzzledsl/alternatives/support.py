"""Support of a runtime for an alternative: native, rewritten exactly, or absent."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from puzzledsl.base.frozen import Frozen


class Native(Frozen):
    """The runtime has the alternative."""

    kind: Literal["native"] = "native"


class Lowered(Frozen):
    """The runtime lacks the alternative; `into` names the form that gives the same outputs and `way` the rewriting."""

    kind: Literal["lowered"] = "lowered"
    way: Literal["zero_ffn", "zero_attention", "zero_linear", "biased_ffn", "extra_layer"]
    into: str


class Absent(Frozen):
    """Nothing in the runtime gives the same outputs."""

    kind: Literal["absent"] = "absent"
    reason: str


Support = Annotated[Native | Lowered | Absent, Field(discriminator="kind")]
NATIVE = Native()
