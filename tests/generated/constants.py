"""Constant expressions of a wanted dimension: literals, names, facts, arithmetic, conditions, `fn`s and aggregates."""

from __future__ import annotations

from tests.generated.writer import Writer

LITERALS = {
    "Count": ("8", "12", "400", "4Ki", "1_024", "2e3", "0.5", "3.25"),
    "Bytes": ("80GiB", "1.5TB", "640MiB", "24GB", "3_000kB"),
    "Time": ("30s", "25ms", "90us", "1.5min", "2h"),
    "Throughput": ("200 tok/s", "1500 tok/s", "3.5 ktok/s"),
}


def constant(w: Writer, dimension: str, depth: int = 2) -> str:
    """An expression of a dimension, positive, in brackets where it is not a single word."""
    known = w.constants.get(dimension, [])
    if known and w.maybe(0.4):
        return w.pick(known)
    if depth == 0 or w.maybe(0.5):
        return w.pick(LITERALS[dimension])
    inner = [constant(w, dimension, depth - 1) for _ in range(2)]
    options = [
        f"({inner[0]} + {inner[1]})",
        f"({factor(w)} * {inner[0]})",
        f"({inner[0]} / {w.chance.randint(2, 9)})",
        f"{w.pick(['min', 'max'])}({inner[0]}, {inner[1]})",
        f"mean([{inner[0]}, {inner[1]}])",
        f"(if {condition(w)} then {inner[0]} else {inner[1]})",
    ]
    if dimension == "Count":
        options += [
            f"ceil({inner[0]})",
            f"floor({inner[0]} + 1)",
            f"sum(i for i in 1..{w.chance.randint(2, 9)})",
            "sum(i * i for i in [1, 2, 3] where i mod 2 == 1)",
            f"count(i > 2 for i in 0..{w.chance.randint(3, 9)})",
        ]
        if w.parents:
            options.append(f"{w.pick(w.parents).name}.{w.pick(['layers', 'heads', 'hidden', 'vocab'])}")
    if dimension == "Bytes" and (profiles := [h for h in w.hardware if h.profile]):
        options += [f"({factor(w)} * {w.pick(profiles).name}.memory)"] * 3
    functions = w.constants.get("fn", [])
    if functions:
        options.append(f"{w.pick(functions)}({inner[0]})")
    return w.pick(options)


def factor(w: Writer) -> str:
    """A plain number to multiply with."""
    ratios = w.constants.get("Ratio", [])
    if ratios and w.maybe(0.5):
        return w.pick(ratios)
    return w.pick(["90%", "2", "0.75", "1.25"])


def condition(w: Writer) -> str:
    """Something true or false before any search."""
    flags = w.constants.get("Bool", [])
    if flags and w.maybe(0.3):
        return w.pick(["", "not "]) + w.pick(flags)
    left, right = w.chance.randint(1, 9), w.chance.randint(1, 9)
    text = f"{left} {w.pick(['<', '<=', '>', '>=', '==', '!='])} {right}"
    if w.parents and w.maybe(0.5):
        parent = w.pick(w.parents)
        text = w.pick(
            [f"{parent.name}.layers > {left}", f'{parent.name}.family == "llama"', f"{left} in 1..{right}"]
        )
    if w.maybe(0.2):
        text += f" {w.pick(['and', 'or'])} {left} in [1, 2, {right}]"
    return text


def definitions(w: Writer) -> None:
    """`param`s, `let`s, `fn`s and top-level assertions."""
    for _ in range(w.chance.randint(0, 3)):
        _parameter(w)
    for _ in range(w.chance.randint(0, 3)):
        dimension = w.pick(list(LITERALS))
        name = w.name(w.pick(["budget", "ceiling", "reserve", "target", "span"]))
        w.item(f"let {name} = {constant(w, dimension)}")
        w.constants.setdefault(dimension, []).append(name)
    if w.maybe(0.4):
        name, argument = w.name(w.pick(["half", "scaled", "eased"])), w.pick(["x", "amount", "value"])
        body = w.pick(
            [f"{argument} / 2", f"1.5 * {argument}", f"if {condition(w)} then {argument} else {argument} * 2"]
        )
        w.item(f"fn {name}({argument}) = {body}")
        w.constants.setdefault("fn", []).append(name)


def _parameter(w: Writer) -> None:
    kind = w.pick(["Ratio", "Count", "Bytes", "Time", "Throughput", "Bool", "Text"])
    name = w.name(w.pick(["headroom", "speedup", "limit", "knob", "slack"]))
    default = {
        "Ratio": lambda: w.pick(["95%", "0.9", "1.25"]),
        "Count": lambda: w.pick(["12", "400", "4Ki"]),
        "Bool": lambda: w.pick(["true", "false"]),
        "Text": lambda: w.pick(['"data"', '"out/child"']),
    }.get(kind, lambda: w.pick(LITERALS[kind]))()
    w.item(f"param {name}: {kind} = {default}")
    w.constants.setdefault(kind, []).append(name)


def assertion(w: Writer) -> str:
    """A true assertion."""
    if not w.parents:
        return f"assert {w.chance.randint(1, 5)} < {w.chance.randint(6, 9)}{w.because()}"
    parent = w.pick(w.parents)
    parts = [
        f"{parent.name}.layers == {parent.layers}",
        f"{parent.name}.kv_heads <= {parent.heads}",
        f"{parent.name}.heads mod {parent.name}.kv_heads == 0",
        f"not {parent.name}.layers < 2",
        f"{parent.layers} in 1..{parent.name}.layers",
    ]
    return "assert " + " and ".join(w.some(parts)[:2]) + w.because()
