"""Searches, and the frontiers over them: goals, requirements of every form, preferences, solvers, inheritance."""

from tests.generated.constants import condition, constant
from tests.generated.writer import Space, Stage, Writer

SOLVER = "solver = cpsat(‹seed: 7¦time: 90s¦time: 5min, gap: 0.1%, seed: 42›)"
DROPPED = "‹attention¦ffn› is ‹noop¦not parent¦linear›"


def searches(w: Writer) -> None:
    """One or two searches, some that are refined, some that inherit, and frontiers."""
    for _ in range(w.pick([1, 1, 2])):
        _search(w)
    scores = [score for score in w.scores if score.measured and score.space.parent.weights]
    if scores and w.maybe(0.4):
        _refined(w, w.pick(scores))
    for _ in range(w.chance.randint(0, 3)):
        base, name = w.pick(w.searches), w.name("greedy variant")
        goal = f"maximize {_amount(w, base.space)}"
        body = w.some([w.fill(SOLVER), f"require {_bound(w, base.space)}", goal])
        refined = base.refined and goal not in body
        body += ["refine = none"] if base.refined and not refined else []
        w.item(*w.body(f"search {name} of {base.name}", body))
        w.searches.append(Stage(name, base.space, refined=refined))
    for _ in range(w.chance.randint(0, 2)):
        name, search, scenario = w.name("curve"), w.pick(w.searches), w.pick(w.scenarios)
        points = f", points: {w.chance.randint(2, 20)}" * w.maybe(0.7)
        term = (
            f"‹{scenario}.throughput, 1x..3x¦{scenario}.latency, 20ms..80s¦{scenario}.memory, 8GiB..64GiB¦"
            "params, 0.4x..0.9x¦sum(ffn.width), 100..90k¦count(attention is noop), 0..4›"
        )
        w.item(w.fill(f"frontier {name} of {search.name} = sweep({term}{points})"))


def _search(w: Writer) -> None:
    space, name = w.pick(w.spaces), w.name("best fastest smallest nemotron")
    statements = [w.fill(f"‹minimize¦minimize¦maximize› {_amount(w, space)}")]
    if w.maybe(0.2):
        local = w.name("cap")
        statements.insert(0, f"let {local} = {constant(w, 'Time')}")
        statements.append(f"require {w.pick(w.scenarios)}.latency <= {local}")
    statements += [_require(w, space) for _ in range(w.chance.randint(1, 7))]
    if w.maybe(0.4):
        statements.append(_for(w, space))
    if w.maybe(0.3):
        goals = [_amount(w, space), f"-{w.pick(w.scenarios)}.latency", "count(attention is noop)"]
        statements.append(f"prefer {w.pick(goals)}{w.because()}")
    if w.maybe(0.3):
        statements.append(w.fill(f"solutions {w.chance.randint(1, 12)}‹¦ apart ‹1¦2¦3¦4››"))
    if w.maybe(0.5):
        statements.append(w.fill(SOLVER))
    w.item(*w.body(f"search {name} of {space.name}", statements))
    w.searches.append(Stage(name, space))


def _refined(w: Writer, score: Stage) -> None:
    """A search around whose answer children are measured."""
    name, more = w.name("refined"), w.some(["healed: 4Ki", "samples: 2048", f"data: {w.data[0]}"], 0)
    statements = [f"minimize {score.name}", *(_require(w, score.space) for _ in range(2))]
    statements.append(f"refine = measured({', '.join([str(w.chance.randint(1, 300)), *more])})")
    w.item(*w.body(f"search {name} of {score.space.name}", statements))
    w.searches.append(Stage(name, score.space, refined=True))


def _amount(w: Writer, space: Space) -> str:
    """Something with an amount to have more or less of."""
    options = ["params", "sum(attention.kv_heads)", f"{w.pick(w.scenarios)}.‹latency¦memory¦throughput›"]
    if scores := [s.name for s in w.scores if s.space is space]:
        options += [w.pick(scores)] * 4 + [f"{w.pick(scores)} + 0.5 * {w.pick(scores)}"]
    return w.fill(w.pick(options))


