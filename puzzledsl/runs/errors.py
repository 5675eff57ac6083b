"""Mistakes that show only when a stage runs: something is missing, locked, or not yet made."""

from __future__ import annotations

from puzzledsl.diagnostics import Diagnostic


class ParentNotFound(Diagnostic):
    """The checkpoint is neither a directory nor to be had from the hub.

    The id is looked for as a directory beside the program, then on the hub, which needs a network and, for
    gated models, a token.

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
    """A stage needs weights and the parent is only a shape.

    Checking, compiling and solving need a shape only; making pieces, scoring and everything after them need
    weights.

    Wrong:
        parent q = shape(family: llama, layers: 4, hidden: 64, heads: 8, kv_heads: 4, head_dim: 8, intermediate: 192, vocab: 256)
    Right:
        parent q = hf("parent")
    """

    code = "E0602"
    template = "`pzl {stage}` needs the weights of parent `{name}`, which is declared by its shape only"
    help_template = 'declare it as `parent {name} = hf("directory or hub id")`'


class NotMadeYet(Diagnostic):
    """A stage was asked for before the one it reads from.

    Stages read what the stage before has written into the build directory.

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
    """A stage has nothing to do in this program.

    A stage works on declarations of one kind, and the program has none of it.

    Wrong:
        $ pzl eval wide.pzl           # which declares no `eval`
    Right:
        $ pzl solve wide.pzl
    """

    code = "E0605"
    template = "the program declares no `{kind}`, so `pzl {stage}` has nothing to do"
    help_template = "{help}"


class BuildLocked(Diagnostic):
    """Another process works in the same build directory.

    One process at a time writes to a build directory. The lock goes with its process: one that was killed holds nothing.

    Wrong:
        $ pzl run wide.pzl & pzl run wide.pzl
    Right:
        $ pzl run wide.pzl & pzl run wide.pzl -o build2
    """

    code = "E0606"
    template = "another `pzl` is at work in `{build}`{who}"
    help_template = "wait for it, or give this run a build directory of its own with `-o`"


class NoSolution(Diagnostic):
    """A child was asked for of a search that has none.

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
    """The operating system refused to write.

    The disk is full, or the place may not be written to.

    Wrong:
        $ pzl run wide.pzl -o /
    Right:
        $ pzl run wide.pzl -o /scratch/build
    """

    code = "E0608"
    template = "cannot write `{path}`: {reason}"
    help_template = "everything finished so far is kept; free some space or give another directory with `-o`, then run again"


class NotReady(Diagnostic):
    """A search reads tables that no stage has made yet.

    The message names the tables that are missing and the command that makes each.

    Wrong:
        $ pzl solve wide.pzl best
    Right:
        $ pzl run wide.pzl --until solve
    """

    code = "E0610"
    template = "search `{name}` cannot be solved yet: it waits for {missing}"
    help_template = "{help}"


class DamagedArtefact(Diagnostic):
    """A file of the build directory is not what the stage that made it wrote.

    Files of the build directory are written by stages and checked against their stamps, so that a figure
    always has a known origin.

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


class WholeModelChoice(Diagnostic):
    """A choice for the whole model, which no stage can make yet.

    `hidden = 100% | 75%` is checked and kept in ir.json. Pieces, costs and searches are made layer by layer, so every
    stage after that stops here.

    Wrong:
        space slim of p { attention = parent | noop, hidden = 100% | 75% }
    Right:
        space slim of p { attention = parent | noop }
    """

    code = "E0612"
    template = (
        "space `{name}` chooses `{what}` for the whole model, which no stage can train, cost or search yet"
    )
    help_template = (
        "it is checked and kept in ir.json; leave the line out to go on with what each layer may become"
    )


class ParentUnreadable(Diagnostic):
    """A file of the parent's checkpoint is there and cannot be read.

    A stage takes the parent's fingerprint before it begins. What is in the build directory stays as it is.

    Wrong:
        $ chmod 000 parent/model-00002-of-00004.safetensors
    Right:
        $ chmod 644 parent/*.safetensors
    """

    code = "E0613"
    template = "cannot read `{path}` of parent `{name}`: {reason}"
    help_template = "copy the checkpoint again, or correct its permissions; what is finished so far is kept"


class FileExists(Diagnostic):
    """`pzl new` of a file that is there.

    A program is never overwritten unasked.

    Wrong:
        $ pzl new wide.pzl             # which exists
    Right:
        $ pzl new wide2.pzl
    """

    code = "E0621"
    template = "`{path}` exists"
    help_template = "choose another name, or replace it with `--force`"


class NoSuchParent(Diagnostic):
    """`pzl new --parent` of something whose shape is not known.

    The space of the starter is fitted to the parent: how many key/value heads and channels it has. They come from a
    directory's config.json or from std/parents.pzl.

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
    """`pzl cost` where no scenario has costs yet.

    Scenarios on a profile or a table have costs at once; those on `measured(...)` hardware once `pzl measure` has run.

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
