"""Diagnostics of building, initialising, assembling and loading models (E0711 to E0717, E0721)."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class BrokenModule(Diagnostic, code="E0717"):
    """An installed package whose module of an alternative does not load."""

    template = "the module of `{alternative}` does not load: {reason}"
    help_template = "upgrade the package that adds `{alternative}`, or leave it out of the space"


class HeadsDontDivide(Diagnostic, code="E0712"):
    """A number of key/value heads that does not divide the query heads."""

    template = "kv_heads={kv_heads} does not divide the parent's {heads} query heads"
    help_template = "choose a divisor of {heads}"


class NoSuchLayer(Diagnostic, code="E0713"):
    """A definition made for another parent."""

    template = "the definition of `{name}` has {got} layers, its parent has {expected}"
    help_template = "compile the program again, with this parent"


class PieceDoesNotFit(Diagnostic, code="E0714"):
    """A piece whose weights do not fit its alternative."""

    template = "piece `{piece}` does not fit layer {layer}'s {sub_block} `{alternative}`: {reason}"
    help_template = "the block library is damaged or belongs to another parent; make the piece again"


class UnfinishedWorkDamaged(Diagnostic, code="E0716"):
    """A damaged file, from which an interrupted run would resume."""

    template = "`{path}`, from which the interrupted run would resume, is damaged"
    help_template = "remove `{folder}` and run the same command again: what is finished is kept"


class NotAChild(Diagnostic, code="E0715", template="`{path}` is not a child checkpoint: {reason}"):
    """A directory that is not an exported child."""

    help_template = "a child's config.json has `block_configs`, one entry a layer"


class CannotInitialise(Diagnostic, code="E0721"):
    """An alternative that no initialiser can make from this parent."""

    template = "`{alternative}` cannot be initialised from this parent: {reason}"
