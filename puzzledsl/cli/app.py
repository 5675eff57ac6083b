"""The typer application: `pzl COMMAND FILE`, with headings, order and examples of `--help`.

Only the module of the named command is imported; `pzl --help` imports all. A test runs the examples; every command has one.
Typer's private names are used in this file alone. Typer reads every value with a `pydantic.TypeAdapter`, even if an option has
a parser, and importing pydantic takes longer than checking a program. So strings and paths are read here, with the same result
as typer's, and other values by typer.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import MethodType
from typing import Annotated, Any

import typer
from typer._param_types import coerce_cli_path
from typer.core import TyperCommand, TyperGroup

from puzzledsl.base.frozen import Record
from puzzledsl.base.version import __version__

READ_HERE = (str, Path, list[str], list[Path])


class _Light:
    """Mixin of a command or group: reads strings and paths without pydantic."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, `--help` among them, each with a reader that avoids pydantic where it can."""
        found: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for each in found:
            descriptor = getattr(each, "type_descriptor", None)
            if isinstance(getattr(each, "get_runtime_param", None), MethodType) and descriptor is not None:
                reader = _Reader(each.get_runtime_param, descriptor.annotation, descriptor.parameter_info)
                each.get_runtime_param = lambda reader=reader: reader
        return found


class Command(_Light, TyperCommand):
    """A command that reads strings and paths without pydantic."""


class _Reader(Record):
    """Reader of one parameter: typer's own reader, made when needed, the annotated type, and typer's settings."""

    _typers: Callable[[], Any]
    _kind: Any
    _info: Any

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Convert what was typed, or a default, to the parameter's type; None (or () for a list) if it is absent."""
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        if isinstance(self._kind, type) and self._kind is not Path and isinstance(value, self._kind):
            return value
        if self._kind not in READ_HERE or self._info.parser is not None:
            return self._typers().coerce(value, param=param, ctx=ctx)
        if self._kind in (str, list[str]):
            return value if self._kind is str else list(value)
        given = {"path_type": Path, "param": param, "ctx": ctx}
        paths = [
            coerce_cli_path(Path(p), self._info, **given) for p in ([value] if self._kind is Path else value)
        ]
        return paths[0] if self._kind is Path else paths


TABLE: dict[str, dict[str, tuple[str, ...]]] = {
    "Write a program": {
        "new": (
            "new:new",
            "pzl new --parent llama3_1_8b --hardware h100_sxm",
            "pzl new small --parent ./checkpoints/mine",
        ),
        "check": (
            "check:check",
            "pzl check wide.pzl",
            "pzl check wide.pzl --set headroom=90% --deny warnings",
            "pzl check wide.pzl --fix",
            "pzl check wide.pzl --json",
        ),
        "explain": ("explain:explain", "pzl explain E0301", "pzl explain"),
        "show": ("show:show", "pzl show wide.pzl", "pzl show wide.pzl wide --json"),
        "fmt": ("check:fmt", "pzl fmt wide.pzl parts/*.pzl", "pzl fmt --check wide.pzl"),
        "plan": ("show:plan", "pzl plan build wide.pzl", "pzl plan wide.pzl wide.pzl --set headroom=90%"),
        "lsp": ("explain:lsp", "pzl lsp"),
    },
    "Search": {
        "compile": ("search:compile_", "pzl compile wide.pzl", "pzl compile wide.pzl -o /tmp/build --json"),
        "cost": ("search:cost", "pzl cost wide.pzl"),
        "solve": (
            "search:solve",
            "pzl solve wide.pzl",
            "pzl solve wide.pzl best --json",
            "pzl solve wide.pzl --set headroom=90%",
        ),
        "why": (
            "search:why",
            "pzl why wide.pzl best",
            "pzl why wide.pzl best layers[12].ffn",
            "pzl why wide.pzl best 12 --json",
        ),
        "explore": (
            "search:explore",
            "pzl explore wide.pzl",
            "pzl explore wide.pzl best --port 8000 --no-browser",
        ),
        "frontier": ("search:frontier", "pzl frontier wide.pzl"),
    },
    "Build a child": {
        "run": (
            "stages:run",
            "pzl run wide.pzl",
            "pzl run wide.pzl --dry-run",
            "pzl run wide.pzl --until solve",
            "pzl run wide.pzl --set speedup=1.6x",
        ),
        "status": ("stages:status", "pzl status wide.pzl"),
        "measure": ("stages:measure", "pzl measure wide.pzl"),
        "bld": ("stages:bld", "pzl bld wide.pzl", "pzl bld wide.pzl pieces -o /scratch/build"),
        "score": ("stages:score", "pzl score wide.pzl kl"),
        "refine": ("stages:refine", "pzl refine wide.pzl best", "pzl refine wide.pzl curve"),
        "realise": ("stages:realise", "pzl realise wide.pzl best"),
        "uptrain": ("stages:uptrain", "pzl uptrain wide.pzl final"),
        "eval": ("stages:eval_", "pzl eval wide.pzl quality"),
        "export": ("stages:export", "pzl export wide.pzl out"),
        "report": ("stages:report", "pzl report wide.pzl"),
    },
    "Maintain and verify": {
        "verify-export": (
            "verify:verify_export",
            "pzl verify-export build/models/best --runtime transformers",
        ),
        "verify-load": ("verify:verify_load", "pzl verify-load wide.pzl best"),
    },
}
"""Heading -> command -> `module:function` in `puzzledsl.cli.commands`, then example lines. In the order of `pzl --help`."""
PANELS = {panel: {name: row[0] for name, row in rows.items()} for panel, rows in TABLE.items()}
COMMANDS = {name: place for commands in PANELS.values() for name, place in commands.items()}
EXAMPLES = {name: row[1:] for rows in TABLE.values() for name, row in rows.items() if row[1:]}
"""Command -> example lines for its help."""

