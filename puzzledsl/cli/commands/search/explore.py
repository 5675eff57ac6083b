"""`pzl explore`: a local page on which the requirements of a search are moved. Loads no torch."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from puzzledsl.cli import loading
from puzzledsl.cli.completion import complete_declaration, if_asked
from puzzledsl.cli.loading import BuildOption, FileArgument, SetOption

SearchArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[SEARCH]",
        help="The search. Default: the first that can be solved.",
        autocompletion=if_asked(complete_declaration),
    ),
]


def explore(
    file: FileArgument,
    search: SearchArgument = None,
    build: BuildOption = None,
    set_: SetOption = None,
    port: Annotated[
        int,
        typer.Option(
            "--port", metavar="PORT", min=0, max=65535, help="Port of 127.0.0.1. Default: a free one."
        ),
    ] = 0,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address; open no browser.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help='Print {"address"} as one JSON document; open no browser.')
    ] = False,
) -> None:
    """Explore a search on a local page: move bounds, pin layers, and see the proven answer change.

    Every number in a `require` has a slider, every requirement a switch, every layer its alternatives with the proven cost
    of each. Conflicts are explained, two answers compared. "Copy" gives the changed lines; "Save" shows the difference and
    writes the file as `pzl fmt` would. Nothing else is written, and nothing leaves this machine.

    The page is served on 127.0.0.1, and its address has a token that every request must have. Ctrl-C ends it.
    Needs `pip install 'puzzledsl[explore]'`.
    """
    from puzzledsl.explore.serving import check_libraries, serve

    check_libraries()
    loading.check(file, set_)

    def started(address: str) -> None:
        if json:
            loading.print_json({"address": address})
        else:
            print(f"{address}\nCtrl-C ends it.")
        sys.stdout.flush()

    params = loading.settings_of(set_)
    serve(file, search, build, params, port=port, started=started, browser=not (no_browser or json))
