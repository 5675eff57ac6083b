"""Mistakes that show only when a stage runs: something is missing, locked, or not yet made."""

from __future__ import annotations

from puzzledsl.diagnostics import Diagnostic


class ParentNotFound(Diagnostic):
    """The checkpoint is neither a directory nor to be had from the hub."""

    code = "E0601"
    template = (
        "the weights of parent `{name}` are not there: `{id}` is no directory and could not be downloaded"
    )
    help_template = "{help}"


class ParentHasNoWeights(Diagnostic):
    """A stage needs weights and the parent is only a shape."""

    code = "E0602"
    template = "`pzl {stage}` needs the weights of parent `{name}`, which is declared by its shape only"
    help_template = 'declare it as `parent {name} = hf("directory or hub id")`'


class NotMadeYet(Diagnostic):
    """A stage was asked for before the one it reads from."""

    code = "E0603"
    template = "{what} of `{name}` are not made yet"
    help_template = "run `pzl {stage} {file}` first, or `pzl run {file}` for everything in order"


class UnknownTarget(Diagnostic):
    """A name on the command line that the program does not declare."""

    code = "E0604"
    template = "the program declares no {kind} called `{name}`"
    help_template = "{help}"


class NothingDeclared(Diagnostic):
    """A stage has nothing to do in this program."""

    code = "E0605"
    template = "the program declares no `{kind}`, so `pzl {stage}` has nothing to do"
    help_template = "{help}"


class BuildLocked(Diagnostic):
    """Another process works in the same build directory."""

    code = "E0606"
    template = "another `pzl` is at work in `{build}`"
    help_template = "wait for it, or give this run a build directory of its own with `-o`"


class NoSolution(Diagnostic):
    """A child was asked for of a search that has none."""

    code = "E0607"
    template = "search `{name}` has no solution, so there is no child to make"
    help_template = "run `pzl solve {file} {name}` to see which requirements conflict"


class DiskFull(Diagnostic):
    """The operating system refused to write."""

    code = "E0608"
    template = "cannot write `{path}`: {reason}"
    help_template = "everything finished so far is kept; free some space or give another directory with `-o`, then run again"


class UnsupportedExport(Diagnostic):
    """An export format this version does not write."""

    code = "E0609"
    template = "export `{name}` asks for {format}, which this version does not write"
    help_template = 'write `hf("{path}")`: transformers loads it as it is'


class NotReady(Diagnostic):
    """A search reads tables that no stage has made yet."""

    code = "E0610"
    template = "search `{name}` cannot be solved yet: it waits for {missing}"
    help_template = "{help}"


class DamagedArtefact(Diagnostic):
    """A file of the build directory is not what the stage that made it wrote."""

    code = "E0611"
    template = "`{path}` was changed or damaged after `pzl {stage}` made it"
    help_template = (
        'run `pzl {stage} {file}` to make it again; figures made elsewhere come in through `table("…")`'
    )
