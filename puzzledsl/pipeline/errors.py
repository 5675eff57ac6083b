"""Diagnostics that occur only when a stage runs: an input is missing, locked or not made yet."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class ParentNotFound(Diagnostic):
    """The parent's checkpoint is neither a directory nor available from the hub.

    The id is first looked up as a directory beside the program, then on the hub, which needs a network and, for gated
    models, a token.

    Wrong:
        parent q = hf("meta-llama/Llama-3.1-8B-Instrct")
    Right:
        parent q = hf("meta-llama/Llama-3.1-8B-Instruct")
    """

    code = "E0601"
    template = (
        "the weights of parent `{name}` are not there: `{id}` is no directory and could not be downloaded"
    )
    help_template = "{help}"


class ParentHasNoWeights(Diagnostic):
    """A stage that needs weights, for a parent that is only a shape.

    Checking, compiling and solving need only a shape; making pieces, scoring and all later stages need weights.

    Wrong:
        parent q = shape(family: llama, layers: 4, hidden: 64, heads: 8, kv_heads: 4, head_dim: 8, intermediate: 192, vocab: 256)
    Right:
        parent q = hf("parent")
    """

    code = "E0602"
    template = "`pzl {stage}` needs the weights of parent `{name}`, which is declared by its shape only"
    help_template = 'declare it as `parent {name} = hf("directory or hub id")`'


class NotMadeYet(Diagnostic):
    """A stage that was started before the stage whose results it reads.

    Stages read what earlier stages have written to the build directory.

    Wrong:
        $ pzl realise wide.pzl best
    Right:
        $ pzl solve wide.pzl best
        $ pzl realise wide.pzl best
    """

    code = "E0603"
    template = "{what} of `{name}` are not made yet"
    help_template = "run `pzl {stage} {file}` first, or `pzl run {file}` for everything in order"


class UnknownTarget(Diagnostic):
    """A name on the command line that the program does not declare.

    The names behind the file on the command line are declarations of the program.

    Wrong:
        $ pzl solve wide.pzl bst
    Right:
        $ pzl solve wide.pzl best
    """

    code = "E0604"
    template = "the program declares no {kind} called `{name}`"
    help_template = "{help}"


class NothingDeclared(Diagnostic):
    """A stage that has nothing to do in this program.

    A stage works on declarations of one kind, and the program has none.

    Wrong:
        $ pzl eval wide.pzl           # which declares no `eval`
    Right:
        $ pzl solve wide.pzl
    """

    code = "E0605"
    template = "the program declares no `{kind}`, so `pzl {stage}` has nothing to do"
    help_template = "{help}"


class BuildLocked(Diagnostic):
    """Another process uses the same build directory.

    Only one process at a time can write to a build directory. The lock ends with its process, even if that is killed.

    Wrong:
        $ pzl run wide.pzl & pzl run wide.pzl
    Right:
        $ pzl run wide.pzl & pzl run wide.pzl -o build2
    """

    code = "E0606"
    template = "another `pzl` is at work in `{build}`{who}"
    help_template = "wait for it, or give this run a build directory of its own with `-o`"


class NoSolution(Diagnostic):
    """A child of a search that has no solution.

    There is nothing to assemble: the search is infeasible.

    Wrong:
        $ pzl realise wide.pzl best
    Right:
        $ pzl solve wide.pzl best     # says which requirements conflict
    """

    code = "E0607"
    template = "search `{name}` has no solution, so there is no child to make"
    help_template = "run `pzl solve {file} {name}` to see which requirements conflict"


class DiskFull(Diagnostic):
    """The operating system refused a write.

    The disk is full, or the directory is not writable.

    Wrong:
        $ pzl run wide.pzl -o /
    Right:
        $ pzl run wide.pzl -o /scratch/build
    """

    code = "E0608"
    template = "cannot write `{path}`: {reason}"
    help_template = "everything finished so far is kept; free some space or give another directory with `-o`, then run again"


class CannotList(Diagnostic):
    """A directory that the operating system does not let this user read.

    What it holds is read before anything is written there.

    Wrong:
        $ pzl run wide.pzl -o /root/build
    Right:
        $ pzl run wide.pzl -o /scratch/build
    """

    code = "E0678"
    template = "cannot read the directory `{path}`: {reason}"
    help_template = "make it readable (`chmod u+rx {path}`), or give another directory"


class NotReady(Diagnostic):
    """A search whose tables no stage has made yet.

    The message names the missing tables and the command that makes each.

    Wrong:
        $ pzl solve wide.pzl best
    Right:
        $ pzl run wide.pzl --until solve
    """

    code = "E0610"
    template = "search `{name}` cannot be solved yet: it waits for {missing}"
    help_template = "{help}"


class DamagedArtefact(Diagnostic):
    """A file of the build directory that was changed after a stage wrote it.

    Files of the build directory are checked against their stamps, so that every figure has a known origin.

    Wrong:
        $ edit build/costs/w.json
    Right:
        hardware own = table("costs.csv")
    """

    code = "E0611"
    template = "`{path}` was changed or damaged after `pzl {stage}` made it"
    help_template = (
        'run `pzl {stage} {file}` to make it again; figures made elsewhere come in through `table("…")`'
    )


class ParentUnreadable(Diagnostic):
    """A file of the parent's checkpoint that cannot be read.

    A stage computes the parent's fingerprint before it begins. The build directory is unchanged.

    Wrong:
        $ chmod 000 parent/model-00002-of-00004.safetensors
    Right:
        $ chmod 644 parent/*.safetensors
    """

    code = "E0613"
    template = "cannot read `{path}` of parent `{name}`: {reason}"
    help_template = "copy the checkpoint again, or correct its permissions; what is finished so far is kept"


class FileExists(Diagnostic):
    """`pzl new` of a file that exists.

    A program is never overwritten without being asked to.

    Wrong:
        $ pzl new wide.pzl             # which exists
    Right:
        $ pzl new wide2.pzl
    """

    code = "E0621"
    template = "`{path}` exists"
    help_template = "choose another name, or replace it with `--force`"


class NoSuchParent(Diagnostic):
    """`pzl new --parent` of a parent whose shape is not known.

    The starter program's space is fitted to the parent's key/value heads and channels. They come from a directory's
    config.json or from std/parents.pzl.

    Wrong:
        $ pzl new --parent lama3_1_8b
    Right:
        $ pzl new --parent llama3_1_8b
    """

    code = "E0622"
    template = "no parent `{given}`: {why}"


class NoSuchProfile(Diagnostic):
    """`pzl new --hardware` of a profile that is not shipped.

    Profiles are declared in std/hardware.pzl; `measured` stands for this machine.

    Wrong:
        $ pzl new --hardware h100
    Right:
        $ pzl new --hardware h100_sxm
    """

    code = "E0623"
    template = "no hardware profile `{given}`"


class NothingToCost(Diagnostic):
    """`pzl cost` of a program in which no scenario has costs yet.

    Scenarios on a profile or a table have costs immediately; those on `measured(...)` hardware have them after `pzl
    measure`.

    Wrong:
        $ pzl cost mine.pzl
    Right:
        $ pzl measure mine.pzl
        $ pzl cost mine.pzl
    """

    code = "E0641"
    template = "there are no costs of scenario {scenarios} yet"
    help_template = "`pzl measure {file}` makes them"


class NotCompiled(Diagnostic):
    """A build directory without a program.

    `pzl compile` and `pzl run` leave the lowered program in ir.json, which is what `pzl plan` compares.

    Wrong:
        $ pzl plan build wide.pzl      # nothing was compiled there
    Right:
        $ pzl compile wide.pzl
        $ edit wide.pzl
        $ pzl plan build wide.pzl
    """

    code = "E0624"
    template = "no program in `{path}`: {why}"
    help_template = "`pzl compile` writes it"
