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
