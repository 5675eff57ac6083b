"""Parents, data, hardware and scenarios."""

from __future__ import annotations

from tests.generated.writer import Hardware, Parent, Scenario, Writer

SHIPPED_PARENTS = (
    ("llama3_1_8b", 32, 8, 32, 14336),
    ("llama3_1_70b", 80, 8, 64, 28672),
    ("llama3_2_1b", 16, 8, 32, 8192),
    ("qwen2_5_7b", 28, 4, 28, 18944),
    ("qwen3_8b", 36, 8, 32, 12288),
    ("smollm2_1_7b", 24, 32, 32, 8192),
)
PROFILES = "h100_sxm h200 a100 l40s b200 rtx4090 mi300x".split()


def parents(w: Writer) -> None:
    """A parent or two, by shape or as a checkpoint with a shape."""
    for _ in range(w.pick([1, 1, 2])):
        if w.maybe(0.5):
            _shaped(w)
        else:
            _shipped(w)


def _shaped(w: Writer) -> None:
    kv_heads = w.pick([2, 4, 8])
    heads, head_dim = kv_heads * w.pick([1, 2, 4]), w.pick([32, 64, 128])
    layers, intermediate = w.chance.randint(6, 48), 256 * w.chance.randint(8, 40)
    family = w.pick(["llama", "mistral", "qwen2", "qwen3"])
    arguments = [
        f"family: {family}",
        f"layers: {layers}",
        f"hidden: {w.pick([512, 1024, 4096])}",
        f"heads: {heads}",
        f"kv_heads: {kv_heads}",
        f"head_dim: {head_dim}",
        f"intermediate: {intermediate}",
        f"vocab: {w.pick(['32_000', '128256', '48Ki'])}",
    ]
    flags = [f"tied: {w.pick(['true', 'false'])}", f"qk_norm: {'true' if family == 'qwen3' else 'false'}"]
    flags += ["attention_bias: true"] if family != "mistral" else []
    arguments += w.some(flags, 0)
    text = _call("shape", arguments, w)
    name = w.name(w.pick(["llama", "base", "teacher", "giant"]))
    if w.maybe(0.3):
        shape = w.name("figures")
        w.item(*f"let {shape} = {text}".split("\n"))
        text = shape if w.maybe() else f'hf("org/{name}", shape: {shape})'
    w.item(*f"parent {name} = {text}".split("\n"))
    w.parents.append(Parent(name, layers, kv_heads, heads, intermediate, weights=text.startswith("hf")))


def _call(name: str, arguments: list[str], w: Writer) -> str:
    """A call on one line, or broken after some commas."""
    if w.maybe(0.6):
        return f"{name}({', '.join(arguments)})"
    half = w.chance.randint(1, len(arguments) - 1)
    return f"{name}({', '.join(arguments[:half])},\n  {', '.join(arguments[half:])})"


def _shipped(w: Writer) -> None:
    shape, layers, kv_heads, heads, intermediate = w.pick(SHIPPED_PARENTS)
    use = w.pick([f'use "std/parents.pzl" ({shape})', 'use "std/parents.pzl" as {}', 'use "std/parents.pzl"'])
    if "{}" in use:
        alias = w.name("shapes")
        use, written = use.replace("{}", alias), f"{alias}.{shape}"
    else:
        written = shape
    if not any('"std/parents.pzl"' in item[-1] for item in w.items):
        w.items.insert(0, [use])
    else:
        alias = w.name("shapes")
        w.items.insert(0, [f'use "std/parents.pzl" as {alias}'])
        written = f"{alias}.{shape}"
    name = w.name(w.pick(["llama", "base", "teacher", "giant"]))
    revision = ', revision: "main"' if w.maybe(0.2) else ""
    w.item(f'parent {name} = hf("org/model-{layers}"{revision}, shape: {written})')
    w.parents.append(Parent(name, layers, kv_heads, heads, intermediate))


