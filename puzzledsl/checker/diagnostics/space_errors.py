"""Diagnostics of parents, spaces, overrides and hardware: E04xx."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class LayerOutOfRange(Diagnostic, code="E0401", template="there is no layer {index}"):
    """A layer that the parent does not have."""

    help_template = "`{parent}` has {layers} layers: 0 to {last}, or -{layers} to -1 from the end"


class NoLayers(Diagnostic, code="E0402", template="`{text}` selects no layer"):
    """A selection that is empty."""


class EmptyChoice(Diagnostic, code="E0403", template="{layers} left with no {sub_block} alternative"):
    """A layer left with no alternative."""


class ImpossibleWidth(Diagnostic, code="E0404"):
    """An FFN width of zero, or wider than the parent's."""

    template = "width {got} is {why} (the parent's is {intermediate})"


class NotInThisLayer(Diagnostic, code="E0417", template="{layers} cannot have `{text}`: {why}"):
    """An alternative that a layer cannot have."""


class ShapeUnknown(Diagnostic, code="E0405", template="the shape of `{id}` is unknown: {looked}"):
    """Neither a shape nor a readable config.json."""

    help_template = 'give it: `hf("{id}", shape: shape(family: llama, layers: …))`, or one of std/parents.pzl'


class ShapeMismatch(Diagnostic, code="E0406", template="shape says {field}={said}, but {file} says {found}"):
    """A shape that disagrees with the checkpoint's config.json."""

    help_template = "write `{field}: {found}`, or leave the shape out: it is read from config.json"


class UnsupportedParent(Diagnostic, code="E0407", template="{file} cannot be used: {why}"):
    """A config.json that cannot be used."""


class ImpossibleShape(Diagnostic, code="E0408", template="impossible shape: {why}"):
    """A shape that is impossible for a model."""


class ImpossibleHardware(Diagnostic, code="E0409"):
    """A hardware figure that is physically impossible."""

    template = "{what} of `{hardware}` must be {condition}, not {got}"


class NoPeak(Diagnostic, code="E0410", template="`{hardware}` has no {dtype} peak"):
    """A dtype in which the hardware cannot compute."""


class OverrideDoesNothing(Diagnostic, code="W0412", template="this changes nothing: {why}"):
    """An override that changes no layer: probably a mistake."""


class OtherSpace(Diagnostic, code="E0413", template="`{name}` is about space `{got}`, not `{wanted}`"):
    """A search, score or space that belongs to another space."""


class NoRunToDrop(Diagnostic, code="E0415", template="space `{space}` cannot drop {length} layers in a row"):
    """Scores of runs for a space that cannot drop two neighbouring layers."""

    help_template = "a layer can be dropped where all that it has, attention and FFN, may be `noop`"


class ComputedIndex(Diagnostic, code="E0414"):
    """A negative index that is the result of a computation."""

    template = "`{text}` is {index} here, which is before the first layer"
    help_template = "a computed index does not count from the end; write the number out: `layers[{index}]`"
