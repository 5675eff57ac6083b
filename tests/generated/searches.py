"""Searches, and the frontiers over them: goals, requirements of every form, preferences, solvers, inheritance."""

from __future__ import annotations

from collections.abc import Callable

from tests.generated.constants import condition, constant
from tests.generated.writer import Space, Stage, Writer

SOLVERS = (
    "cpsat(seed: 7)",
    "cpsat(time: 90s)",
    "cpsat(time: 5min, gap: 0.1%, seed: 42)",
)


def searches(w: Writer) -> None:
    """One or two searches, some that are refined, some that inherit, and frontiers."""
    for _ in range(w.pick([1, 1, 2])):
        _search(w)
    scores = [score for score in w.scores if score.measured and score.space.parent.weights]
    if scores and w.maybe(0.4):
        _refined(w, w.pick(scores))
    for _ in range(w.chance.randint(0, 3)):
        base = w.pick(w.searches)
        name = w.name(w.pick(["greedy", "variant"]))
        body = w.some(
            [
                f"solver = {w.pick(SOLVERS)}",
                f"require {_bound(w, base.space)}",
                f"maximize {_amount(w, base.space)}",
            ]
        )
        refined = base.refined
        if refined and any(each.startswith("maximize") for each in body):
            body.append("refine = none")
            refined = False
        w.item(*w.body(f"search {name} of {base.name}", body))
        w.searches.append(Stage(name, base.space, refined=refined))
    for _ in range(w.chance.randint(0, 2)):
        name, search = w.name("curve"), w.pick(w.searches)
        points = f", points: {w.chance.randint(2, 20)}" if w.maybe(0.7) else ""
        w.item(f"frontier {name} of {search.name} = sweep({_sweep(w, search.space)}{points})")


def _sweep(w: Writer, space: Space) -> str:
    scenario = w.pick(w.scenarios).name
    options = [
        f"{scenario}.throughput, 1x..3x",
        f"{scenario}.latency, 20ms..80s",
        f"{scenario}.memory, 8GiB..64GiB",
        "params, 0.4x..0.9x",
        "sum(ffn.width), 100..90k",
        "count(attention is noop), 0..4",
    ]
    return w.pick(options)


def _search(w: Writer) -> None:
    space = w.pick(w.spaces)
    name = w.name(w.pick(["best", "fastest", "smallest", "nemotron"]))
    statements = [f"{w.pick(['minimize', 'minimize', 'maximize'])} {_amount(w, space)}"]
    if w.maybe(0.2):
        local = w.name("cap")
        statements.insert(0, f"let {local} = {constant(w, 'Time')}")
        statements.append(f"require {w.pick(w.scenarios).name}.latency <= {local}")
    statements += [_require(w, space) for _ in range(w.chance.randint(1, 7))]
    if w.maybe(0.4):
        statements.append(_for(w, space))
    if w.maybe(0.3):
        goal = w.pick([_amount(w, space), f"-{w.pick(w.scenarios).name}.latency", "count(attention is noop)"])
        statements.append(f"prefer {goal}" + w.because())
    if w.maybe(0.3):
        statements.append(
            f"solutions {w.chance.randint(1, 12)}" + w.pick(["", f" apart {w.chance.randint(1, 4)}"])
        )
    if w.maybe(0.5):
        statements.append(f"solver = {w.pick(SOLVERS)}")
    w.item(*w.body(f"search {name} of {space.name}", statements))
    w.searches.append(Stage(name, space))


def _refined(w: Writer, score: Stage) -> None:
    """A search around whose answer children are measured."""
    name = w.name("refined")
    arguments = [str(w.chance.randint(1, 300))]
    arguments += w.some(["healed: 4Ki", "samples: 2048", f"data: {w.data[0]}"], 0)
    statements = [f"minimize {score.name}", *(_require(w, score.space) for _ in range(2))]
    statements.append(f"refine = measured({', '.join(arguments)})")
    w.item(*w.body(f"search {name} of {score.space.name}", statements))
    w.searches.append(Stage(name, score.space, refined=True))


def _amount(w: Writer, space: Space) -> str:
    """Something with an amount to have more or less of."""
    options = [
        "params",
        "sum(attention.kv_heads)",
        f"{w.pick(w.scenarios).name}.{w.pick(['latency', 'memory', 'throughput'])}",
    ]
    scores = [s.name for s in w.scores if s.space is space]
    if scores:
        options += [w.pick(scores)] * 4
        options.append(f"{w.pick(scores)} + 0.5 * {w.pick(scores)}")
    return w.pick(options)


def _require(w: Writer, space: Space) -> str:
    text = _bound(w, space) if w.maybe(0.75) else _statement(w, _layer(w, space), space)
    return f"require {text}{w.because()}"