GONE = {
    "import": '`pzl import` is gone: write a run\'s figures as CSV, `score kl of wide = table("kl.csv")` and '
    '`hardware there = table("costs.csv")` read them',
    "--format": "`--format` is gone: `pzl check FILE --json` prints diagnostics for code hosts and editors",
    "calibrate": "`pzl calibrate` is gone: `hardware here = measured(engine: vllm)` and `pzl measure` time the card you have; "
    "a profile's constants are settings, `hardware mine of h100_sxm { efficiency { compute = 0.6 }, error = 5% }`",
    "library": "`pzl library` is gone: the report shows the pieces, `pzl status` names damaged ones, and `pzl bld` makes "
    "again what the program needs of a `library/` that you remove",
    "watch": "`pzl watch` is gone: `pzl explore FILE` solves again as bounds move, `pzl solve FILE` after a change of the file",
    "schema": "`pzl schema` is gone: docs/schema/ir.schema.json is that of the IR, and docs/artefacts.md names the records "
    "of the other files",
    "verify-export --parent": "`pzl verify-export` times nothing: `hardware here = measured(engine: vllm)` and "
    "`pzl eval` time parent and child",
    "verify-export --threads": "`pzl verify-export` times nothing: `hardware here = measured(engine: vllm)` does",
    "verify-export --build": "`pzl verify-export` keeps nothing: `--json` prints what it found",
    "--diff": "`--diff` is gone: `pzl fmt` writes the file, and version control shows what changed",
    "--detailed-exitcode": "`--detailed-exitcode` is gone: `changes` of `pzl plan --json` is empty if nothing changes",
    "--markdown": "`--markdown` is gone: `python scripts/reference.py` writes docs/errors.md",
    "--figures": "`--figures` is gone: the page has the pictures; `pzl frontier` writes the figures as CSV for your own",
}
"""Removed commands (`import`), options (`--diff`) and options of a command (`verify-export --build`) -> the message to print."""


def epilog(command: str) -> str | None:
    r"""Return the examples that end a command's help; None for a command without any. `\b` keeps the lines apart."""
    lines = EXAMPLES.get(command, ())
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)]) if lines else None


class ByPanel(_Light, TyperGroup):
    """A group whose help lists the commands under their headings."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write every heading with its commands and the first sentence of each."""
        for panel, names in PANELS.items():
            with formatter.section(panel):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(200)) for name in names])


def application(word: str = "") -> typer.Typer:
    """Return the application with the command `word` alone; with all commands if there is no such command."""
    known = word in COMMANDS
    # rich takes longer to import than all else that `pzl --help` does
    app = typer.Typer(
        name="pzl",
        cls=ByPanel,
        no_args_is_help=True,
        add_completion=not known,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Search inference-optimised LLMs, declared in one `.pzl` file.\n\n"
        "Write what each layer may become, where the child must run and what it must achieve; `pzl run FILE` does the rest:\n"
        "compile, measure, bld (make the pieces), score, solve, refine, realise (assemble the child), uptrain, eval, report.",
        epilog="Exit codes: 0 done; 1 a mistake in the program or its inputs; 2 usage; 70 a fault of pzl; 130 interrupted.",
    )
    app.callback()(_root)
    for name in [word] if known else COMMANDS:
        module, _, function = COMMANDS[name].partition(":")
        command = getattr(import_module(f"puzzledsl.cli.commands.{module}"), function)
        app.command(name, cls=Command, epilog=epilog(name))(command)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        print(f"pzl {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
