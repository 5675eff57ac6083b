"""Declarations around the searches: blds, scores, sub-spaces, uptraining, evaluation and export."""

from dataclasses import replace

from tests.generated.writer import Stage, Writer

RATE = "lr = ‹cosine(1e-4, warmup: 1%)¦constant(2e-4)¦5e-5¦cosine(1e-3)›"


def pieces(w: Writer) -> None:
    """A bld and one or more scores for each space."""
    for space in list(w.spaces):
        if w.maybe(0.2) and w.blds:
            continue
        name, join = w.name("pieces blocks"), w.pick("++*")
        _bld(w, name, space.name, f"attention {join} ffn")
        w.blds.append(Stage(name, space, coupled=join == "*"))
    for bld in w.blds:
        for _ in range(w.pick([1, 1, 2])):
            _score(w, bld)
    if w.maybe(0.15):
        space, name = w.pick(w.spaces), w.name("table")
        w.item(f'score {name} of {space.name} = table("scores/{name}.csv")')
        w.scores.append(Stage(name, space))


def _bld(w: Writer, name: str, space: str, train: str) -> None:
    more = ["context = 4Ki", "batch = 128", RATE, "loss = normalized_mse", "calibration = 8Ki", "seed = 3"]
    settings = [f"train = {train}", "tokens = ‹1B¦100M¦0¦64Ki›", *w.some(more, 0), *_data(w)]
    w.item(*w.body(f"bld {name} of {space}", [w.fill(each) for each in settings]))


def _data(w: Writer) -> list[str]:
    """`data = …`, which must be there where several are declared."""
    return [f"data = {w.pick(w.data)}"] if len(w.data) > 1 or w.maybe(0.3) else []


def _score(w: Writer, bld: Stage) -> None:
    name = w.name("kl mmlu quality drift")
    metric = w.fill(f'‹kl_divergence¦kl_divergence¦lm_loss¦cosine¦accuracy("tasks/{name}.jsonl")›')
    options = ["samples: ‹4096¦4Ki¦256›", f"unit: {'block' if bld.coupled else 'subblock'}"]
    options += [f"data: {w.data[0]}"] if len(w.data) > 1 else []
    w.item(w.fill(f"score {name} of {bld.name} = replace_one({', '.join([metric, *w.some(options, 0)])})"))
    w.scores.append(Stage(name, bld.space, bld.coupled, measured=not metric.startswith("accuracy")))


def aftermath(w: Writer) -> None:
    """Sub-spaces of winners, uptraining, evaluation, export."""
    if w.maybe(0.3):
        search, name = w.pick(w.searches), w.name("winners")
        top = w.fill("‹¦, top: ‹1¦7¦20››")
        w.item(f"space {name} of {search.space.name} = used_by({search.name}{top})")
        w.spaces.append(replace(search.space, name=name))
        _bld(w, w.name("pairs"), name, "attention * ffn")
    for _ in range(w.chance.randint(0, 2)):
        search, name = w.pick(w.searches), w.name("final")
        settings = ["loss = ‹1 * kld + 1 * cosine + 0 * lm¦kld + 0.5 * cosine¦kld›", "tokens = ‹45B¦12Ki›"]
        settings += w.some(["context = 8Ki", "batch = 4", RATE], 0) + _data(w)
        w.item(*w.body(f"uptrain {name} of {search.name}", [w.fill(each) for each in settings]))
        w.uptrains.append(Stage(name, search.space))
    children = [*w.uptrains, *w.searches]
    if w.maybe(0.4):
        name, of = w.name("verdict"), w.pick(children)
        others = [s.name for s in children if s.space.name == of.space.name and s is not of]
        body = w.some(["items = 200", f"data = {w.pick(w.data)}", "tokens = 4Ki"])
        body += [f"full = {' + '.join([of.name, *w.some(others, 0)])}"] * w.maybe(0.3)
        tasks = w.fill('tasks(‹"data/hellaswag.jsonl"¦"a.jsonl", "b.jsonl"›)')
        w.item(*w.body(f"eval {name} of {of.name} = {tasks}", body))
    if w.maybe(
        0.4
    ):  # every child runs in transformers; what other runtimes lack is told, and tested elsewhere
        name, argument = w.name("ship"), w.fill("‹¦, runtime: transformers¦, dtype: bf16›")
        w.item(f'export {name} of {w.pick(children).name} = hf("out/child"{argument})')
