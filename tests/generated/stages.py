"""Declarations around the searches: blds, scores, sub-spaces, uptraining, evaluation and export."""

from __future__ import annotations

from dataclasses import replace

from tests.generated.writer import Stage, Writer


def pieces(w: Writer) -> None:
    """A bld and one or more scores for each space."""
    for space in list(w.spaces):
        if w.maybe(0.2) and w.blds:
            continue
        name = w.name(w.pick(["pieces", "blocks"]))
        _bld(w, name, space.name, w.pick(["attention + ffn", "attention + ffn", "attention * ffn"]))
        w.blds.append(Stage(name, space, coupled="attention * ffn" in "".join(w.items[-1])))
    for bld in w.blds:
        for _ in range(w.pick([1, 1, 2])):
            _score(w, bld)
    if w.maybe(0.15):
        space = w.pick(w.spaces)
        name = w.name("table")
        w.item(f'score {name} of {space.name} = table("scores/{name}.csv")')
        w.scores.append(Stage(name, space))


def _bld(w: Writer, name: str, space: str, train: str) -> None:
    settings = [f"train = {train}", f"tokens = {w.pick(['1B', '100M', '0', '64Ki'])}"]
    settings += w.some(
        [
            "context = 4Ki",
            "batch = 128",
            f"lr = {_rate(w)}",
            "loss = normalized_mse",
            "calibration = 8Ki",
            "seed = 3",
        ],
        0,
    )
    w.item(*w.body(f"bld {name} of {space}", [*settings, *_data(w)]))


def _rate(w: Writer) -> str:
    return w.pick(["cosine(1e-4, warmup: 1%)", "constant(2e-4)", "5e-5", "cosine(1e-3)"])


def _data(w: Writer) -> list[str]:
    """`data = …`, which must be there where several are declared."""
    return [f"data = {w.pick(w.data)}"] if len(w.data) > 1 or w.maybe(0.3) else []


def _score(w: Writer, bld: Stage) -> None:
    name = w.name(w.pick(["kl", "mmlu", "quality", "drift"]))
    metric = w.pick(
        ["kl_divergence", "kl_divergence", "lm_loss", "cosine", f'accuracy("tasks/{name}.jsonl")']
    )
    options = [
        f"samples: {w.pick(['4096', '4Ki', '256'])}",
        f"unit: {'block' if bld.coupled else 'subblock'}",
    ]
    if len(w.data) > 1:
        options.append(f"data: {w.data[0]}")
    w.item(f"score {name} of {bld.name} = replace_one({', '.join([metric, *w.some(options, 0)])})")
    w.scores.append(Stage(name, bld.space, bld.coupled, measured=not metric.startswith("accuracy")))


def aftermath(w: Writer) -> None:
    """Sub-spaces of winners, uptraining, evaluation, export."""
    if w.maybe(0.3):
        search, name = w.pick(w.searches), w.name("winners")
        top = f", top: {w.chance.randint(1, 20)}" if w.maybe() else ""
        w.item(f"space {name} of {search.space.name} = used_by({search.name}{top})")
        w.spaces.append(replace(search.space, name=name))
        _bld(w, w.name("pairs"), name, "attention * ffn")
    for _ in range(w.chance.randint(0, 2)):
        search, name = w.pick(w.searches), w.name("final")
        weights = w.pick(["1 * kld + 1 * cosine + 0 * lm", "kld + 0.5 * cosine", "kld"])
        settings = [f"loss = {weights}", f"tokens = {w.pick(['45B', '12Ki'])}"]
        settings += w.some(["context = 8Ki", "batch = 4", f"lr = {_rate(w)}"], 0) + _data(w)
        w.item(*w.body(f"uptrain {name} of {search.name}", settings))
        w.uptrains.append(Stage(name, search.space))
    if w.maybe(0.4):
        name, of = w.name("judged"), w.pick([*w.uptrains, *w.searches])
        others = [s.name for s in (*w.uptrains, *w.searches) if s.space.name == of.space.name and s is not of]
        body = w.some(["items = 200", f"data = {w.pick(w.data)}", "tokens = 4Ki"])
        body += [f"full = {' + '.join([of.name, *w.some(others, 0)])}"] if w.maybe(0.3) else []
        tasks = w.pick(['tasks("data/hellaswag.jsonl")', 'tasks("a.jsonl", "b.jsonl")'])
        w.item(*w.body(f"eval {name} of {of.name} = {tasks}", body))
    # Every child runs in transformers; what other runtimes lack is told, and tested elsewhere.
    shipped = [s.name for s in (*w.uptrains, *w.searches)]
    if shipped and w.maybe(0.4):
        name = w.name("ship")
        target = w.pick(
            [
                'hf("out/child", runtime: transformers)',
                'hf("out/child", dtype: bf16)',
                'hf("out/child")',
            ]
        )
        w.item(f"export {name} of {w.pick(shipped)} = {target}")
