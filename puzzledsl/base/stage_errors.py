"""Diagnostics of what a later stage cannot do: the checker reports them early, and the stage where it could not know."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class NothingMeasured(Diagnostic):
    """A solver that needs measured layer statistics, for a space whose scores come only from tables.

    `block_influence` and `angular_run` need the change of the residual stream by each layer. A score that `pzl`
    measures contains it; a table from elsewhere does not.

    Wrong:
        search s of w { minimize kl, require params <= 0.8x, solver = block_influence }
    Right:
        bld pieces of w { train = attention + ffn, tokens = 0 }
        score measured of pieces = replace_one(kl_divergence)
        search s of w { minimize kl, require params <= 0.8x, solver = block_influence }
    """

    code = "E0416"
    template = "search `{search}` drops layers by `{solver}`, and no score of `{space}` is measured"
    help_template = "declare one: `score NAME of BLD = replace_one(kl_divergence)`, of a `bld` of `{space}`"


class RecipeOfQuantised(Diagnostic):
    """A whole-file recipe for a child whose sub-blocks have storage types of their own.

    With `q4_k_m` and its like llama.cpp chooses the type of every matrix. A `dtype` in the space chooses it for a sub-block, and
    the search has counted its bytes and scored its rounding. Export such a child with the type of its other matrices.

    Wrong:
        space x of p { attention = parent, ffn = parent(dtype: full | q4_0) }
        score xl of x = table("kl.csv")
        search s of x { minimize xl }
        export out of s = gguf("child.gguf", dtype: q4_k_m)
    Right:
        space x of p { attention = parent, ffn = parent(dtype: full | q4_0) }
        score xl of x = table("kl.csv")
        search s of x { minimize xl }
        export out of s = gguf("child.gguf", dtype: f16)
    """

    code = "E0475"
    template = (
        "the recipe `{recipe}` chooses the type of every matrix, and sub-blocks have their own: {types}"
    )
    help_template = "write `dtype: f16`, the type of the other matrices; or leave `dtype` out of the space"


class CannotRealise(Diagnostic):
    """An alternative of an installed package that has no module.

    The package declares the alternative to the language, so it has costs and can be part of a search. It names no module
    that builds it, so it cannot be trained, scored or exported.

    Wrong:
        $ pip install low-rank==0.1   # it has no entry point in `puzzledsl.models.alternatives`
        $ pzl bld wide.pzl
    Right:
        $ pip install --upgrade low-rank
        $ pzl bld wide.pzl
    """

    code = "E0711"
    template = "`{alternative}` cannot yet be realised as a module"
    help_template = (
        "it can be costed and searched, but not trained, scored or exported; leave it out of the space"
    )


class UnknownTokenizer(Diagnostic):
    """A tokenizer that a GGUF file cannot represent exactly.

    llama.cpp knows the rules that split text into words by name and reads no rules from the file. A tokenizer whose
    rules have no name there would encode text differently than in training.

    Wrong:
        export out of s = gguf("child.gguf")
    Right:
        export out of s = hf("child")
    """

    code = "E0737"
    template = "the tokenizer of `{path}` cannot be written to a GGUF file: {reason}"
    help_template = 'export with `hf("…")`; llama.cpp would split text otherwise than the parent does'


class NoPieceForAlternative(Diagnostic):
    """An alternative for which the score's BLD makes no piece.

    A score replaces parts of the parent by pieces, so the `bld` must make one for every alternative of the
    space.

    Wrong:
        bld pieces of w { train = ffn, tokens = 0 }
        score other of pieces = replace_one(kl_divergence, samples: 512)
    Right:
        bld pieces of w { train = attention + ffn, tokens = 0 }
        score other of pieces = replace_one(kl_divergence, samples: 512)
    """

    code = "E1501"
    template = "score `{score}`: bld `{bld}` makes no piece for {what} in layer {layer}"
    help_template = "write `train = attention + ffn` (or `attention * ffn`) in `{bld}`, or leave the alternative out of the space"


class NoFit(Diagnostic):
    """A fit to children for a metric that cannot be fitted, or around a child.

    `children: N` measures N whole children and fits the KLs of single replacements to them. Other metrics are not fitted, and
    scores around a child are right at that child without a fit.

    Wrong:
        bld pieces of w { train = attention + ffn, tokens = 0 }
        score other of pieces = replace_one(cosine, children: 24)
    Right:
        bld pieces of w { train = attention + ffn, tokens = 0 }
        score other of pieces = replace_one(kl_divergence, children: 24)
    """

    code = "E1504"
    template = "score `{score}` has `children`, but {what} cannot be fitted to children"
    help_template = "`children` goes with `replace_one(kl_divergence, …)` in the parent; leave it out here"


class SeveralGpus(Diagnostic):
    """Several GPUs for a measurement, which supports one device.

    Blocks are measured on one device. For several, use a profile, which computes the exchange between them.

    Wrong:
        hardware here = measured(device: cuda, dtype: bf16, gpus: 2)
    Right:
        hardware here = measured(device: cuda, dtype: bf16, gpus: 1)
    """

    code = "E1803"
    template = "hardware `{name}` asks for {gpus} GPUs; costs are measured on one"
    help_template = "write `gpus: 1`, or use a profile for tensor parallel hardware"
