"""Constant expressions of a wanted dimension: literals, names, facts, arithmetic, conditions, `fn`s and aggregates."""

from tests.generated.writer import Writer

LITERALS = {
    "Count": "‹8¦12¦400¦4Ki¦1_024¦2e3¦0.5¦3.25›",
    "Bytes": "‹80GiB¦1.5TB¦640MiB¦24GB¦3_000kB›",
    "Time": "‹30s¦25ms¦90us¦1.5min¦2h›",
    "Throughput": "‹200 tok/s¦1500 tok/s¦3.5 ktok/s›",
}

PARAMETERS = {
    "Ratio": "‹95%¦0.9¦1.25›", "Count": "‹12¦400¦4Ki›", "Bool": "‹true¦false›", "Text": '‹"data"¦"out/child"›',
}  # fmt: skip


def constant(w: Writer, dimension: str, depth: int = 2) -> str:
    """An expression of a dimension, positive, in brackets where it is not a single word."""
    known = w.constants.get(dimension, [])
    if known and w.maybe(0.4):
        return w.pick(known)
    if depth == 0 or w.maybe(0.5):
        return w.fill(LITERALS[dimension])
    one, other = (constant(w, dimension, depth - 1) for _ in range(2))
    options = [
        f"({one} + {other})",
        f"({factor(w)} * {one})",
        f"({one} / {w.chance.randint(2, 9)})",
        f"‹min¦max›({one}, {other})",
        f"mean([{one}, {other}])",
        f"(if {condition(w)} then {one} else {other})",
    ]
    if dimension == "Count":
        options += [
            f"sum(i for i in 1..{w.chance.randint(2, 9)})",
            "sum(i * i for i in [1, 2, 3] where i mod 2 == 1)",
            f"count(i > 2 for i in 0..{w.chance.randint(3, 9)})",
            *(f"{parent.name}.‹layers¦heads¦hidden¦vocab›" for parent in w.parents),
        ]
    if dimension == "Bytes" and w.profiles:
        options += [f"({factor(w)} * {w.pick(w.profiles)}.memory)"] * 3
    options += [f"{function}({one})" for function in w.constants.get("fn", [])]
    return w.fill(w.pick(options))


def factor(w: Writer) -> str:
    """A plain number to multiply with."""
    return w.pick([*w.constants.get("Ratio", []), "90%", "2", "0.75", "1.25"])


def condition(w: Writer) -> str:
    """Something true or false before any search."""
    flags = w.constants.get("Bool", [])
    if flags and w.maybe(0.3):
        return w.fill(f"‹¦not ›{w.pick(flags)}")
    left, right = w.chance.randint(1, 9), w.chance.randint(1, 9)
    text = f"{left} ‹<¦<=¦>¦>=¦==¦!=› {right}"
    if w.parents and w.maybe(0.5):
        parent = w.pick(w.parents).name
        text = f'‹{parent}.layers > {left}¦{parent}.family == "llama"¦{left} in 1..{right}›'
    return w.fill(text + f" ‹and¦or› {left} in [1, 2, {right}]" * w.maybe(0.2))


def definitions(w: Writer) -> None:
    """`param`s, `let`s and `fn`s."""
    for _ in range(w.chance.randint(0, 3)):
        kind, default = w.pick([*(LITERALS | PARAMETERS).items()])
        name = w.name("headroom speedup limit knob slack")
        w.item(f"param {name}: {kind} = {w.fill(default)}")
        w.constants.setdefault(kind, []).append(name)
    for _ in range(w.chance.randint(0, 3)):
        dimension = w.pick(list(LITERALS))
        name = w.name("budget ceiling reserve target span")
        w.item(f"let {name} = {constant(w, dimension)}")
        w.constants.setdefault(dimension, []).append(name)
    if w.maybe(0.4):
        name, x = w.name("half scaled eased"), w.pick(["x", "amount", "value"])
        w.item(w.fill(f"fn {name}({x}) = ‹{x} / 2¦1.5 * {x}¦if {condition(w)} then {x} else {x} * 2›"))
        w.constants.setdefault("fn", []).append(name)


def assertion(w: Writer) -> str:
    """A true assertion."""
    parent = w.pick(w.parents)
    parts = [
        f"{parent.name}.layers == {parent.layers}",
        f"{parent.name}.kv_heads <= {parent.heads}",
        f"{parent.name}.heads mod {parent.name}.kv_heads == 0",
        f"not {parent.name}.layers < 2",
        f"{parent.layers} in 1..{parent.name}.layers",
    ]
    return "assert " + " and ".join(w.some(parts)[:2]) + w.because()
