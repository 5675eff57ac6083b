"""`pzl show`: the alternatives of every layer after overrides.

`pzl plan OLD NEW`: the changes from one program to another, before anything is run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.phrases import aligned, layers_in_words, ranges
from puzzledsl.base.units import COUNT, format_quantity
from puzzledsl.cli import loading
from puzzledsl.cli.loading import JsonOption, NamesArgument, SetOption, on_program

if TYPE_CHECKING:
    from puzzledsl.alternatives.alternative import SubBlock
    from puzzledsl.ir import nodes
    from puzzledsl.ir.nodes import Program
    from puzzledsl.pipeline.context import Context
    from puzzledsl.plan.space_table import SpaceTable


@on_program()
def show(ctx: Context, spaces: NamesArgument = None, json: JsonOption = False) -> None:
    """Show the spaces of a program after overrides: what each layer may become, and what each alternative is.

    Layers with the same choice are one line. Alternatives have the names that score and cost tables use: parent, gqa4
    (4 key/value heads), mlp21504 (an FFN of 21504 channels), linear, noop.
    """
    from puzzledsl.pipeline.compile import chosen
    from puzzledsl.plan.space_table import SpaceTable

    names = chosen("space", ctx.program.spaces, spaces, ctx.file, "show")
    tables = {name: SpaceTable(ctx.program, ctx.program.spaces[name]) for name in names}
    loading.show(
        json,
        lambda: {"spaces": [table.as_json() | _waiting(ctx, name) for name, table in tables.items()]},
        lambda: (space_text(table, _waiting(ctx, name)) for name, table in tables.items()),
    )


def space_text(table: SpaceTable, waiting: dict[str, object]) -> str:
    """Return a space as text for a terminal. `waiting`: of `_waiting`; if not empty, only the search it waits for is shown."""
    from puzzledsl.ir.facts import layer_kinds

    space = table.space
    shape = table.program.parents[space.parent].shape
    name = f"space {space.name} of {space.parent}"
    if waiting:
        return f"{name}: known once `{waiting['waits_for']}` is solved"
    head = f"{name}: {shape.layers} layers, 10^{table.log10_children:.1f} children"
    lines = [head, *(f"  {line}" for line in layer_kinds(shape)), "", *_layer_table(space)]
    for sub_block in ("attention", "ffn"):
        lines += ["", *_alternative_table(table, sub_block)]
    if space.ends is not None:
        lines += ["", *(f"{site:<10} {' | '.join(end.name for end in ends)}" for site, ends in space.ends)]
    return "\n".join(lines)


def _layer_table(space: nodes.Space) -> Iterator[str]:
    """Yield one line for each distinct choice: the layers that have it, its attention and its FFN alternatives."""
    found: dict[nodes.LayerChoice, list[int]] = {}
    for layer, choice in enumerate(space.layers):
        found.setdefault(choice, []).append(layer)
    rows: list[tuple[str, ...]] = [("layers", "attention", "ffn")]
    for choice, layers in found.items():
        names = (" | ".join(each.name for each in part) for part in (choice.attention, choice.ffn))
        rows.append((ranges(layers), *names))
    yield from aligned(rows)


def _alternative_table(table: SpaceTable, sub_block: SubBlock) -> Iterator[str]:
    """Yield one line per alternative: KV heads or width, parameters, their share of the parent's, number of layers, notes."""
    from puzzledsl.alternatives.alternative import absent
    from puzzledsl.alternatives.parent import PARENTS

    key = "kv_heads" if sub_block == "attention" else "width"
    rows = [[sub_block, key.replace("_", " "), "parameters", "of parent", "layers", ""]]
    found = [row for row in table.distinct(sub_block) if not absent(sub_block, row.own)]
    several = Counter(row.alternative.name for row in found)
    for row in found:
        facts, whole = row.facts, PARENTS[sub_block].params(row.own)
        size = int(str(facts["params"]))
        asked = facts.get("rounded_from", {})
        note = ", ".join(f"{text} is {float(Fraction(exact)):.6g}" for text, exact in dict(asked).items())  # type: ignore[call-overload]
        notes = [f"rounded: {note}"] if note else []
        notes += [layers_in_words(row.layers)] if several[row.alternative.name] > 1 else []
        width = f"{facts[key]:,}" if facts[key] else ""
        shares = format_quantity(size, COUNT), f"{size / whole:.1%}", str(len(row.layers))
        rows.append([str(facts["name"]), width, *shares, "; ".join(notes)])
    yield from aligned(rows, "<>>>><")


def _waiting(ctx: Context, name: str) -> dict[str, object]:
    """Return {"waits_for": SEARCH} if a `used_by` space waits for that search's solution; else an empty dictionary."""
    from puzzledsl.pipeline.compile import resolve_used_by

    used_by = ctx.program.spaces[name].used_by
    if used_by is None or name not in resolve_used_by(ctx.program, ctx.build)[1]:
        return {}
    return {"waits_for": used_by.search}


def plan(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="A program, a build directory or an ir.json.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The same, after the change.")],
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """List the changes from OLD to NEW: declarations, alternatives, requirements, pieces to make.

    `+` is new, `-` is gone, `~` is changed. Order, comments and line numbers make no difference.
    `--set` applies to NEW. `pzl status` lists the stages to run again.
    """
    from puzzledsl.changes.compare import as_text, compare

    before, after = _program(old, None), _program(new, set_)
    changes = compare(before, after)
    loading.show(json, changes.as_json, lambda: as_text(changes))


def _program(path: Path, pairs: list[str] | None) -> Program:
    """Return the program of a `.pzl` file (`pairs`: `--set`), an ir.json, or a directory with one. Raises DiagnosticError."""
    if path.is_dir():
        path = path / "ir.json"
        if not path.is_file():
            path = path.parent / "build" / "ir.json"
    if path.suffix != ".json":
        program = loading.check(path, pairs).program
        assert program is not None
        return program
    from puzzledsl.ir.nodes import Program
    from puzzledsl.pipeline.errors import NotCompiled

    try:
        return Program.from_json(path.read_bytes())
    except OSError as error:
        raise DiagnosticError(NotCompiled(None, path=path, why=(error.strerror or "").lower())) from error
    except ValueError as error:
        raise DiagnosticError(NotCompiled(None, path=path, why="it is no ir.json of this version")) from error
