"""Parents, data, hardware and scenarios."""

from tests.generated.writer import Parent, Writer

SHIPPED_PARENTS = (
    ("llama3_1_8b", 32, 8, 32),
    ("llama3_1_70b", 80, 8, 64),
    ("llama3_2_1b", 16, 8, 32),
    ("qwen2_5_7b", 28, 4, 28),
    ("smollm2_1_7b", 24, 32, 32),
)


def parents(w: Writer) -> None:
    """A parent or two, by shape or as a checkpoint with a shape."""
    for _ in range(w.pick([1, 1, 2])):
        if w.maybe(0.5):
            _shaped(w)
        else:
            _shipped(w)


def _shaped(w: Writer) -> None:
    kv_heads = w.pick([2, 4, 8])
    heads, layers = kv_heads * w.pick([1, 2, 4]), w.chance.randint(6, 48)
    family = w.pick(["llama", "mistral", "qwen2", "qwen3"])
    flags = ["tied: ‹true¦false›", f"qk_norm: {str(family == 'qwen3').lower()}"]
    flags += ["attention_bias: true"] if family != "mistral" else []
    gap = "‹ ¦ ¦\n  ›"  # a call on one line, or broken after a comma
    text = w.fill(
        f"shape(family: {family}, layers: {layers}, hidden: ‹512¦1024¦4096›,{gap}heads: {heads}, kv_heads: {kv_heads}, "
        f"head_dim: ‹32¦64¦128›,{gap}intermediate: {256 * w.chance.randint(8, 40)}, vocab: ‹32_000¦128256¦48Ki›"
        + "".join(f", {flag}" for flag in w.some(flags, 0))
        + ")"
    )
    name = w.name("llama base teacher giant")
    if w.maybe(0.3):
        shape = w.name("figures")
        w.item(*f"let {shape} = {text}".split("\n"))
        text = shape if w.maybe() else f'hf("org/{name}", shape: {shape})'
    w.item(*f"parent {name} = {text}".split("\n"))
    w.parents.append(Parent(name, layers, kv_heads, heads, weights=text.startswith("hf")))


def _shipped(w: Writer) -> None:
    shape, layers, kv_heads, heads = w.pick(SHIPPED_PARENTS)
    used = any('"std/parents.pzl"' in item[-1] for item in w.items)
    if used or w.maybe(1 / 3):
        alias = w.name("shapes")
        use, written = f" as {alias}", f"{alias}.{shape}"
    else:
        use, written = w.pick(["", f" ({shape})"]), shape
    w.items.insert(0, [f'use "std/parents.pzl"{use}'])
    name = w.name("llama base teacher giant")
    revision = ', revision: "main"' * w.maybe(0.2)
    w.item(f'parent {name} = hf("org/model-{layers}"{revision}, shape: {written})')
    w.parents.append(Parent(name, layers, kv_heads, heads))


def data(w: Writer) -> None:
    """One to three data sets, and a mix of them."""
    for _ in range(w.pick([1, 1, 2, 3])):
        name = w.name("mix corpus heldout web")
        sources = (
            f'text("corpus/{name}/*.txt")',
            f'text("{name}.txt", "more/*.txt")',
            f'jsonl("{name}.jsonl", column: ‹text¦body›)',
            f'hf("org/{name}", split: train, column: text)',
        )
        w.item(w.fill(f"data {name} = {w.pick(sources)}"))
        w.data.append(name)
    if w.maybe(0.3):
        weights, name = ", ".join(f"{name}: ‹1¦2¦50%›" for name in w.data), w.name("mixed")
        w.item(w.fill(f"data {name} = mix({weights})"))
        w.data.append(name)


def hardware(w: Writer) -> None:
    """Profiles, literal blocks, measured machines and tables."""
    if w.maybe(0.75):
        profile = w.pick("h100_sxm h200 a100 l40s b200 rtx4090 mi300x".split())
        w.items.insert(0, [f'use "std/hardware.pzl" ({profile})'])
        name = w.name("card node server")
        changes = [
            "memory: ‹80GiB¦40GiB¦96GB›",
            "gpus: ‹1¦2¦4›",
            "dtype: bf16" if profile == "a100" else "dtype: ‹bf16¦fp8›",
            "kv_cache: ‹fp8¦bf16›",
            "kv_fraction: ‹0.85¦90%›",
            "max_batch: 512",
        ]
        w.item(w.fill(f"hardware {name} = {profile}({', '.join(w.some(changes))})"))
        for known in (w.hardware, w.profiles, w.linked):
            known.append(name)
    if w.maybe(0.4) or not w.hardware:
        _literal(w)
    if w.maybe(0.3):
        name = w.name("laptop")
        more = w.some([", dtype: ‹fp32¦bf16›", ", memory: 16GiB", ", gpus: 1"], 0)
        w.item(w.fill(f"hardware {name} = measured(device: ‹cpu¦cuda¦mps›{''.join(more)})"))
        w.hardware.append(name)
    if w.maybe(0.15):
        name = w.name("elsewhere")
        w.item(f'hardware {name} = table("costs/{name}.csv")')
        w.hardware.append(name)
    if w.maybe(0.25) and w.linked:
        base, name = w.pick(w.linked), w.name("rack")
        body = w.some(["gpus = 4", "memory = 64GiB", "overhead = 80us", "reserve = 2GB"])
        w.item(*w.body(f"hardware {name} of {base}", body))
        for known in (w.hardware, w.profiles, w.linked):
            known.append(name)


def _literal(w: Writer) -> None:
    name = w.name("custom prototype")
    peak = w.some(["bf16 = 989TFLOP/s", "fp8 = 1979TFLOP/s", "fp16 = 500TFLOP/s"])
    efficiency = w.some(["compute = 0.564", "bandwidth = 92%", "attention = 0.23", "link = 0.72"])
    more = [
        "link = 450GB/s",
        "\n".join(w.body("efficiency", efficiency)),
        "overhead = 60us",
        "link_latency = 10us",
    ]
    kept = w.some([*more, "reserve = 3GB", "page = 64"], 0)
    settings = ["memory = 80GB", "bandwidth = 3.35TB/s", "\n".join(w.body("peak", peak)), *kept]
    w.item(*w.body(f"hardware {name}", settings))
    for known in (w.hardware, w.profiles, *([w.linked] if "link = 450GB/s" in kept else [])):
        known.append(name)


def scenarios(w: Writer) -> None:
    """Scenarios that the child must serve."""
    for _ in range(w.chance.randint(1, 3)):
        name = w.name("chat rag think digest")
        batch, lengths = "‹1¦32¦256¦64 | 128 | 256¦auto›", "‹128¦2Ki¦512› -> ‹1024¦128¦4Ki›"
        w.item(w.fill(f"scenario {name} on {w.pick(w.hardware)} = batch({batch}, {lengths})"))
        w.scenarios.append(name)
