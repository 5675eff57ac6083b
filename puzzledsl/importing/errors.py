"""Diagnostics of importing another tool's artefacts: E19xx."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class NothingToImport(Diagnostic, code="E1901", template="there is nothing to import in `{path}`: {reason}"):
    """The path contains nothing that can be imported."""

    help_template = (
        "give a directory with `subblock_stats.json` and a `…--validation` folder of `solution_*.json` and `teacher.json`, "
        "or a JSON file of gathered metrics"
    )


class ArtefactUnreadable(Diagnostic, code="E1902", template="cannot use `{path}`: {reason}"):
    """An artefact that is not JSON or differs from the format of its tool."""


class NotInTheLanguage(Diagnostic, code="E1903", template="{what} in `{path}` cannot be imported"):
    """An alternative that a `.pzl` space cannot express."""

    help_template = (
        "leave these replacements out of the run's validation folder, or of the JSON file, and import again"
    )


class ShapeOpen(Diagnostic, code="E1904", template="`{path}` does not give the parent's {missing}"):
    """Artefacts that do not determine the parent's shape."""

    help_template = "give the directory of the parent's config.json: `--parent DIR`"
