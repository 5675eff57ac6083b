"""Mistakes that users of other languages and tools have made, each in a program of its own, and what they meant."""

HEAD = """\
use "std/hardware.pzl" (h100_sxm)
parent p = shape(family: llama, layers: 12, hidden: 64, heads: 8, kv_heads: 8, head_dim: 8, intermediate: 192, vocab: 256)
space w of p { attention = parent | gqa(kv_heads: 4 | 2) | linear | noop, ffn = parent | mlp(width: 50%) | noop }
hardware h = h100_sxm(gpus: 1)
scenario chat on h = batch(4, 128 -> 64)
score kl of w = table("kl.csv")
param run: Text = "a"
"""
ITEMS: dict[str, str | None] = {
    "hardware g = h100_sxm(dtype: fp8, kv_dtype: fp8)": "hardware g = h100_sxm(dtype: fp8, kv_cache: fp8)",
    "hardware g = h100_sxm(dtype: fp8, kv_cache: fp8, kv_dtype: fp8)": None,
    "bld pieces of w:": None,
    "bld pieces of w:\n  tokens: 1B\n  lr: 1e-4": None,
    "search y of w:\n  minimize: kl\n  require:\n    - chat.memory <= 3GiB": None,
    "space v of w { layer[0, -1] = parent }": "space v of w { layers[0, -1] = parent }",
    "scenario c on h = batch(64, 128 => 1024)": "scenario c on h = batch(64, 128 -> 1024)",
    "scenario c on h = batch[16, 4Ki -> 128)": "scenario c on h = batch(16, 4Ki -> 128)",
    "space v of p { attention = gqa(kv_heads: 4), init = random }": None,
    "bld pieces of w { tokens = 0, init = random }": None,
    "let a = if p.layers > 3 then 1 elif p.layers > 2 then 2 else 3": (
        "let a = if p.layers > 3 then 1 else if p.layers > 2 then 2 else 3"
    ),
    "let a = p.layers > 3 ? 1 : 2": None,
    "let a = 1 if p.layers > 3 else 2": None,
    "let a = 3 /* three */": "let a = 3 # three",
    "/* two\n   lines */\nlet a = 3": "# two\n# lines\nlet a = 3",
    "space v of p { attention = gqa(kv_heads: [8, 4]) }": "space v of p { attention = gqa(kv_heads: 8 | 4) }",
    "space v of p { attention = linear or noop }": "space v of p { attention = linear | noop }",
    "space v of w { layers[*].attention -= noop }": "space v of w { layers[..].attention -= noop }",
    "space v of w { layers(2..9).attention -= noop }": "space v of w { layers[2..9].attention -= noop }",
    'score k of w = table(f"kl-{run}.csv")': None,
    "if p.layers > 8 {\n  let a = 3\n}": None,
    "let a = 13 % 4": "let a = 13 mod 4",
    "let a = 95 %": "let a = 95%",
}
"""A declaration with a mistake -> what `pzl check --fix` makes of it; None where nothing is certain."""

STATEMENTS: dict[str, str | None] = {
    "require layers == 20": None,
    "require count(noop) <= 3": None,
    "require (1 - kl) / params <= 3": None,
    "minimize kl, params": None,
    "for i in 0..9 where i % 4 == 0 { require layers[i].ffn is not noop }": (
        "for i in 0..9 where i mod 4 == 0 { require layers[i].ffn is not noop }"
    ),
    "require chat.latency <= 8 seconds": "require chat.latency <= 8s",
    "require chat.throughput >= 5000 tokens/s": "require chat.throughput >= 5000 tok/s",
    "require params =< 3B": "require params <= 3B",
    "require chat.memory <= 3GiB, params <= 3B": "require chat.memory <= 3GiB and params <= 3B",
    "if chat.batch > 3 {\n    require count(ffn is noop) <= 2\n  }": None,
    "if p.layers > 8 then require params <= 3B else require params <= 4B": None,
    "require notlayers[3].ffn is noop": None,
    "require layers3.ffn is noop": None,
    "require layers(3).ffn is noop": "require layers[3].ffn is noop",
}
"""The same of statements in a search."""


def programs() -> list[tuple[str, str, str | None]]:
    """Return each mistake, its program, and the program that `pzl check --fix` makes; None where it changes nothing."""
    search = "search s of w {{\n  minimize kl\n  {}\n}}\n"
    found = [
        (text, HEAD + f"{text}\n", None if meant is None else HEAD + f"{meant}\n")
        for text, meant in ITEMS.items()
    ]
    for text, meant in STATEMENTS.items():
        body = search.format(text)
        if text.startswith("minimize"):
            body = body.replace("  minimize kl\n", "", 1)
        found.append((text, HEAD + body, None if meant is None else HEAD + search.format(meant)))
    return found