def data(w: Writer) -> None:
    """One to three data sets."""
    for _ in range(w.pick([1, 1, 2, 3])):
        name = w.name(w.pick(["mix", "corpus", "heldout", "web"]))
        source = w.pick(
            [
                f'text("corpus/{name}/*.txt")',
                f'text("{name}.txt", "more/*.txt")',
                f'jsonl("{name}.jsonl", column: {w.pick(["text", "body"])})',
                f'hf("org/{name}", split: train, column: text)',
            ]
        )
        w.item(f"data {name} = {source}")
        w.data.append(name)
    if w.maybe(0.3):
        weights = ", ".join(f"{name}: {w.pick([1, 2, '50%'])}" for name in w.data)
        name = w.name("mixed")
        w.item(f"data {name} = mix({weights})")
        w.data.append(name)


def hardware(w: Writer) -> None:
    """Profiles, literal blocks, measured machines and tables."""
    profile = w.pick(PROFILES)
    if w.maybe(0.75):
        w.items.insert(0, [f'use "std/hardware.pzl" ({profile})'])
        name = w.name(w.pick(["card", "node", "server"]))
        w.item(f"hardware {name} = {profile}({', '.join(_changes(w, profile))})")
        w.hardware.append(Hardware(name, profile=True, linked=True))
    if w.maybe(0.4) or not w.hardware:
        _literal(w)
    if w.maybe(0.3):
        name = w.name("laptop")
        device = f"device: {w.pick(['cpu', 'cuda', 'mps'])}"
        more = w.some([f"dtype: {w.pick(['fp32', 'bf16'])}", "memory: 16GiB", "gpus: 1"], 0)
        w.item(f"hardware {name} = measured({', '.join([device, *more])})")
        w.hardware.append(Hardware(name, profile=False))
    if w.maybe(0.15):
        name = w.name("elsewhere")
        w.item(f'hardware {name} = table("costs/{name}.csv")')
        w.hardware.append(Hardware(name, profile=False))
    linked = [h for h in w.hardware if h.linked]
    if w.maybe(0.25) and linked:
        name, base = w.name("rack"), w.pick(linked)
        body = w.some(["gpus = 4", "memory = 64GiB", "overhead = 80us", "reserve = 2GB"])
        w.item(*w.body(f"hardware {name} of {base.name}", body))
        w.hardware.append(Hardware(name, profile=True, linked=True))


def _changes(w: Writer, profile: str) -> list[str]:
    dtype = "fp8" if profile not in ("a100",) and w.maybe(0.4) else "bf16"
    options = [
        f"memory: {w.pick(['80GiB', '40GiB', '96GB'])}",
        f"gpus: {w.pick([1, 2, 4])}",
        f"dtype: {dtype}",
        f"kv_cache: {w.pick(['fp8', 'bf16'])}",
        f"kv_fraction: {w.pick(['0.85', '90%'])}",
        "max_batch: 512",
    ]
    return w.some(options)


def _literal(w: Writer) -> None:
    name = w.name(w.pick(["custom", "prototype"]))
    peak = w.some(["bf16 = 989TFLOP/s", "fp8 = 1979TFLOP/s", "fp16 = 500TFLOP/s"])
    efficiency = w.some(["compute = 0.564", "bandwidth = 92%", "attention = 0.23", "link = 0.72"])
    statements = ["memory = 80GB", "bandwidth = 3.35TB/s", "\n".join(w.body("peak", peak))]
    more = w.some(
        [
            "link = 450GB/s",
            "\n".join(w.body("efficiency", efficiency)),
            "overhead = 60us",
            "link_latency = 10us",
            "reserve = 3GB",
            "page = 64",
        ],
        0,
    )
    w.item(*w.body(f"hardware {name}", [*statements, *more]))
    w.hardware.append(Hardware(name, profile=True, linked="link = 450GB/s" in more))


def scenarios(w: Writer) -> None:
    """Scenarios that the child must serve."""
    for _ in range(w.chance.randint(1, 3)):
        name = w.name(w.pick(["chat", "rag", "think", "digest"]))
        batch = w.pick(["1", "32", "256", "64 | 128 | 256", "auto"])
        prompt, output = w.pick(["128", "2Ki", "512"]), w.pick(["1024", "128", "4Ki"])
        w.item(f"scenario {name} on {w.pick(w.hardware).name} = batch({batch}, {prompt} -> {output})")
        w.scenarios.append(Scenario(name, fixed_batch=batch.isdigit()))