def _bound(w: Writer, space: Space) -> str:
    """A comparison of what the search decides with a constant."""
    scenario = w.pick(w.scenarios).name
    size = w.pick(["<=", "<=", "<"])
    last = space.parent.layers - 1
    first = w.chance.randint(0, last)
    makers: list[Callable[[], str]] = [
        lambda: f"{scenario}.{w.pick(['memory', 'weights', 'kv_cache'])} {size} {constant(w, 'Bytes')}",
        lambda: f"{scenario}.{w.pick(['latency', 'ttft', 'tpot'])} {size} {constant(w, 'Time')}",
        lambda: f"{scenario}.throughput >= {w.pick(['2.17x', '1.5x', constant(w, 'Throughput')])}",
        lambda: (
            f"params {size} {w.pick(['51.5B', '0.6x', '900M', '75% * ' + space.parent.name + '.params'])}"
        ),
        lambda: f"sum(attention.kv_heads) {size} {constant(w, 'Count')}",
        lambda: (
            f"count({w.pick(['attention', 'ffn'])} is {w.pick(['noop', 'not parent', 'linear'])}) {size} {constant(w, 'Count')}"
        ),
        lambda: f"sum(l.ffn.width for l in layers[{first}..]) {size} {w.pick(['0.6x', '90k', '2 * 28672'])}",
        lambda: f"sum(layers[..{first}].attention.kv_heads) >= {w.chance.randint(1, 40)}",
        lambda: (
            f"count(layers[i].ffn is noop for i in {min(first, 3)}..{last}) {size} {w.chance.randint(1, 9)}"
        ),
        lambda: f"{w.chance.randint(1, 4)}GiB <= {scenario}.memory <= {w.chance.randint(5, 90)}GiB",
        lambda: f"{scenario}.memory <= 70GiB and {scenario}.latency <= 3min",
        lambda: (
            f"{w.pick(['runs', 'longest'])}({w.pick(['attention', 'ffn'])} is {w.pick(['noop', 'linear'])})"
            f" {size} {w.chance.randint(1, 9)}"
        ),
        lambda: (
            f"1 <= distinct({w.pick(['ffn.width', 'attention.kv_heads', 'ffn', 'attention'])}) <= {w.chance.randint(1, 4)}"
        ),
        lambda: f"2 * {scenario}.ttft + 10ms {size} {constant(w, 'Time')}",
        lambda: (
            f"count(ffn is mlp(width: {w.pick(['>= 50%', '25% | 50%', '< 4096'])})) >= {w.chance.randint(0, 3)}"
        ),
    ]
    return w.pick(makers)()


def _layer(w: Writer, space: Space) -> str:
    last = space.parent.layers - 1
    return w.pick(["0", "-1", str(w.chance.randint(0, last))])


def _statement(w: Writer, layer: str, space: Space) -> str:
    """A formula about one layer's choices."""
    attention, ffn = f"layers[{layer}].attention", f"layers[{layer}].ffn"
    words = [x for x in ("noop", "linear", "gqa") if x in space.attention]
    return w.pick(
        [
            f"{attention} is {w.pick(words)} implies {ffn} is not noop",
            f"{attention} is not noop or {ffn} is not noop",
            f"not ({attention} is noop and {ffn} is noop)",
            f"{ffn} is mlp(width: >= 25%) or {ffn} is parent or {attention} is noop",
            f"any([{attention} is parent, {ffn} is parent, {attention} is gqa(kv_heads: 1)])",
        ]
    )


def _for(w: Writer, space: Space) -> str:
    last = space.parent.layers - 1
    variable = w.pick(["i", "k", "layer_idx"])
    domain = w.pick([f"1..{last}", f"{min(2, last)}..{last}", "[1, 3, 5]"])
    guard = w.pick(["", f" where {variable} mod 2 == 1", f" where {variable} > 2 and {condition(w)}"])
    neighbour = f"layers[{variable}].attention is noop implies layers[{variable}-1].attention is not noop"
    inner = [f"require {w.pick([neighbour, _statement(w, variable, space)])}"]
    if w.maybe(0.2):
        part = w.pick(["", ".attention", ".ffn"])
        inner.append(f"require layers[{variable}]{part} same as layers[{variable}-1]{part}")
    if w.maybe(0.2):
        inner.append(f"require layers[{variable}].ffn is not noop or layers[{variable}-1].ffn is not noop")
    return "\n".join(w.body(f"for {variable} in {domain}{guard}", inner))


def _subject(w: Writer) -> str:
    return f"{w.pick(['attention', 'ffn'])} is {w.pick(['noop', 'not parent', 'linear'])}"
