"""Diagnostics of what a later stage cannot do, which the checker knows: E0711, E0737, E1501, E1504, E1803."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


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
