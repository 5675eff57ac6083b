"""Dimensions, quantities and their literals. Values are exact (`Fraction`): `80GiB` and `81920MiB` are the same number.

Base units: byte, second, FLOP, token, dollar, joule, request. `25%` and `2.17x` are dimensionless; the form of `2.17x` is kept,
because it means "times the parent's".
"""

from __future__ import annotations

import difflib
import functools
import re
from fractions import Fraction
from typing import Literal

from puzzledsl.base.frozen import Record

Form = Literal["plain", "percent", "times"]


class Dimension(Record):
    """Exponents of the base units."""

    bytes: int = 0
    seconds: int = 0
    flops: int = 0
    tokens: int = 0
    dollars: int = 0
    joules: int = 0
    requests: int = 0

    def __mul__(self, other: Dimension) -> Dimension:
        return Dimension(*(a + b for a, b in zip(self._tuple(), other._tuple(), strict=True)))

    def __truediv__(self, other: Dimension) -> Dimension:
        return Dimension(*(a - b for a, b in zip(self._tuple(), other._tuple(), strict=True)))

    def _tuple(self) -> tuple[int, ...]:
        return (self.bytes, self.seconds, self.flops, self.tokens, self.dollars, self.joules, self.requests)

    @property
    def name(self) -> str:
        """Name in messages: `Bytes`, `Time`, `tok/s`, `a plain number`."""
        if self in _WRITTEN:
            return _WRITTEN[self][0]
        exponents = [*zip(_BASE, self._tuple(), strict=True)]
        up = [f"{u}{'' if e == 1 else f'^{e}'}" for u, e in exponents if e > 0]
        down = [f"{u}{'' if e == -1 else f'^{-e}'}" for u, e in exponents if e < 0]
        return "*".join(up) + ("/" + "/".join(down) if down else "") if up else "1/" + "/".join(down)


_BASE = ("byte", "s", "FLOP", "tok", "USD", "J", "req")
COUNT = Dimension()
BYTES = Dimension(bytes=1)
TIME = Dimension(seconds=1)
TOKENS = Dimension(tokens=1)
FLOPS = Dimension(flops=1)
BYTES_PER_S = Dimension(bytes=1, seconds=-1)
FLOP_PER_S = Dimension(flops=1, seconds=-1)
TOK_PER_S = Dimension(tokens=1, seconds=-1)
DOLLARS = Dimension(dollars=1)
DOLLARS_PER_S = Dimension(dollars=1, seconds=-1)
ENERGY = Dimension(joules=1)
POWER = Dimension(joules=1, seconds=-1)
REQ_PER_S = Dimension(requests=1, seconds=-1)
_WRITTEN = {
    COUNT: ("a plain number", "T B M k"),
    BYTES: ("Bytes", "TiB GiB MiB KiB"),
    TIME: ("Time", "s ms us"),
    TOKENS: ("Tokens", ""),
    FLOPS: ("FLOP", "TFLOP GFLOP MFLOP kFLOP"),
    BYTES_PER_S: ("Bytes/s", "TB/s GB/s MB/s kB/s"),
    FLOP_PER_S: ("FLOP/s", "TFLOP/s GFLOP/s MFLOP/s kFLOP/s"),
    TOK_PER_S: ("tok/s", "tok/s"),
    DOLLARS: ("USD", "USD"),
    DOLLARS_PER_S: ("USD/h", "USD/h"),
    ENERGY: ("J", "J mJ"),
    POWER: ("W", "kW W"),
    REQ_PER_S: ("req/s", "req/s"),
}
"""Dimension -> its name in messages, and the units in which amounts are shown, the largest first."""

_DECIMAL = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_MICRO = Fraction(1, 10**6)
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}

