"""What can go wrong while a checkpoint is written."""

from __future__ import annotations

from puzzledsl.diagnostics import Diagnostic


class WouldOverwrite(Diagnostic):
    """The output directory holds something that is no child checkpoint.

    A child is written beside others or over an older one, never over something else.

    Wrong:
        export out of s = hf("/home/me")
    Right:
        export out of s = hf("child")
    """

    code = "E0731"
    template = "`{path}` exists and is not a child checkpoint"
    help_template = "choose another directory, or remove this one"


class NotDescribed(Diagnostic):
    """A model without `block_configs` was handed to the exporter.

    Only models that pzl assembled or loaded know what each layer is.

    Wrong:
        write_child(AutoModelForCausalLM.from_pretrained(path), directory)
    Right:
        write_child(load_child(path), directory)
    """

    code = "E0732"
    template = "the model to write to `{path}` does not say what its layers are"
    help_template = "only children made by `assemble` or `load_child` can be exported"


class RuntimeLacksFamily(Diagnostic):
    """Children of this family's parents cannot run there."""

    code = "E0733"
    template = "{runtime} cannot run children of {family} parents: {reason}"
    help_template = "export with `runtime: transformers`, or with `mlx(…)`"


class RuntimeLacksIt(Diagnostic):
    """An alternative that the runtime has not, and that nothing in it could stand for."""

    code = "E0734"
    template = "{runtime} cannot represent `{name}` ({layers}): {reason}"
    help_template = "export with `runtime: transformers`, or leave `{name}` out of the space"


class RuntimeLacksWindow(Diagnostic):
    """The parent's own attention is limited to a window."""

    code = "E0735"
    template = "{runtime} cannot represent the parent's sliding window of {window:,} tokens: {reason}"
    help_template = "export with `runtime: transformers`, or with `mlx(…)`"


class UnknownRope(Diagnostic):
    """A rotary embedding that the runtime computes otherwise, or that nobody has checked there."""

    code = "E0736"
    template = "{runtime} is not known to scale rotary embeddings by `{rope}` as the parent does"
    help_template = "export with `runtime: transformers`"


class UnknownTokenizer(Diagnostic):
    """A tokenizer that a GGUF file cannot carry faithfully."""

    code = "E0737"
    template = "the tokenizer of `{path}` cannot be written to a GGUF file: {reason}"
    help_template = 'export with `hf("…")`; llama.cpp would split text otherwise than the parent does'


class MissingPackage(Diagnostic):
    """An optional package is not installed."""

    code = "E0738"
    template = "{what} needs the package `{package}`, which is not installed"
    help_template = "pip install 'puzzledsl[{extra}]'"
