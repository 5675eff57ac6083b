"""Diagnostics that occur only when a stage runs: an input is missing, locked or not made yet."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class ParentNotFound(Diagnostic, code="E0601"):
    """The parent's checkpoint is neither a directory nor available from the hub."""

    template = (
        "the weights of parent `{name}` are not there: `{id}` is no directory and could not be downloaded"
    )


class ParentHasNoWeights(Diagnostic, code="E0602"):
    """A stage that needs weights, for a parent that is only a shape."""

    template = "`pzl {stage}` needs the weights of parent `{name}`, which is declared by its shape only"
    help_template = 'declare it as `parent {name} = hf("directory or hub id")`'


class NotMadeYet(Diagnostic, code="E0603", template="{what} of `{name}` must be made first"):
    """A stage that was started before the stage whose results it reads."""

    help_template = "run `pzl {stage} {file}` first, or `pzl run {file}` for everything in order"


class UnknownTarget(Diagnostic, code="E0604", template="the program declares no {kind} called `{name}`"):
    """A name on the command line that the program does not declare."""


class NothingDeclared(Diagnostic, code="E0605"):
    """A stage that has nothing to do in this program."""

    template = "the program declares no `{kind}`, so `pzl {stage}` has nothing to do"


class BuildLocked(Diagnostic, code="E0606", template="another `pzl` is at work in `{build}`{who}"):
    """Another process uses the same build directory."""

    help_template = "wait for it, or give this run a build directory of its own with `-o`"


class NoSolution(Diagnostic, code="E0607"):
    """A child of a search that has no solution."""

    template = "search `{name}` has no solution, so there is no child to make"
    help_template = "run `pzl solve {file} {name}` to see which requirements conflict"


class NoChildIsGoodEnough(Diagnostic, code="E0609"):
    """No child that was measured meets the requirements on its quality."""

    template = "none of {children} measured children of `{search}` meets {missed}; the nearest has {nearest}"
    help_template = (
        "ask for less quality or for less speed, measure more children (`refine = measured(…)`), or judge on more: errors "
        "count against a child"
    )


class MissedInTheEnd(Diagnostic, code="E0612", template="{text}"):
    """The finished child misses a requirement by more than the error of its measurement."""


class KnownTooLittle(Diagnostic, code="W0614", template="{text}"):
    """An accuracy that is kept of so few questions that its interval is wider than a third."""


class UptrainedForNothing(Diagnostic, code="W0615", template="{text}"):
    """An uptrained child that is no nearer to its parent than before."""


class NotAsTheFileSays(Diagnostic, code="W0616", template="{text}"):
    """Values that `--set` gave: the file alone does not make this child."""


class LadderIsBetter(Diagnostic, code="W0617", template="{text}"):
    """A child that a file of the engine's own quantiser beats in speed and in nearness to the parent."""


class DiskFull(Diagnostic, code="E0608", template="cannot write `{path}`: {reason}"):
    """The operating system refused a write."""

    help_template = "everything finished so far is kept; free some space or give another directory with `-o`, then run again"


class CannotList(Diagnostic, code="E0678", template="cannot read the directory `{path}`: {reason}"):
    """A directory that the operating system does not let this user read."""

    help_template = "make it readable (`chmod u+rx {path}`), or give another directory"


class NotReady(Diagnostic, code="E0610"):
    """A search whose tables no stage has made yet."""

    template = "search `{name}` cannot be solved yet: it waits for {missing}"


class DamagedArtefact(Diagnostic, code="E0611"):
    """A file of the build directory that was changed after a stage wrote it, or that another version of puzzledsl wrote."""

    template = "cannot use `{path}`: it was {how}"
    help_template = (
        'run `pzl {stage} {file}` to make it again; figures made elsewhere come in through `table("…")`'
    )


class ParentUnreadable(Diagnostic, code="E0613"):
    """A file of the parent's checkpoint that cannot be read."""

    template = "cannot read `{path}` of parent `{name}`: {reason}"
    help_template = "copy the checkpoint again, or correct its permissions; what is finished so far is kept"


class FileExists(Diagnostic, code="E0621", template="`{path}` exists"):
    """`pzl new` of a file that exists."""

    help_template = "choose another name, or replace it with `--force`"


class NoSuchParent(Diagnostic, code="E0622", template="no parent `{given}`: {why}"):
    """`pzl new --parent` of a parent whose shape is not known."""


class NoSuchProfile(Diagnostic, code="E0623", template="no hardware profile `{given}`"):
    """`pzl new --hardware` of a profile that is not shipped."""


class NothingToCost(Diagnostic, code="E0641", template="there are no costs of scenario {scenarios} yet"):
    """`pzl cost` of a program in which no scenario has costs yet."""

    help_template = "`pzl measure {file}` makes them"


class NotCompiled(Diagnostic, code="E0624", template="no program in `{path}`: {why}"):
    """A build directory without a program."""

    help_template = "`pzl compile` writes it"
