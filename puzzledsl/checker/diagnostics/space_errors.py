"""Diagnostics of parents, spaces, overrides and hardware: E04xx."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class LayerOutOfRange(Diagnostic):
    """A layer that the parent does not have.

    Layers are numbered from 0, and from -1 backwards. An index out of range is an error and never means the nearest
    layer.

    Wrong:
        space v of p { ffn = parent | noop, layers[4] = parent }
    Right:
        space v of p { ffn = parent | noop, layers[3] = parent }
    """

    code = "E0401"
    template = "there is no layer {index}"
    help_template = "`{parent}` has {layers} layers: 0 to {last}, or -{layers} to -1 from the end"


class NoLayers(Diagnostic):
    """A selection that is empty.

    A range runs backwards, or its `where` holds for no layer.

    Wrong:
        space v of p { ffn = parent | noop, layers[3..1] = parent }
    Right:
        space v of p { ffn = parent | noop, layers[1..3] = parent }
    """

    code = "E0402"
    template = "`{text}` selects no layer"


class EmptyChoice(Diagnostic):
    """A layer left with no alternative.

    Overrides took away the last alternative of a layer, so no child exists.

    Wrong:
        space v of p { ffn = mlp(width: 50%) | noop, layers[0].ffn &= parent }
    Right:
        space v of p { ffn = mlp(width: 50%) | noop, layers[0].ffn = parent }
    """

    code = "E0403"
    template = "{layers} left with no {sub_block} alternative"


class ImpossibleWidth(Diagnostic):
    """An FFN width of zero, or wider than the parent's.

    Widths are those of the FFN's intermediate layer, at most the parent's, and at least one channel after
    rounding to `round:`.

    Wrong:
        space v of p { ffn = mlp(width: 120%) }
    Right:
        space v of p { ffn = mlp(width: 75%) }
    """

    code = "E0404"
    template = "width {got} is {why} (the parent's is {intermediate})"


class NotInThisLayer(Diagnostic):
    """An alternative that a layer cannot have.

    A layer has what can be made of its own sub-block: `gqa` of an attention, `moe` of a mixture of experts, and of a
    Mamba2 or delta-net mixer only `linear` or `noop`. A sub-block that is not there stays `parent`. A choice of all
    layers, `ffn = moe(experts: 8)`, is for those that can have it; a choice of selected layers must fit each of them.

    Wrong:
        space v of p { ffn = moe(experts: 8) }
    Right:
        space v of p { ffn = mlp(width: 50%) }
    """

    code = "E0417"
    template = "{layers} cannot have `{text}`: {why}"


class ShapeUnknown(Diagnostic):
    """Neither a shape nor a readable config.json.

    Checking needs the sizes in the parent's config.json. If the checkpoint is not available, declare a shape instead.

    Wrong:
        parent q = hf("meta-llama/Llama-3.1-8B")
    Right:
        use "std/parents.pzl" (llama3_1_8b)
        parent q = hf("meta-llama/Llama-3.1-8B", shape: llama3_1_8b)
    """

    code = "E0405"
    template = "the shape of `{id}` is unknown: {looked}"
    help_template = 'give it: `hf("{id}", shape: shape(family: llama, layers: …))`, or one of std/parents.pzl'


class ShapeMismatch(Diagnostic):
    """A shape that disagrees with the checkpoint's config.json.

    If the checkpoint is available, the shape is compared with its config.json: a search for another model would be
    useless.

    Wrong:
        # parent/config.json: {"model_type": "llama", "num_hidden_layers": 30, "hidden_size": 576, …}
        parent q = hf("parent", shape: shape(family: llama, layers: 32, hidden: 576, heads: 9, kv_heads: 3,
            head_dim: 64, intermediate: 1536, vocab: 49152, tied: true))
    Right:
        # parent/config.json: {"model_type": "llama", "num_hidden_layers": 30, "hidden_size": 576, …}
        parent q = hf("parent")
    """

    code = "E0406"
    template = "shape says {field}={said}, but {file} says {found}"
    help_template = "write `{field}: {found}`, or leave the shape out: it is read from config.json"


class UnsupportedParent(Diagnostic):
    """A config.json that cannot be used.

    The file exists, but no model of a supported family has it: its family is another, sizes contradict each other, or it asks for
    something that no runtime computes.

    Wrong:
        # parent/config.json: {"model_type": "gpt2", …}
        parent q = hf("parent")
    Right:
        # parent/config.json: {"model_type": "llama", …}
        parent q = hf("parent")
    """

    code = "E0407"
    template = "{file} cannot be used: {why}"


class ImpossibleShape(Diagnostic):
    """A shape that is impossible for a model.

    The number of key/value heads must divide that of the query heads, and rotary embeddings need an even head size.

    Wrong:
        parent q = shape(family: llama, layers: 4, hidden: 64, heads: 8, kv_heads: 3, head_dim: 8, intermediate: 192, vocab: 256)
    Right:
        parent q = shape(family: llama, layers: 4, hidden: 64, heads: 8, kv_heads: 2, head_dim: 8, intermediate: 192, vocab: 256)
    """

    code = "E0408"
    template = "impossible shape: {why}"


class ImpossibleHardware(Diagnostic):
    """A hardware figure that is physically impossible.

    Figures of a hardware block are checked: a bandwidth of zero or an efficiency above 1 is an error.

    Wrong:
        hardware card { memory = 24GB, bandwidth = 1TB/s, peak { bf16 = 165TFLOP/s }, efficiency { compute = 2 } }
    Right:
        hardware card { memory = 24GB, bandwidth = 1TB/s, peak { bf16 = 165TFLOP/s }, efficiency { compute = 50% } }
    """

    code = "E0409"
    template = "{what} of `{hardware}` must be {condition}, not {got}"


class NoPeak(Diagnostic):
    """A dtype in which the hardware cannot compute.

    A profile gives the hardware's speed in each type. Older cards have no FP8.

    Wrong:
        use "std/hardware.pzl" (a100)
        hardware card = a100(dtype: fp8)
    Right:
        use "std/hardware.pzl" (a100)
        hardware card = a100(dtype: bf16)
    """

    code = "E0410"
    template = "`{hardware}` has no {dtype} peak"


class OverrideDoesNothing(Diagnostic):
    """An override that changes no layer: probably a mistake.

    An override without effect usually has a wrong range, or removes an alternative that no layer has.

    Wrong:
        space v of p { ffn = parent | noop, layers[0].ffn -= linear }
    Right:
        space v of p { ffn = parent | noop, layers[0].ffn -= noop }
    """

    code = "W0412"
    severity = "warning"
    template = "this changes nothing: {why}"


class OtherSpace(Diagnostic):
    """A search, score or space that belongs to another space.

    Scores, searches and sub-spaces belong to one space: their tables are about its alternatives.

    Wrong:
        space v of p { ffn = parent | noop }
        search s of v { maximize params }
        space narrow of w = used_by(s, top: 3)
    Right:
        space v of p { ffn = parent | noop }
        search s of v { maximize params }
        space narrow of v = used_by(s, top: 3)
    """

    code = "E0413"
    template = "`{name}` is about space `{got}`, not `{wanted}`"


class NoRunToDrop(Diagnostic):
    """Scores of runs for a space that cannot drop two neighbouring layers.

    A run is dropped as a whole, so in each of its layers every sub-block that is there must be able to go.

    Wrong:
        space v of p { ffn = parent | noop }
        bld b of v { tokens = 0 }
        score runs of b = replace_one(kl_divergence, runs: 2..4)
    Right:
        space v of p { attention = parent | noop, ffn = parent | noop }
        bld b of v { tokens = 0 }
        score runs of b = replace_one(kl_divergence, runs: 2..4)
    """

    code = "E0415"
    template = "space `{space}` cannot drop {length} layers in a row"
    help_template = "a layer can be dropped where all that it has, attention and FFN, may be `noop`"


class ComputedIndex(Diagnostic):
    """A negative index that is the result of a computation.

    A literal negative number counts from the end: `layers[-1]`. A computed one, as in `layers[i - 1]`, is usually a
    step before the first layer and never means the last.

    Wrong:
        search s of w {
          minimize kl
          for i in 0..3 { require layers[i].ffn is noop implies layers[i - 1].ffn is mlp }
        }
    Right:
        search s of w {
          minimize kl
          for i in 1..3 { require layers[i].ffn is noop implies layers[i - 1].ffn is mlp }
        }
    """

    code = "E0414"
    template = "`{text}` is {index} here, which is before the first layer"
    help_template = "a computed index does not count from the end; write the number out: `layers[{index}]`"
