"""Parents with random weights, made-up text, and a program with every stage, for `benchmarks.gpu`."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from puzzledsl.models.families.load import load_config
from tests.tiny import VOCAB, tiny_tokenizer

PROGRAM = """\
parent p = hf("{parent}")
space wide of p {{
  attention = parent | gqa(kv_heads: 1) | linear | noop
  ffn = parent | mlp(width: 50%) | linear | noop
}}
hardware here = measured(device: DEVICE, dtype: DTYPE)
scenario chat on here = batch({batch}, {prompt} -> {prompt})
data corpus = text("{text}")
bld pieces of wide {{
  tokens = {tokens}, context = {context}, batch = {blocks}, calibration = {calibration}
  lr = cosine(1e-3, warmup: 10%), data = corpus, heal = {calibration}
}}
score kl of pieces = replace_one(kl_divergence, samples: {samples})
score cured of pieces = replace_one(kl_divergence, samples: {context}, healed: {healed})
search best of wide {{ minimize kl, require params <= 0.8x }}
search fixed of wide {{
  minimize kl
  require layers[0].attention is gqa(kv_heads: 1)
  require layers[0].ffn is mlp(width: 50%)
  require layers[1].attention is linear
  require layers[1].ffn is noop
}}
uptrain final of fixed {{
  loss = 1 * kld + 1 * cosine
  tokens = {uptrained}, context = {context}, batch = {blocks}, lr = cosine(1e-4), data = corpus
}}
eval quality of final {{ data = corpus, tokens = {samples} }}
export ship of final = hf("{out}")
"""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of a parent and of a program."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    intermediate: int
    vocab: int
    context: int
    blocks: int
    tokens: int
    calibration: int
    samples: int
    uptrained: int
    batch: int
    prompt: int


@dataclass(frozen=True, slots=True)
class Size:
    """Sizes of the program that is compared with a CPU, and of the one that is timed."""

    name: str
    small: Sizes
    large: Sizes


TOY = Sizes(2, 24, 4, 2, 40, VOCAB, 16, 2, 128, 128, 64, 64, 1, 4)
SMALL = Sizes(6, 256, 8, 4, 704, 4096, 256, 8, 64 << 10, 16 << 10, 4096, 32 << 10, 4, 128)
LARGE = Sizes(16, 2048, 32, 8, 8192, 32768, 2048, 16, 2 << 20, 64 << 10, 16 << 10, 1 << 20, 8, 2048)
"""1.2 billion weights."""
SIZES = (Size("toy", TOY, TOY), Size("full", SMALL, LARGE))


def write_program(directory: Path, sizes: Sizes, parent: Path | None, text: str | None) -> Path:
    """Write a program for one of two devices, with what it needs; return the template of its file."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    if parent is None:
        write_parent(directory / "parent", sizes)
    else:
        load_config(parent)  # a checkpoint that cannot be read is reported before hours of work
        (directory / "parent").symlink_to(parent.resolve())
    if text is None:
        write_text(directory / "corpus.txt", sizes)
    file = directory / "program.pzl"
    given = {name: getattr(sizes, name) for name in Sizes.__slots__}
    healed = max(2 * sizes.context, sizes.calibration // 4)
    file.write_text(
        PROGRAM.format(parent="parent", text=text or "corpus.txt", out="out", healed=healed, **given)
    )
    return file


def write_parent(directory: Path, sizes: Sizes) -> None:
    """A Llama with random weights, wide enough that its attention attends, and a tokenizer of bytes."""
    config = LlamaConfig(
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.kv_heads,
        intermediate_size=sizes.intermediate,
        vocab_size=sizes.vocab,
        max_position_embeddings=2 * sizes.context,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM._from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(0, 1.5 / weight.shape[1] ** 0.5)
    model.to(torch.bfloat16).save_pretrained(directory)
    tiny_tokenizer().save_pretrained(directory)


def write_text(file: Path, sizes: Sizes) -> None:
    """Text of as many bytes as the program needs tokens, and a quarter more."""
    chance = random.Random(0)
    words = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(2, 8))) for _ in range(400)]
    needed = (sizes.tokens + sizes.calibration + sizes.uptrained + 4 * sizes.samples) * 5 // 4
    paragraphs: list[str] = []
    while needed > 0:
        paragraphs.append(" ".join(chance.choices(words, k=400)) + ".")
        needed -= len(paragraphs[-1])
    file.write_text("\n\n".join(paragraphs))
