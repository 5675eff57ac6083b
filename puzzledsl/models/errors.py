"""Diagnostics of building, initialising, assembling and loading models (E0711 to E0717, E0721)."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class BrokenModule(Diagnostic):
    """An installed package whose module of an alternative does not load.

    A package has two files: one for the language, which was read, and one for the module.

    Wrong:
        $ pip install low-rank==0.1   # made for another version
        $ pzl bld wide.pzl
    Right:
        $ pip install --upgrade low-rank
        $ pzl bld wide.pzl
    """

    code = "E0717"
    template = "the module of `{alternative}` does not load: {reason}"
    help_template = "upgrade the package that adds `{alternative}`, or leave it out of the space"


class HeadsDontDivide(Diagnostic):
    """A number of key/value heads that does not divide the query heads.

    Each key/value head serves equally many query heads.

    Wrong:
        space v of p { attention = gqa(kv_heads: 3) }
    Right:
        space v of p { attention = gqa(kv_heads: 2) }
    """

    code = "E0712"
    template = "kv_heads={kv_heads} does not divide the parent's {heads} query heads"
    help_template = "choose a divisor of {heads}"


class NoSuchLayer(Diagnostic):
    """A definition made for another parent.

    The definition of a child lists every layer of the parent it was made for.

    Wrong:
        $ edit wide.pzl               # another parent
        $ pzl realise wide.pzl best
    Right:
        $ edit wide.pzl
        $ pzl run wide.pzl --until realise
    """

    code = "E0713"
    template = "the definition of `{name}` has {got} layers, its parent has {expected}"
    help_template = "compile the program again, with this parent"


class PieceDoesNotFit(Diagnostic):
    """A piece whose weights do not fit its alternative.

    A piece of the library has other weight names or shapes than its alternative needs in this layer.

    Wrong:
        $ cp -r other/build/library build/library
    Right:
        $ pzl bld wide.pzl
    """

    code = "E0714"
    template = "piece `{piece}` does not fit layer {layer}'s {sub_block} `{alternative}`: {reason}"
    help_template = "the block library is damaged or belongs to another parent; make the piece again"


class UnfinishedWorkDamaged(Diagnostic):
    """A damaged file, from which an interrupted run would resume.

    Unfinished work has checksums, so that a damaged file never changes results. Finished pieces and stages are kept.

    Wrong:
        $ truncate -s 100 build/work/uptrain/final/*/best.safetensors
    Right:
        $ rm -r build/work/uptrain/final
        $ pzl run wide.pzl
    """

    code = "E0716"
    template = "`{path}`, from which the interrupted run would resume, is damaged"
    help_template = "remove `{folder}` and run the same command again: what is finished is kept"


class NotAChild(Diagnostic):
    """A directory that is not an exported child.

    A child's config.json has `block_configs` with one entry per layer; an ordinary checkpoint has none.

    Wrong:
        $ pzl bench parent
    Right:
        $ pzl bench build/models/best
    """

    code = "E0715"
    template = "`{path}` is not a child checkpoint: {reason}"
    help_template = "a child's config.json has `block_configs`, one entry a layer"


class CannotInitialise(Diagnostic):
    """An alternative that no initialiser can make from this parent.

    Some alternatives need a parent with certain layers.

    Wrong:
        space v of p { attention = linear }            # of a parent whose attention cannot be read
    Right:
        space v of p { attention = gqa(kv_heads: 2) }
    """

    code = "E0721"
    template = "`{alternative}` cannot be initialised from this parent: {reason}"
