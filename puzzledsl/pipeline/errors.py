"""Diagnostics of the commands, beyond mistakes in a program: of files, disks, builds and parents, and of finished children."""

from puzzledsl.base.diagnostics import Mistake

ParentNotFound = Mistake(
    "E0601",
    "the weights of parent `{name}` are not there: `{id}` is no directory and could not be downloaded",
)
ParentHasNoWeights = Mistake(
    "E0602",
    "`pzl {stage}` needs the weights of parent `{name}`, which is declared by its shape only",
    'declare it as `parent {name} = hf("directory or hub id")`',
)
NotMadeYet = Mistake(
    "E0603",
    "{what} of `{name}` must be made first",
    "run `pzl {stage} {file}` first, or `pzl run {file}` for everything in order",
)
UnknownTarget = Mistake("E0604", "the program declares no {kind} called `{name}`")
NothingDeclared = Mistake("E0605", "the program declares no `{kind}`, so `pzl {stage}` has nothing to do")
BuildLocked = Mistake(
    "E0606",
    "another `pzl` is at work in `{build}`{who}",
    "wait for it, or give this run a build directory of its own with `-o`",
)
NoSolution = Mistake(
    "E0607",
    "search `{name}` has no solution, so there is no child to make",
    "run `pzl solve {file} {name}` to see which requirements conflict",
)
NoChildIsGoodEnough = Mistake(
    "E0609",
    "none of {children} measured children of `{search}` meets {missed}; the nearest has {nearest}",
    "ask for less quality or for less speed, measure more children (`refine = measured(…)`), or judge on more: errors "
    "count against a child",
)
MissedInTheEnd = Mistake("E0612", "{text}")
KnownTooLittle = Mistake("W0614", "{text}")
UptrainedForNothing = Mistake("W0615", "{text}")
NotAsTheFileSays = Mistake("W0616", "{text}")
LadderIsBetter = Mistake("W0617", "{text}")
DiskFull = Mistake(
    "E0608",
    "cannot write `{path}`: {reason}",
    "everything finished so far is kept; free some space or give another directory with `-o`, then run again",
)
CannotList = Mistake(
    "E0678",
    "cannot read the directory `{path}`: {reason}",
    "make it readable (`chmod u+rx {path}`), or give another directory",
)
NotReady = Mistake("E0610", "search `{name}` cannot be solved yet: it waits for {missing}")
DamagedArtefact = Mistake(
    "E0611",
    "cannot use `{path}`: it was {how}",
    'run `pzl {stage} {file}` to make it again; figures made elsewhere come in through `table("…")`',
)
ParentUnreadable = Mistake(
    "E0613",
    "cannot read `{path}` of parent `{name}`: {reason}",
    "copy the checkpoint again, or correct its permissions; what is finished so far is kept",
)
FileExists = Mistake("E0621", "`{path}` exists", "choose another name, or replace it with `--force`")
NoSuchParent = Mistake("E0622", "no parent `{given}`: {why}")
NoSuchProfile = Mistake("E0623", "no hardware profile `{given}`")
NothingToCost = Mistake(
    "E0641", "there are no costs of scenario {scenarios} yet", "`pzl measure {file}` makes them"
)
NotCompiled = Mistake("E0624", "no program in `{path}`: {why}", "`pzl compile` writes it")
