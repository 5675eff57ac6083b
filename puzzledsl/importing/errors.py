"""Diagnostics of importing another tool's artefacts: E19xx."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class NothingToImport(Diagnostic):
    """The path contains nothing that can be imported.

    `pzl import puzzletron` reads the directory of a Puzzletron run (with `subblock_stats.json` and the validation of
    its replacements), or one JSON file of gathered metrics.

    Wrong:
        $ pzl import puzzletron runs/
    Right:
        $ ls runs/llama8b
        single_sequence_replacement_solutions--validation  subblock_stats.json
        $ pzl import puzzletron runs/llama8b
    """

    code = "E1901"
    template = "there is nothing to import in `{path}`: {reason}"
    help_template = (
        "give a directory with `subblock_stats.json` and a `…--validation` folder of `solution_*.json` and `teacher.json`, "
        "or a JSON file of gathered metrics"
    )


class ArtefactUnreadable(Diagnostic):
    """An artefact that is not JSON or differs from the format of its tool.

    Artefacts are read as the tool writes them. The message gives the place of a missing, wrong or contradictory
    field.

    Wrong:
        $ pzl import puzzletron runs/llama8b    # copied while it was being written
    Right:
        $ pzl import puzzletron runs/llama8b
    """

    code = "E1902"
    template = "cannot use `{path}`: {reason}"
    help_template = "{help}"


class NotInTheLanguage(Diagnostic):
    """An alternative that a `.pzl` space cannot express.

    Mamba and Llama-4 sub-blocks, parallel blocks and replacements of several layers at once are not supported.

    Wrong:
        $ pzl import puzzletron runs/nemotron-h
    Right:
        $ pzl import puzzletron runs/llama8b
    """

    code = "E1903"
    template = "{what} in `{path}` cannot be imported"
    help_template = (
        "leave these replacements out of the run's validation folder, or of the JSON file, and import again"
    )


class ShapeOpen(Diagnostic):
    """Artefacts that do not determine the parent's shape.

    A program needs the parent's shape. It is read from the parent's config.json, or derived from the sizes in
    `subblock_stats.json`.

    Wrong:
        $ pzl import puzzletron gathered_metrics.json
    Right:
        $ pzl import puzzletron gathered_metrics.json --parent checkpoints/llama8b
    """

    code = "E1904"
    template = "`{path}` does not give the parent's {missing}"
    help_template = "give the directory of the parent's config.json: `--parent DIR`"
