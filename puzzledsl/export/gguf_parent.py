"""A parent from a GGUF file: dequantised into a checkpoint directory in Transformers' layout.

Transformers reads the configuration and the tokenizer from the file; the weights are found by the names and orders that exports
write them in. Figures flatter a parent whose weights are rounded: rounding them to the same type again costs nothing.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from puzzledsl.base.files import appearing
from puzzledsl.base.gguf_tokenizers import PRE_TOKENIZERS
from puzzledsl.child.checkpoint.contents import write_shards
from puzzledsl.export.gguf_file import FUSED, INSIDE, OUTSIDE, Place
from puzzledsl.export.gguf_tokenizer import read_without_arrays
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.families.load import load_config
from puzzledsl.models.families.tensors import LazyTensor

PAIRED = {"llama": True, "qwen2": False, "qwen3": False}
"""Architectures that are read, and True of those whose queries and keys llama.cpp's converter orders by rotary pairs."""
FREQUENCIES = "rope_freqs.weight"
"""Tensor of factors of rotary frequencies. The file does not say by which rule they were made."""


class NotAParent(ValueError):
    """A file that no parent can be made of; the message is the reason."""


def storage_type(file: Path) -> str:
    """Return the type that most numbers in a GGUF file have, such as `q4_1`. Raises NotAParent."""
    sizes: dict[str, int] = {}
    for tensor in _opened(file).tensors:
        kind = tensor.tensor_type.name.lower()
        sizes[kind] = sizes.get(kind, 0) + int(tensor.n_elements)
    return max(sizes, key=sizes.__getitem__, default="f32")


def _opened(file: Path) -> Any:
    try:
        return read_without_arrays(file)
    except ImportError as error:
        raise NotAParent('reading it needs gguf: `pip install "puzzledsl[runtimes]"`') from error
    except (OSError, ValueError, IndexError, OverflowError) as error:
        raise NotAParent("it is no GGUF file") from error


def write_parent(file: Path, directory: Path) -> None:
    """Write the parent in a GGUF file to a directory. Raises NotAParent."""
    from transformers import AutoConfig, AutoTokenizer

    held = _opened(file)
    arch = held.fields["general.architecture"].contents()
    if arch not in PAIRED:
        known = ", ".join(PAIRED)
        raise NotAParent(f"files of `{arch}` are not read, of {known} alone; take the original checkpoint")
    if any(tensor.name == FREQUENCIES for tensor in held.tensors):
        raise NotAParent("it scales rotary frequencies by factors of its own; take the original checkpoint")
    given: dict[str, Any] = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    try:
        config, tokenizer = AutoConfig.from_pretrained(**given), AutoTokenizer.from_pretrained(**given)
    except Exception as error:  # whatever it and tokenizers raise for a file that they do not understand
        raise NotAParent(f"Transformers cannot read it: {error}".splitlines()[0]) from error
    with appearing(directory) as folder:
        config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        _mend(folder, held.fields.get(f"{arch}.attention.key_length"), _splits(held.fields))
        write_shards(_weights(folder, held, paired=PAIRED[arch]), folder)


def _weights(folder: Path, held: Any, *, paired: bool) -> dict[str, LazyTensor]:
    """Return the weights of a configuration's model, float32 when they are read. Raises NotAParent."""
    import torch
    from transformers import AutoModelForCausalLM

    build: Any = AutoModelForCausalLM.from_config
    with torch.device("meta"):
        model = build(load_config(folder))
    tensors = {tensor.name: tensor for tensor in held.tensors}
    head_dim, found = shape_of(model.config).head_dim, dict[str, LazyTensor]()
    for name, weight in model.named_parameters():
        place = _place(name, head_dim if paired else 0)
        tensor, size = tensors.get(place.tensor), tuple(weight.shape)
        if tensor is None or tuple(map(int, reversed(tensor.shape))) != size:
            raise NotAParent(f"it has no tensor `{place.tensor}` of the size {' x '.join(map(str, size))}")
        found[name] = place.weight(tensor, size)
    return found


def _place(name: str, head_dim: int) -> Place:
    """Return the tensor of a parameter of Transformers' model. Raises NotAParent."""
    if name in OUTSIDE:
        return Place(OUTSIDE[name])
    index, _, own = name.removeprefix("model.layers.").partition(".")
    module, _, kind = own.rpartition(".")
    if module not in INSIDE:
        raise NotAParent(f"the place of `{name}` in the file is not known")
    return Place(f"blk.{index}.{INSIDE[module]}.{kind}", head_dim=head_dim if module in FUSED[:2] else 0)


def _splits(fields: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return the steps that split text before merges, which Transformers does not read; None for SentencePiece, without any.

    Raises NotAParent.
    """
    if fields["tokenizer.ggml.model"].contents() != "gpt2":
        return None
    name = fields["tokenizer.ggml.pre"].contents() if "tokenizer.ggml.pre" in fields else "gpt-2"
    for steps, known in PRE_TOKENIZERS.items():
        if known == name:
            return [_step(step) for step in steps]
    raise NotAParent(f"its tokenizer splits text by rules that are called `{name}`, which are not known here")


def _step(step: str) -> dict[str, Any]:
    """Return a step of `PRE_TOKENIZERS` as tokenizer.json has it."""
    kind, _, pattern = step.partition(" ")
    if kind == "Split":
        return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    if kind == "Digits":
        return {"type": "Digits", "individual_digits": True}
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": kind == "ByteLevel+",
    }


def _mend(folder: Path, head_dim: Any, splits: list[dict[str, Any]] | None) -> None:
    """Restore in config.json float32 numbers as short decimals, and `head_dim` if given; in tokenizer.json how text is split."""
    path = folder / "config.json"
    content = json.loads(path.read_text("utf-8"), parse_float=lambda digits: float(f"{float(digits):.7g}"))
    content.pop("_model_name_or_path", None)
    if head_dim is not None:
        content["head_dim"] = head_dim.contents()
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    if splits is not None:
        path = folder / "tokenizer.json"
        content = json.loads(path.read_text("utf-8"))
        whole = {"type": "Sequence", "pretokenizers": splits}
        content["pre_tokenizer"] = splits[0] if len(splits) == 1 else whole
        path.write_text(json.dumps(content, ensure_ascii=False), "utf-8")
