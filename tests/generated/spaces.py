"""Spaces: choices, overrides on layers of their own, assertions, initialisers, inheritance."""

from __future__ import annotations

from dataclasses import replace

from tests.generated.writer import Parent, Space, Writer

PERCENTS = ("100%", "87%", "75%", "50%", "25%", "20%", "10%")


def spaces(w: Writer) -> None:
    """A space of a parent, and now and then one of that space."""
    for parent in w.parents[: w.pick([1, 2])]:
        _space(w, parent)
    if w.maybe(0.3):
        base = w.pick(w.spaces)
        name = w.name("narrow")
        statements = _overrides(w, base, inherited=True) or ["layers[0].attention = parent"]
        w.item(*w.body(f"space {name} of {base.name}", statements))
        w.spaces.append(replace(base, name=name))


def _space(w: Writer, parent: Parent) -> None:
    name = w.name(w.pick(["wide", "slim", "mixed", "candidates"]))
    attention, attention_words = _attention(w, parent)
    ffn, ffn_words = _ffn(w)
    space = Space(name, parent, attention_words, ffn_words)
    statements = []
    if w.maybe(0.15):
        local = w.name("usual")
        statements.append(f"let {local} = {attention}")
        attention = local
    statements.append(f"attention = {attention}")
    statements.append(f"ffn = {ffn}")
    statements += _overrides(w, space)
    if w.maybe(0.3):
        words = w.some(
            [
                f"gqa = {w.pick(['least_squares', 'mean_pool'])}",
                f"mlp = {w.pick(['least_squares', 'channel_contribution'])}",
                "moe = least_squares",
                "linear = least_squares",
            ]
        )
        statements.append("\n".join(w.body("init", words)))
    w.item(*w.body(f"space {name} of {parent.name}", statements))
    w.spaces.append(space)


def _attention(w: Writer, parent: Parent) -> tuple[str, tuple[str, ...]]:
    """A choice of attention that always holds `parent` and `noop`, and its words."""
    heads = [h for h in (16, 8, 4, 2, 1) if h < parent.kv_heads and parent.kv_heads % h == 0]
    chosen = " | ".join(map(str, w.some(heads)))
    window = w.pick(["", "", ", window: 8Ki", ", window: full | 4096"])
    options = ["parent", f"gqa(kv_heads: {chosen}{window})"] + (["linear"] if w.maybe() else []) + ["noop"]
    return _joined(w, options), ("parent", "gqa", *options[2:])


def _ffn(w: Writer) -> tuple[str, tuple[str, ...]]:
    widths = " | ".join(w.some(PERCENTS[1:]))
    mlp = f"mlp(width: {widths}{w.pick(['', ', round: 256', ', round: 64'])})"
    options = ["parent", mlp] + (["linear"] if w.maybe() else []) + ["noop"]
    return _joined(w, options), ("parent", "mlp", *options[2:])


def _joined(w: Writer, options: list[str]) -> str:
    """`a | b | c`, broken before a bar where it is long."""
    if len(" | ".join(options)) > 50 and w.maybe():
        half = w.chance.randint(1, len(options) - 1)
        return " | ".join(options[:half]) + "\n    | " + " | ".join(options[half:])
    return " | ".join(options)


def _overrides(w: Writer, space: Space, *, inherited: bool = False) -> list[str]:
    """Overrides of layers that no other override of this space touches: each leaves something, and changes something.

    What an inherited choice still holds is not known here, so only edits that are never idle are drawn for it.
    """
    layers = space.parent.layers
    cuts = sorted(w.chance.sample(range(1, layers), w.pick([0, 1, 2, 3])))
    found = []
    for first, last in zip([0, *cuts], [*cuts, layers], strict=True):
        if first == 0 and not cuts:
            break
        found.append(_override(w, space, _slice(w, first, last - 1, layers), inherited))
    return found


def _slice(w: Writer, first: int, last: int, layers: int) -> str:
    if first == last:
        return w.pick([str(first), str(first - layers)])
    if first == 0 and w.maybe(0.5):
        return f"..{last}"
    if last == layers - 1 and w.maybe(0.5):
        return f"{first}.."
    text = f"{first}..{last}"
    if last - first > 4 and w.maybe(0.3):
        return f"{text} where index mod 2 == {w.pick([0, 1])}"
    return f"{first}, {last}" if w.maybe(0.15) else text


def _override(w: Writer, space: Space, layers: str, inherited: bool) -> str:
    sub_block = w.pick(["attention", "ffn"])
    words = space.attention if sub_block == "attention" else space.ffn
    extra = [x for x in ("linear",) if x not in words]
    options = [
        f"layers[{layers}] = parent",
        f"layers[{layers}].{sub_block} = parent",
        f"layers[{layers}].{sub_block} -= noop",
        f"layers[{layers}].{sub_block} -= {' | '.join(words[2:])}",
        f"layers[{layers}].{sub_block} &= parent | {words[1]}",
    ]
    if extra:
        options.append(f"layers[{layers}].{sub_block} |= {extra[0]}")
    if sub_block == "ffn":
        options.append(f"layers[{layers}].ffn &= mlp(width: >= {w.pick(['20%', '25%', '512'])})")
        options.append(f"layers[{layers}].ffn |= mlp(width: 33%)")
    else:
        options.append(f"layers[{layers}].attention &= gqa(kv_heads: >= 1) | noop")
    return w.pick([o for o in options if not inherited or ("|=" not in o and "-=" not in o)])
