"""Diagnostics of defining a child, and of writing and verifying checkpoints."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class WouldOverwrite(Diagnostic, code="E0731", template="`{path}` exists and is not a child checkpoint"):
    """The output directory contains something that is not a child checkpoint."""

    help_template = "choose another directory, or remove this one"


class RuntimeLacksFamily(Diagnostic, code="E0733"):
    """The runtime cannot run children of parents of this architecture."""

    template = "{runtime} cannot run children of {family} parents: {reason}"
    help_template = "export with `runtime: transformers`, or with `mlx(…)`"


class RuntimeLacksIt(Diagnostic, code="E0734"):
    """An alternative that the runtime lacks and that nothing in the runtime can replace exactly."""

    template = "{runtime} cannot represent `{name}` ({layers}): {reason}"
    help_template = "export with `runtime: transformers`, or leave `{name}` out of the space"


class RuntimeLacksWindow(Diagnostic, code="E0735"):
    """The parent's attention has a window, and the runtime has none."""

    template = (
        "{runtime} cannot represent the parent's sliding window of {window:,} tokens ({layers}): {reason}"
    )
    help_template = "export with `runtime: transformers`, or with `mlx(…)`"


class MissingPackage(Diagnostic, code="E0738"):
    """An optional package is not installed."""

    template = "{what} needs the package `{package}`, which is not installed"
    help_template = "pip install 'puzzledsl[{extra}]'"


class NoSuchEngine(Diagnostic, code="E0739", template="{title} is not installed here"):
    """A requested engine is not installed here."""


class NotAGguf(Diagnostic, code="E0740", template="`{path}` exists and is no GGUF file"):
    """The output file exists and is not a GGUF file."""

    help_template = "choose another name, or remove this one"


class RecipeFailed(Diagnostic, code="E0742"):
    """llama.cpp could not quantise a child by a whole-file recipe."""

    template = "llama.cpp could not quantise the child to `{recipe}`: {reason}"
    help_template = "export with `dtype: q8_0` or `dtype: f16`, which puzzledsl writes itself"


class NotThisChild(Diagnostic, code="E0743", template="`{path}` is not made of this child: {reason}"):
    """A GGUF file that was not made of the child in the directory."""

    help_template = "name the file that was exported from this directory, or export it again"


class UntrustedCode(Diagnostic, code="E0741", template="`{path}` is not what puzzledsl writes: {reason}"):
    """A child's directory contains code that differs from what puzzledsl writes there."""

    help_template = (
        "nothing of it was run; export the child again, or give `--trust-remote-code` if you know this code"
    )


class NoPiece(Diagnostic, code="E1021"):
    """A solution chooses an alternative that no BLD declaration makes."""

    template = "search `{search}` chose {what} in {layers}, and no `bld` of space `{space}` makes {it}"
