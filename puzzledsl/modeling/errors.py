"""What cannot be built."""

from __future__ import annotations

from puzzledsl.diagnostics import Diagnostic


class CannotRealise(Diagnostic):
    """An alternative the language knows and this version cannot build."""

    code = "E0711"
    template = "`{alternative}` cannot yet be realised as a module"
    help_template = (
        "it can be costed and searched, but not trained, scored or exported; leave it out of the space"
    )


class HeadsDontDivide(Diagnostic):
    """The query heads cannot be shared out evenly."""

    code = "E0712"
    template = "kv_heads={kv_heads} does not divide the parent's {heads} query heads"
    help_template = "choose a divisor of {heads}"


class NoSuchLayer(Diagnostic):
    """A definition made for another parent."""

    code = "E0713"
    template = "the definition of `{name}` has {got} layers, its parent has {expected}"
    help_template = "compile the program again, with this parent"


class PieceDoesNotFit(Diagnostic):
    """A piece's weights are not those of the alternative."""

    code = "E0714"
    template = "piece `{piece}` does not fit layer {layer}'s {sub_block} `{alternative}`: {reason}"
    help_template = "the block library is damaged or belongs to another parent; make the piece again"


class NotAChild(Diagnostic):
    """A directory that is no exported child."""

    code = "E0715"
    template = "`{path}` is not a child checkpoint: {reason}"
    help_template = "a child's config.json has `block_configs`, one entry a layer"