def _require(w: Writer, space: Space) -> str:
    layer = str(w.pick([0, -1, w.chance.randint(0, space.parent.layers - 1)]))
    return f"require {_bound(w, space) if w.maybe(0.75) else _statement(w, layer, space)}{w.because()}"


def _bound(w: Writer, space: Space) -> str:
    """A comparison of what the search decides with a constant."""
    s, size, last = w.pick(w.scenarios), w.pick(["<=", "<=", "<"]), space.parent.layers - 1
    first, few = w.chance.randint(0, last), w.chance.randint(1, 9)
    options = [
        f"{s}.‹memory¦weights¦kv_cache› {size} {constant(w, 'Bytes')}",
        f"{s}.‹latency¦ttft¦tpot› {size} {constant(w, 'Time')}",
        f"{s}.throughput >= ‹2.17x¦1.5x¦{constant(w, 'Throughput')}›",
        f"params {size} ‹51.5B¦0.6x¦900M¦75% * {space.parent.name}.params›",
        f"sum(attention.kv_heads) {size} {constant(w, 'Count')}",
        f"count({DROPPED}) {size} {constant(w, 'Count')}",
        f"sum(l.ffn.width for l in layers[{first}..]) {size} ‹0.6x¦90k¦2 * 28672›",
        f"sum(layers[..{first}].attention.kv_heads) >= {w.chance.randint(1, 40)}",
        f"count(layers[i].ffn is noop for i in {min(first, 3)}..{last}) {size} {few}",
        f"‹1¦2¦4›GiB <= {s}.memory <= {w.chance.randint(5, 90)}GiB",
        f"{s}.memory <= 70GiB and {s}.latency <= 3min",
        f"‹runs¦longest›(‹attention¦ffn› is ‹noop¦linear›) {size} {few}",
        "1 <= distinct(‹ffn.width¦attention.kv_heads¦ffn¦attention›) <= ‹1¦2¦4›",
        f"2 * {s}.ttft + 10ms {size} {constant(w, 'Time')}",
        "count(ffn is mlp(width: ‹>= 50%¦25% | 50%¦< 4096›)) >= ‹0¦1¦3›",
    ]
    return w.fill(w.pick(options))


def _statement(w: Writer, layer: str, space: Space) -> str:
    """A formula about one layer's choices."""
    attention, ffn = f"layers[{layer}].attention", f"layers[{layer}].ffn"
    word = w.pick([x for x in ("noop", "linear", "gqa") if x in space.attention])
    options = [
        f"{attention} is {word} implies {ffn} is not noop",
        f"{attention} is not noop or {ffn} is not noop",
        f"not ({attention} is noop and {ffn} is noop)",
        f"{ffn} is mlp(width: >= 25%) or {ffn} is parent or {attention} is noop",
        f"any([{attention} is parent, {ffn} is parent, {attention} is gqa(kv_heads: 1)])",
    ]
    return w.pick(options)


def _for(w: Writer, space: Space) -> str:
    last, i = space.parent.layers - 1, w.pick(["i", "k", "layer_idx"])
    domain = w.fill(
        f"‹1..{last}¦2..{last}¦[1, 3, 5]›‹¦ where {i} mod 2 == 1¦ where {i} > 2 and {condition(w)}›"
    )
    neighbour = f"layers[{i}].attention is noop implies layers[{i}-1].attention is not noop"
    inner = [f"require {w.pick([neighbour, _statement(w, i, space)])}"]
    if w.maybe(0.2):
        part = w.pick(["", ".attention", ".ffn"])
        inner.append(f"require layers[{i}]{part} same as layers[{i}-1]{part}")
    if w.maybe(0.2):
        inner.append(f"require layers[{i}].ffn is not noop or layers[{i}-1].ffn is not noop")
    return "\n".join(w.body(f"for {i} in {domain}", inner))
