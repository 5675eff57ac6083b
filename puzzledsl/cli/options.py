"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from puzzledsl.cli.completion import complete_declaration, complete_setting, if_asked

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The `.pzl` program.", show_default=False)]
NamesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME]...",
        help="Names of declarations. Default: all.",
        autocompletion=if_asked(complete_declaration),
    ),
]
BuildOption = Annotated[
    Path | None,
    typer.Option("-o", "--build", metavar="DIR", help="Build directory. Default: `build/` beside FILE."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Give a `param` another value. May be repeated.",
        autocompletion=if_asked(complete_setting),
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout instead of text.")
]
HealOption = Annotated[
    bool,
    typer.Option(
        "--heal/--no-heal",
        help="Refit the last linear map of every sub-block to the parent's hidden states (least squares). Kept if KL on "
        "held-out text is lower. `heal` of `bld` sets the number of tokens.",
    ),
]
OnOption = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="CLUSTER",
        help="Work on a Ray cluster: `local` (this machine's CPUs or GPUs), `auto` (the cluster of this machine), "
        "or `ray://HOST:10001`. The files are the same.",
    ),
]
