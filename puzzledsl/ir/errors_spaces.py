"""Mistakes about parents, spaces, overrides and hardware: E04xx."""

from __future__ import annotations

from puzzledsl.diagnostics import Diagnostic


class LayerOutOfRange(Diagnostic):
    """A layer the parent does not have. Never a clamp."""

    code = "E0401"
    template = "there is no layer {index}"
    help_template = "`{parent}` has {layers} layers: 0 to {last}, or -{layers} to -1 from the end"


class NoLayers(Diagnostic):
    """A selection that selects nothing."""

    code = "E0402"
    template = "`{text}` selects no layer"


class EmptyChoice(Diagnostic):
    """A layer left with no alternative."""

    code = "E0403"
    template = "{layers} left with no {sub_block} alternative"


class ImpossibleWidth(Diagnostic):
    """An FFN width of zero, or wider than the parent's."""

    code = "E0404"
    template = "width {got} is {why} (the parent's is {intermediate})"


class ShapeUnknown(Diagnostic):
    """Neither a shape nor a readable config.json."""

    code = "E0405"
    template = "the shape of `{id}` is not known: {looked}"
    help_template = 'give it: `hf("{id}", shape: shape(family: llama, layers: …))`, or one of std/parents.pzl'


class ShapeMismatch(Diagnostic):
    """A shape that disagrees with the checkpoint's config.json."""

    code = "E0406"
    template = "shape says {field}={said}, but {file} says {found}"
    help_template = "write `{field}: {found}`, or leave the shape out: it is read from config.json"


class UnsupportedParent(Diagnostic):
    """A config.json that cannot be used."""

    code = "E0407"
    template = "{file} cannot be used: {why}"


class ImpossibleShape(Diagnostic):
    """A shape that no model has."""

    code = "E0408"
    template = "impossible shape: {why}"


class ImpossibleHardware(Diagnostic):
    """A figure no hardware has."""

    code = "E0409"
    template = "{what} of `{hardware}` must be {condition}, not {got}"


class NoPeak(Diagnostic):
    """A dtype the hardware cannot compute in."""

    code = "E0410"
    template = "`{hardware}` has no {dtype} peak"


class ImpossibleExperts(Diagnostic):
    """More experts active than there are."""

    code = "E0411"
    template = "top_k={top_k} of experts={experts}"
    help_template = "top_k goes from 1 to experts"


class OverrideDoesNothing(Diagnostic):
    """An override that changes no layer: most likely a slip."""

    code = "W0412"
    severity = "warning"
    template = "this changes nothing: {why}"


class OtherSpace(Diagnostic):
    """A search, score or space that belongs to another space."""

    code = "E0413"
    template = "`{name}` is about space `{got}`, not `{wanted}`"