_UNITS: dict[Dimension, dict[str, Fraction | int]] = {
    COUNT: {"": 1, "k": 10**3, "M": 10**6, "B": 10**9, "T": 10**12, **_BINARY},
    TIME: {"us": _MICRO, "µs": _MICRO, "ms": Fraction(1, 1000), "s": 1, "min": 60, "h": 3600},
    TOK_PER_S: {"tok/s": 1, "ktok/s": 1000},
    TOKENS: {"tok": 1},
    DOLLARS: {"USD": 1},
    DOLLARS_PER_S: {"USD/h": Fraction(1, 3600)},
    ENERGY: {"J": 1, "mJ": Fraction(1, 1000)},
    POWER: {"W": 1, "kW": 1000},
    REQ_PER_S: {"req/s": 1},
    BYTES: {f"{prefix}B": scale for prefix, scale in (_BINARY | _DECIMAL).items()},
    **{
        dimension: {f"{prefix}{unit}": scale for prefix, scale in _DECIMAL.items()}
        for dimension, unit in ((BYTES_PER_S, "B/s"), (FLOP_PER_S, "FLOP/s"), (FLOPS, "FLOP"))
    },
}
UNITS = {unit: (Fraction(of), dimension) for dimension, units in _UNITS.items() for unit, of in units.items()}
"""Unit -> its size in the base unit, and its dimension."""
UNIT_NAMES: dict[str, str] = {
    name: unit
    for unit, names in {
        "s": "second seconds sec secs",
        "ms": "millisecond milliseconds msec msecs",
        "us": "microsecond microseconds usec usecs",
        "min": "minute minutes mins",
        "h": "hour hours hr hrs",
        "tok": "token tokens toks",
        "tok/s": "tps",
        "GB": "gigabyte gigabytes",
        "MB": "megabyte megabytes",
        "TB": "terabyte terabytes",
        "k": "thousand",
        "M": "million millions",
        "B": "billion billions",
        "USD": "dollar dollars",
        "J": "joule joules",
        "req/s": "rps qps",
        "req": "request requests",
        "W": "watt watts",
        "%": "percent",
        "x": "times",
    }.items()
    for name in names.split()
}
"""Names of units in words -> the unit of the language."""
_LITERAL = re.compile(r"(\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*(.*)", re.DOTALL)
MAX_LITERAL_CHARS = 200
MAX_EXPONENT = 60


class Quantity(Record):
    """An exact value in the base units of its dimension. `form`: how the literal was written, `25%`, `2.17x` or plain."""

    value: Fraction
    dimension: Dimension = COUNT
    form: Form = "plain"

    def __str__(self) -> str:
        if self.form == "percent":
            return f"{_decimal(self.value * 100)}%"
        if self.form == "times":
            return f"{_decimal(self.value)}x"
        return format_quantity(self.value, self.dimension)


class BadLiteral(ValueError):
    """Raised for a literal that is not a quantity. `help`: how to correct it; `meant`: the certain correction, else empty."""

    def __init__(self, message: str, help: str = "", meant: str = "") -> None:
        super().__init__(message)
        self.help, self.meant = help, meant


@functools.lru_cache(maxsize=4096)  # a `for` reads its literals again at each step
def parse_quantity(text: str) -> Quantity:
    """Return the quantity of a literal such as `78_000`, `25%`, `2.17x`, `80GiB`, `5min` or `200 tok/s`.

    Raises BadLiteral for other text, an unknown unit, or a number that is too long or too large.
    """
    match = _LITERAL.fullmatch(text.strip())
    if match is None:
        raise BadLiteral(f"`{text}` is not a number")
    digits, unit = match.group(1).replace("_", ""), match.group(2).strip()
    exponent = re.search(r"[eE]([+-]?\d+)", digits)
    if len(digits) > MAX_LITERAL_CHARS or (exponent and abs(int(exponent.group(1))) > MAX_EXPONENT):
        raise BadLiteral(f"`{text[:40]}` is out of range", f"numbers go up to 1e{MAX_EXPONENT}")
    number = Fraction(digits)
    if unit == "%":
        return Quantity(number / 100, COUNT, "percent")
    if unit == "x":
        return Quantity(number, COUNT, "times")
    if unit in UNITS:
        scale, dimension = UNITS[unit]
        return Quantity(number * scale, dimension)
    raise BadLiteral(f"unknown unit `{unit}`", *_suggest_unit(match.group(1), unit))


