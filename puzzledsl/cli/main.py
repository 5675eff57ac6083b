"""`pzl`: entry point and exit codes: 0 done, 1 user's mistake, 2 usage error, 70 internal error, 130 interrupted."""

import os
import sys
from contextlib import suppress
from typing import NoReturn

from puzzledsl.base import process

EXIT_FAULT = 70


def main() -> NoReturn:
    """Run the command of `sys.argv` and exit with its code."""
    process.rest()
    # looking for plugins reads every package's metadata
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    process.listen_to_interrupts()
    _sweep()
    code = run(sys.argv[1:])
    if code != process.EXIT_INTERRUPTED:
        process.ignore_interrupts()
    process.leave(code)


def _sweep() -> None:
    """Remove scratch folders that killed processes left in the temporary directory. Imports the code only if one is there."""
    with suppress(OSError):
        names = os.listdir(os.environ.get("TMPDIR") or "/tmp")
        if any(name.startswith("pzl-scratch-") for name in names):
            from puzzledsl.base.files import sweep_scratch

            sweep_scratch()


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code. With PZL_TRACEBACK set, an internal error is raised with its traceback."""
    from puzzledsl.base.diagnostics import DiagnosticError
    from puzzledsl.cli.app import GONE, application

    options = [word.partition("=")[0] for word in arguments if word[:2] == "--"]
    typed = [*arguments[:1], *options, *(f"{arguments[0]} {word}" for word in (*arguments[1:2], *options))]
    if removed := [GONE[word] for word in typed if word in GONE]:
        print(removed[0], file=sys.stderr)
        return 2
    # no option has such a name: `-x.pzl` is a file
    paths = [f"./{a}" if a[:1] == "-" and a.endswith(".pzl") and os.path.exists(a) else a for a in arguments]
    try:
        application(*paths[:1])(paths, standalone_mode=True)
    except SystemExit as end:
        if end.code == process.EXIT_INTERRUPTED:  # typer turns Ctrl-C into this and says nothing
            return _interrupted()
        return end.code if isinstance(end.code, int) else 1 if end.code else 0
    except DiagnosticError as error:
        from puzzledsl.cli.loading import print_diagnostics

        print_diagnostics(error.diagnostics, {})
        return 1
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if process.was_interrupted():  # a library made an error of its own of the interrupt
            return _interrupted()
        if os.environ.get("PZL_TRACEBACK"):
            raise
        return _failed(error)
    return 0


def _failed(error: Exception) -> int:
    """Report an exception; return the exit code: 1 for a refused write (such as a full disk), else 70, with a traceback file."""
    import tempfile
    import traceback

    from puzzledsl.cli.loading import print_diagnostics
    from puzzledsl.pipeline.process import problem_of, refusal

    if (found := refusal(error)) is not None:
        print_diagnostics([problem_of(found, "standard output")], {})
        return 1
    handle, name = tempfile.mkstemp(prefix="pzl-fault-", suffix=".txt")
    with os.fdopen(handle, "w") as file:
        traceback.print_exception(error, file=file)
    print(
        f"pzl: internal error ({type(error).__name__}: {error})\n"
        f"This is a fault of pzl, not of your file. The details are in {name}; please report them.",
        file=sys.stderr,
    )
    return EXIT_FAULT


def _interrupted() -> int:
    print("\ninterrupted; what was finished is kept: run the same command to go on", file=sys.stderr)
    return process.EXIT_INTERRUPTED


if __name__ == "__main__":
    main()
