"""Inputs of a seeded source of chance: raw bytes, soups of the language's words, and edits of valid and of wrong programs."""

import random
from collections.abc import Callable
from functools import cache

from tests.checker.programs import ROOT, TINY
from tests.generated import program
from tests.generated.mistakes import mistake

SMALL = """\
parent p = shape(family: llama, layers: 4, hidden: 64, heads: 8, head_dim: 8, intermediate: 192, vocab: 256)
space w of p { attention = gqa(kv_heads: 4 | 2) | noop, ffn = mlp(width: 50%) | noop }
search s of w { maximize params, require count(attention is noop) <= 2 }
"""
SEARCH = """\
search s of w {
  minimize kl
  require chat.memory <= 3GiB  because "so"
  require count(attention is noop) <= 2 and sum(ffn.width) <= 0.6x
  for i in 1..3 where i mod 2 == 1 {
    require layers[i].attention is noop implies layers[i-1].ffn is not noop
  }
  prefer -chat.latency
  solutions 3 apart 2
  solver = cpsat(time: 60s, gap: 0.1%)
}
frontier f of s = sweep(chat.throughput, 1x..3x, points: 4)
fn half(x) = if x > 1 then x / 2 else x
param n: Count = 3
let a = [1, 2, 3]
assert max(a) == 3 and n in a  # yes
bld b of w { train = attention * ffn, tokens = 1M, lr = cosine(1e-4, warmup: 1%) }
uptrain u of s { loss = 1 * kld + cosine, tokens = 1B }
eval e of u = tasks("t.jsonl") { items = 9 }
export x of u = gguf("c.gguf", dtype: f16)
"""
WORDS = (
    "use param fn let assert of on for in where require prefer minimize maximize solutions apart because if then else "
    "implies and or not is mod as parent data hardware scenario space bld score search frontier uptrain eval export "
    "layers attention ffn params noop linear gqa mlp moe sum count min max mean all any size shape hf batch table "
    "true false index layer w p kl chat x i 1 0 -1 2.17x 78GiB 10% 1e9999 10**400 99999999999999999999 4Ki 30ms 0..1e12 "
    '( ) [ ] { } = |= -= &= . .. -> + - * / , : | == != <= >= < > "s" " \' \\ # ## $ @ ; && || ≤ → é 𝕏 \u202e \x00 \t \r \n \n \n'
).split(" ")


@cache
def seeds() -> tuple[bytes, ...]:
    """Programs to start from: small ones mostly, right and wrong, and a few of everyday size."""
    folders = [ROOT / "tests" / "checker" / "errors", ROOT / "tests" / "syntax" / "errors"]
    wrong = [path.read_bytes() for folder in folders for path in sorted(folder.glob("*.pzl"))]
    right = [SMALL.encode()] * 60 + [TINY.encode()] * 25 + [(TINY + SEARCH).encode(), SEARCH.encode()] * 5
    lines = [line for i in range(12) for line in program(random.Random(i)).encode().split(b"\n")]
    pieces = [b"\n".join(lines[i : i + 8]) for i in range(0, len(lines), 8)]
    examples = [path.read_bytes() for path in sorted((ROOT / "examples").glob("*.pzl"))]
    return (*right, *wrong, *pieces, *examples)


def raw(chance: random.Random) -> bytes:
    """Bytes of any value, or letters and signs."""
    size = chance.randrange(120)
    if chance.random() < 0.3:
        return chance.randbytes(size)
    alphabet = chance.choice(
        [bytes(range(32, 127)) + b"\n", b'(){}[]=|.,:-> \n1aZ"#', "aé→𝕏\u2028\n".encode()]
    )
    return bytes(chance.choice(alphabet) for _ in range(size))


def soup(chance: random.Random) -> bytes:
    """Words of the language in no order."""
    return " ".join(chance.choice(WORDS) for _ in range(chance.randrange(60))).encode()


def edited(chance: random.Random) -> bytes:
    """A program after some edits."""
    text = chance.choice(seeds())
    for _ in range(chance.choice([1, 1, 2, 3, 5, 9])):
        text = _edited_once(text, chance)
    return text


def mistaken(chance: random.Random) -> bytes:
    """A program with mistakes of the kinds people make."""
    text = chance.choice([TINY + SEARCH, SEARCH, TINY, TINY, *[SMALL] * 4])
    for _ in range(chance.randint(1, 4)):
        found = mistake(text, chance)
        if found is not None:
            lines = text.split("\n")
            lines[found.line - 1] = found.text
            text = "\n".join(lines)
    return text.encode()


def _at(text: bytes, chance: random.Random) -> tuple[int, int]:
    start = chance.randrange(len(text) + 1)
    return start, min(len(text), start + chance.choice([0, 1, 1, 2, 5, 20, 200]))


HUGE = "0 -1 1e999999 1e15 0.1 99999999999999999999 7x 3GiB 1/0".split()


def _edited_once(text: bytes, chance: random.Random) -> bytes:
    """A part deleted, doubled, moved or replaced; a word, a byte, a part of another program or another number put in."""
    start, stop = _at(text, chance)
    before, part, behind = text[:start], text[start:stop], text[stop:]
    word = chance.choice(WORDS).encode()
    match chance.choice("delete double insert insert replace replace flip move splice number".split()):
        case "delete":
            return before + behind
        case "double":
            return before + part * chance.choice([2, 2, 3, 31]) + behind
        case "insert":
            return before + chance.choice([b"", b" "]) + word + b" " + part + behind
        case "replace":
            return before + word + behind
        case "flip":
            return before + bytes([chance.randrange(256)]) + text[start + 1 :]
        case "move":
            rest = before + behind
            at = chance.randrange(len(rest) + 1)
            return rest[:at] + part + rest[at:]
        case "splice":
            other = chance.choice(seeds())
            first, last = _at(other, chance)
            return before + other[first:last] + part + behind
        case _:
            at = chance.choice([i for i, byte in enumerate(text) if 48 <= byte <= 57] or [len(text)])
            return text[:at] + chance.choice([*HUGE, "9" * 400]).encode() + text[at + 1 :]


KINDS: dict[str, tuple[float, Callable[[random.Random], bytes]]] = {
    "raw bytes": (0.2, raw),
    "words in no order": (0.15, soup),
    "edited programs": (0.45, edited),
    "programs with mistakes": (0.2, mistaken),
}
"""Kind of input -> (its share, how one is made)."""


def some_input(chance: random.Random) -> tuple[str, bytes]:
    """An input of some kind."""
    kinds = list(KINDS)
    kind = chance.choices(kinds, [KINDS[k][0] for k in kinds])[0]
    return kind, KINDS[kind][1](chance)
