"""Command groups and example lines for `--help`, in addition to each command's own text.

All are in one table, so that no command lacks an example; a test runs every line.
"""

from __future__ import annotations

import typer

PANELS = {
    "Write a program": ("new", "check", "explain", "show", "fmt", "plan", "import", "lsp", "schema"),
    "Search": ("compile", "cost", "calibrate", "solve", "why", "watch", "frontier"),
    "Build a child": (
        "run",
        "status",
        "measure",
        "bld",
        "score",
        "refine",
        "realise",
        "uptrain",
        "eval",
        "export",
        "report",
    ),
    "Maintain and verify": ("library", "verify-export"),
}
"""Heading -> commands, in the order in which a user meets them."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "new": ("pzl new --parent llama3_1_8b --hardware h100_sxm", "pzl new small --parent ./checkpoints/mine"),
    "check": (
        "pzl check wide.pzl",
        "pzl check wide.pzl --set headroom=90% --deny warnings",
        "pzl check wide.pzl --fix",
        "pzl check wide.pzl --format sarif > wide.sarif",
    ),
    "explain": ("pzl explain E0301", "pzl explain"),
    "show": ("pzl show wide.pzl", "pzl show wide.pzl wide --json"),
    "fmt": ("pzl fmt wide.pzl parts/*.pzl", "pzl fmt --check --diff wide.pzl"),
    "plan": ("pzl plan build wide.pzl", "pzl plan wide.pzl wide.pzl --set headroom=90% --detailed-exitcode"),
    "compile": ("pzl compile wide.pzl", "pzl compile wide.pzl -o /tmp/build --json"),
    "schema": ("pzl schema > ir.schema.json",),
    "solve": (
        "pzl solve wide.pzl",
        "pzl solve wide.pzl best --json",
        "pzl solve wide.pzl --set headroom=90%",
    ),
    "why": (
        "pzl why wide.pzl best",
        "pzl why wide.pzl best layers[12].ffn",
        "pzl why wide.pzl best 12 --json",
    ),
    "watch": ("pzl watch wide.pzl", "pzl watch wide.pzl best --set headroom=90%"),
    "measure": ("pzl measure wide.pzl",),
    "bld": ("pzl bld wide.pzl", "pzl bld wide.pzl pieces -o /scratch/build"),
    "score": ("pzl score wide.pzl kl",),
    "refine": ("pzl refine wide.pzl best", "pzl refine wide.pzl curve"),
    "realise": ("pzl realise wide.pzl best",),
    "uptrain": ("pzl uptrain wide.pzl final",),
    "eval": ("pzl eval wide.pzl quality",),
    "export": ("pzl export wide.pzl out",),
    "report": ("pzl report wide.pzl", "pzl report wide.pzl --figures figures"),
    "run": (
        "pzl run wide.pzl",
        "pzl run wide.pzl --dry-run",
        "pzl run wide.pzl --until solve",
        "pzl run wide.pzl --set speedup=1.6x",
    ),
    "status": ("pzl status wide.pzl", "pzl status wide.pzl --made-by build/scores/kl.json"),
    "cost": ("pzl cost wide.pzl",),
    "frontier": ("pzl frontier wide.pzl",),
    "calibrate": ("pzl calibrate h100_sxm --data mine.csv",),
    "verify-export": ("pzl verify-export build/models/best --runtime transformers",),
    "lsp": ("pzl lsp",),
}
"""Command -> lines to type. A command that shows examples in its own words needs none."""


def add_help(app: typer.Typer) -> None:
    """Give every registered command its panel and its examples."""
    panel_of = {name: panel for panel, names in PANELS.items() for name in names}
    order = list(panel_of)
    for command in app.registered_commands:
        name = command.name or ""
        command.rich_help_panel = panel_of.get(name, command.rich_help_panel)
        if name in EXAMPLES and not command.epilog:
            command.epilog = "\n\n".join(["Examples:", *(f"  {line}" for line in EXAMPLES[name])])
    for group in app.registered_groups:
        group.rich_help_panel = panel_of.get(group.name or "", group.rich_help_panel)
    app.registered_commands.sort(key=lambda c: order.index(c.name) if c.name in order else len(order))