def unit_in_words(text: str) -> str | None:
    """Return the unit that `seconds`, `tokens/sec` or `tokens per second` means; None for any other text."""
    parts = re.split(r"\s*/\s*|\s+per\s+", text)
    unit = "/".join(UNIT_NAMES.get(part.lower(), part) for part in parts)
    return unit if unit != text and (unit in UNITS or unit in ("%", "x")) else None


def with_unit(number: str, unit: str) -> str:
    """Return a number and its unit as they are written: `8s`, `200 tok/s`."""
    return f"{number} {unit}" if unit.endswith(("tok/s", "USD/h", "req/s")) else f"{number}{unit}"


def _suggest_unit(number: str, unit: str) -> tuple[str, str]:
    """Return the help for an unknown unit, and the literal that is certainly meant; empty if that is not certain.

    `5m` may be minutes or millions, so of single letters in the wrong case only `S` and `H` are certain.
    """
    ambiguous = {
        "b": f"billions are written `{number}B`",
        "K": f"thousands are `{number}k`, 1024s are `{number}Ki`",
        "m": f"minutes are `{number}min`, millions are `{number}M`",
    }
    if unit in ambiguous:
        return ambiguous[unit], ""
    letters, rest = re.fullmatch(r"([OolI0-9]*)(.*)", unit, re.DOTALL).groups()  # type: ignore[union-attr]
    if letters and (rest in UNITS or rest in ("%", "x")):
        meant = number + letters.translate(str.maketrans("OolI", "0011")) + rest
        return f"did you mean `{meant}`, with digits?", meant
    if (counted := re.fullmatch(r"(\w+)tok(ens?|s)?", unit)) and counted[1] in UNITS:
        return f"a count of tokens has no unit: write `{number}{counted[1]}`", ""
    over, _, time = (UNIT_NAMES.get(part, part) for part in unit.partition("/"))
    span, of = UNITS.get("min" if time == "m" else time, (Fraction(0), COUNT))
    if f"{over}/s" in UNITS and of == TIME and time != "s":
        scale, dimension = UNITS[f"{over}/s"]
        rate = Fraction(number.replace("_", "")) * scale / span
        shown = format_quantity(rate, dimension)
        exact = time != "m" and parse_quantity(shown).value == rate
        return f"rates are of a second: write `{shown}`", shown if exact else ""
    if (named := unit_in_words(unit)) is not None:
        meant = with_unit(number, named)
        return f"write `{meant}`", meant
    folded = {u.lower(): u for u in UNITS if u}
    if unit.lower() in folded:
        meant = f"{number}{folded[unit.lower()]}"
        return f"write `{meant}`", meant if len(unit) > 1 or unit in "SH" else ""
    # Another time is another rate, and a unit without its first letter is another scale.
    alike = [u for u in UNITS if u and over and u.partition("/")[2] == time and unit.find(u) <= 0]
    close = difflib.get_close_matches(unit, alike, cutoff=0.65)
    if close:
        return f"did you mean `{number}{close[0]}`?", ""
    return "units: " + " ".join(u for u in UNITS if u and "FLOP" not in u and u != "µs"), ""


def _decimal(value: Fraction, digits: int = 4) -> str:
    if value.denominator == 1 and abs(value) < 10**12:
        return str(value.numerator)
    return f"{float(value):.{digits}g}"


def format_quantity(value: Fraction | float, dimension: Dimension, digits: int = 4) -> str:
    """Format a value, given in base units, with a fitting unit: `76.2GiB`, `31ms`, `51.5B`, `1234`.

    It rounds to `digits` significant digits. The text is a literal of the language if the dimension has a unit there.
    """
    exact = Fraction(value)
    if dimension == COUNT and abs(exact) < 10**5:
        return _decimal(exact, digits)
    _, shown = _WRITTEN.get(dimension, ("", ""))
    if not shown:
        return f"{_decimal(exact, digits)} {dimension.name}"
    for unit in shown.split():
        if abs(exact) >= UNITS[unit][0]:
            break
    if dimension == TIME and exact == 0:
        unit = "s"
    return with_unit(_decimal(exact / UNITS[unit][0], digits), unit)
