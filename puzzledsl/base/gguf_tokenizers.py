"""Tokenizers that a GGUF file can hold. A GGUF file names the rule that splits text into words; llama.cpp knows the rules.

A tokenizer whose rule has no such name is refused, because text would silently be split differently than in training.
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

_LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PRE_TOKENIZERS: dict[tuple[str, ...], str] = {
    ("ByteLevel+",): "gpt-2",
    ("Digits", "ByteLevel+"): "smollm",
    (f"Split {_LLAMA3}", "ByteLevel"): "llama-bpe",
    (f"Split {_QWEN2}", "ByteLevel"): "qwen2",
    (f"Split {_TEKKEN}", "ByteLevel"): "tekken",
}
"""Pre-tokenizer steps of tokenizer.json -> llama.cpp's name. `ByteLevel+` splits words itself, `ByteLevel` does not."""


class BadTokenizer(ValueError):
    """A tokenizer that no GGUF file can hold; the message gives the reason."""


def read_tokenizer(directory: Path) -> dict[str, Any]:
    """Return the content of tokenizer.json: a byte-pair encoding with a vocabulary and merges. Raises BadTokenizer."""
    path = directory / "tokenizer.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content["model"]["vocab"].items(), content["model"]["merges"]
    except FileNotFoundError:
        raise BadTokenizer("it has no tokenizer.json") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadTokenizer("its tokenizer.json has no vocabulary with merges") from None
    assert isinstance(content, dict)
    if (model := content["model"].get("type")) != "BPE":
        raise BadTokenizer(f"its model is {model}, not BPE")
    return content


def pre_tokenizer(content: dict[str, Any]) -> str:
    """Return llama.cpp's name of the splitting rule in tokenizer.json. Raises BadTokenizer if it has none."""
    pre = content.get("pre_tokenizer") or {"type": "none"}
    steps = pre["pretokenizers"] if pre["type"] == "Sequence" else [pre]
    said = tuple(_step(step) for step in steps)
    if content.get("normalizer") not in (None, {"type": "NFC"}) or said not in PRE_TOKENIZERS:
        raise BadTokenizer(f"how it splits text ({', '.join(s[:40] for s in said)}) has no name there")
    return PRE_TOKENIZERS[said]


def objection(directory: Path) -> str:
    """Return why no GGUF file can hold a checkpoint's tokenizer; empty if one can, or if there is no tokenizer.json."""
    path = directory / "tokenizer.json"
    try:
        stat = path.stat()
    except (OSError, ValueError):  # no such file; a name that no file can have
        return ""
    return _objection(directory, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=16)
def _objection(directory: Path, changed_ns: int, size: int) -> str:
    try:
        content = read_tokenizer(directory)
        if not content["model"].get("byte_fallback"):
            pre_tokenizer(content)
    except BadTokenizer as error:
        return str(error)
    except (KeyError, TypeError, AttributeError):  # rules of another form than any tokenizer's
        return "its tokenizer.json is not as tokenizers write it"
    return ""


def _step(step: dict[str, Any]) -> str:
    match step["type"]:
        case "ByteLevel":
            return "ByteLevel+" if step.get("use_regex", True) else "ByteLevel"
        case "Digits" if step.get("individual_digits"):
            return "Digits"
        case "Split" if step.get("behavior") == "Isolated" and not step.get("invert"):
            return f"Split {step['pattern'].get('Regex')}"
        case other:
            return str(other)
