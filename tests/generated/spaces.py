"""Spaces: choices, overrides on layers of their own, initialisers, inheritance."""

from dataclasses import replace

from tests.generated.writer import Parent, Space, Writer

PERCENTS = ("87%", "75%", "50%", "25%", "20%", "10%")


def spaces(w: Writer) -> None:
    """A space of a parent, and now and then one of that space."""
    for parent in w.parents[: w.pick([1, 2])]:
        _space(w, parent)
    if w.maybe(0.3):
        base, name = w.pick(w.spaces), w.name("narrow")
        statements = _overrides(w, base, inherited=True) or ["layers[0].attention = parent"]
        w.item(*w.body(f"space {name} of {base.name}", statements))
        w.spaces.append(replace(base, name=name))


def _space(w: Writer, parent: Parent) -> None:
    heads = [h for h in (16, 8, 4, 2, 1) if h < parent.kv_heads and parent.kv_heads % h == 0]
    gqa = w.fill(
        f"gqa(kv_heads: {' | '.join(map(str, w.some(heads)))}‹¦¦, window: 8Ki¦, window: full | 4096›)"
    )
    mlp = w.fill(f"mlp(width: {' | '.join(w.some(PERCENTS))}‹¦, round: 256¦, round: 64›)")
    attention, ffn = (["parent", call, *["linear"] * w.maybe(), "noop"] for call in (gqa, mlp))
    words = (("parent", call.partition("(")[0], *rest) for _, call, *rest in (attention, ffn))
    space = Space(w.name("wide slim mixed candidates"), parent, *words)
    statements = [f"attention = {_joined(w, attention)}", f"ffn = {_joined(w, ffn)}"]
    if w.maybe(0.15):
        local = w.name("usual")
        statements[:1] = [f"let {local} = {_joined(w, attention)}", f"attention = {local}"]
    statements += _overrides(w, space)
    if w.maybe(0.3):
        starts = ["gqa = ‹least_squares¦mean_pool›", "mlp = ‹least_squares¦channel_contribution›"]
        chosen = w.some([*starts, "moe = least_squares", "linear = least_squares"])
        statements.append(w.fill("\n".join(w.body("init", chosen))))
    w.item(*w.body(f"space {space.name} of {parent.name}", statements))
    w.spaces.append(space)


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
    parts = zip([0, *cuts], [*cuts, layers], strict=True) if cuts else ()
    return [_override(w, space, _slice(w, first, last - 1, layers), inherited) for first, last in parts]


def _slice(w: Writer, first: int, last: int, layers: int) -> str:
    if first == last:
        return w.pick([str(first), str(first - layers)])
    if first == 0 and w.maybe(0.5):
        return f"..{last}"
    if last == layers - 1 and w.maybe(0.5):
        return f"{first}.."
    if last - first > 4 and w.maybe(0.3):
        return w.fill(f"{first}..{last} where index mod 2 == ‹0¦1›")
    return f"{first}, {last}" if w.maybe(0.15) else f"{first}..{last}"


def _override(w: Writer, space: Space, layers: str, inherited: bool) -> str:
    sub_block, words = w.pick([("attention", space.attention), ("ffn", space.ffn)])
    edits = ["= parent", f"&= parent | {words[1]}"]
    edits += [
        "&= gqa(kv_heads: >= 1) | noop" if sub_block == "attention" else "&= mlp(width: >= ‹20%¦25%¦512›)"
    ]
    if not inherited:
        edits += ["-= noop", f"-= {' | '.join(words[2:])}"]
        edits += ["|= linear"] if "linear" not in words else []
        edits += ["|= mlp(width: 33%)"] if sub_block == "ffn" else []
    return w.fill(
        w.pick([f"layers[{layers}] = parent", *(f"layers[{layers}].{sub_block} {edit}" for edit in edits)])
    )
