"""A slice of what `python -m benchmarks.fuzz` runs at length, and the extremes that chance does not reach."""

import random
from pathlib import Path

import pytest

from tests.cases import cases
from tests.checker.programs import TINY
from tests.fuzz.inputs import KINDS
from tests.fuzz.oracle import answer

LIMIT_S = 30.0
"""A hang, not a slow machine; the benchmark's limit is 2 s."""


@pytest.mark.drawn
@pytest.mark.parametrize("kind", KINDS)
def test_no_input_is_too_strange(tmp_path: Path, kind: str) -> None:
    make = KINDS[kind][1]
    for seed in range(cases(200)):
        data = make(random.Random(f"{kind} {seed}"))
        assert not answer(data, tmp_path / "input.pzl", LIMIT_S).problems, data


NEST = 40_000
EXTREMES: dict[str, str | bytes] = {
    "deep brackets": "let a = " + "(" * NEST + "1" + ")" * NEST,
    "deep lists": "let a = " + "[" * NEST,
    "deep negations": "let a = " + "not " * NEST + "x",
    "deep minuses": "let a = " + "-" * NEST + "1",
    "closers": "}" * NEST,
    "deep calls": "let a = " + "f(" * NEST,
    "deep braces": "search s of w " + "{ a " * NEST,
    "deep sections": "hardware h {\n" + "peak {\n" * 9_000,
    "deep fors": "search s of w {\n" + "for i in 1..2 {\n" * 4_000,
    "deep conditions": "let a = " + "if x then " * 9_000,
    "a long sum": "let a = 1" + " + 1" * 20_000,
    "a long chain of attributes": "let a = b" + ".c" * 20_000,
    "a long choice": "let a = 1" + " | 1" * 20_000,
    "a long comparison": "let a = 1" + " < 1" * 20_000,
    "a long name": "let a = b" + "a" * 900_000,
    "a long string": 'let a = "' + "x" * 900_000,
    "a long line of signs": "$" * 900_000,
    "many lines": "\n" * 900_000,
    "many declarations": "let a = 1\n" * 12_000,
    "many mistakes": "let = \n" * 12_000,
    "ten megabytes": b"a" * 10_000_000,
    "ten megabytes of program": (TINY * 30_000)[:10_000_000],
    "ten megabytes of no text": bytes(range(256)) * 40_000,
    "a power": "let a = 10 ** 400",
    "an exponent": "let a = 1e999999",
    "an exponent with a unit": "let a = 1e99999999999999999999GiB",
    "a small exponent": "let a = 1e-999999",
    "digits": "let a = " + "9" * 900_000,
    "decimals": "let a = 0." + "3" * 900_000,
    "a wide parent": TINY.replace("intermediate: 192", "intermediate: 99999999999999999999"),
    "a huge batch": TINY.replace("batch(4", "batch(99999999999999999999"),
    "a range of huge ends": "let a = sum(i for i in 1e300..1e301)",
    "a huge slice": TINY + "space v of w { layers[0..1e12].ffn = parent }",
    "two functions of each other": "fn f(x) = g(x)\nfn g(x) = f(x) + f(x)\nlet a = f(1)",
    "a function that grows": "fn f(x) = f(x * x)\nlet a = f(1e100)",
    "products": "let a = " + " * ".join(["99999999999999999999"] * 90),
    "a setting that is no expression": TINY + "bld b of w { train = ) }",
    "a metric of data, without a scenario": 'data d = text("a")\nlet x = d.memory',
    "a quotient": "let a = " + " / ".join(["99999999999999999999"] * 90),
}


@pytest.mark.parametrize("name", EXTREMES)
def test_extremes_get_a_diagnostic(tmp_path: Path, name: str) -> None:
    """Within the time of any other program: no RecursionError, no MemoryError, no hang."""
    extreme = EXTREMES[name]
    data = extreme if isinstance(extreme, bytes) else extreme.encode()
    path = tmp_path / "input.pzl"
    found = answer(data, path, LIMIT_S)
    assert not found.problems
    assert all(len(d.message) < 2_000 for d in found.diagnostics)
    if name != "a long comparison":  # which is merely false
        assert any(d.severity == "error" for d in found.diagnostics)
