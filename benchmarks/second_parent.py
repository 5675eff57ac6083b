"""Make a second parent on the spot: `python -m benchmarks.second_parent --to build/second --minutes 120`.

A small Qwen3 (norms on queries and keys, grouped queries, tied embeddings; 16 layers and 7 million parameters by default) is
trained on the texts of examples/smollm2/data, with a byte-level BPE tokenizer trained on the same. Beside it goes a program with
the recipe of the SmolLM2 example, on a machine whose costs are computed: a model this small would be timed by its overheads.

    parent/      the model and its tokenizer, in the Hugging Face layout
    data/        corpus.txt and varied.txt (not trained on), heldout.txt
    second.pzl   for `pzl run`
    work/        tokens and the last checkpoint; training goes on from there, with a larger budget too

What the child is scored, healed and distilled on is text that the parent was not trained on, as with any real parent. `--minutes`
are CPU minutes, over all threads and runs. The learning rate follows them, so weights differ from machine to machine.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from puzzledsl.base.files import replacing, write_text
from puzzledsl.models.placement import faster_in_bfloat16

END = "<|endoftext|>"
SPARED = 10
"""One of so many documents of varied.txt is not trained on."""
WARMUP, LAST_RATE = 0.02, 0.1
"""Share of the budget in which the rate rises, and what is left of it at the end."""
EVERY_S = 120
"""CPU seconds between two checkpoints."""
VALIDATION_BLOCKS = 8
PROGRAM = """\
# A small Qwen3 trained on the spot, with the recipe of examples/smollm2. Made by benchmarks/second_parent.py.
param speedup: Ratio = 1.2x
parent second = hf("parent")

space wide of second {
  attention = parent | gqa(kv_heads: 1) | linear | noop
  ffn = parent | mlp(width: 75% | 50% | 25%) | linear | noop
}

hardware laptop { memory = 8GiB, bandwidth = 20GB/s, peak { fp32 = 100GFLOP/s }, overhead = 5us }
scenario chat   on laptop = batch(1, 64 -> 128)
scenario digest on laptop = batch(1, 512 -> 8)

data corpus  = text("data/corpus.txt")
data heldout = text("data/heldout.txt")
data varied  = text("data/varied.txt")
data mixed   = mix(corpus: 1, varied: 1)

bld pieces of wide {
  train = attention + ffn
  tokens = 4Ki, context = 256, batch = 4, calibration = 8Ki
  lr = cosine(1e-3, warmup: 10%), data = corpus
  heal = 8Ki, heal_data = mixed
}
score kl of pieces = replace_one(kl_divergence, samples: 256, runs: 2..8, healed: 2Ki, data: corpus)

search best of wide {
  minimize kl
  require chat.throughput >= speedup
  require digest.latency  <= 1x
  refine = measured(24)
}

uptrain final of best {
  loss = 1 * kld + 1 * cosine
  tokens = 12Ki, context = 256, data = mixed
}
"""


@dataclass(frozen=True)
class Sizes:
    """Shape of the model and of a training step."""

    layers: int = 16
    hidden: int = 192
    heads: int = 6
    kv_heads: int = 2
    head_dim: int = 32
    intermediate: int = 512
    vocab: int = 4096
    context: int = 256
    batch: int = 16
    rate: float = 2e-3


# ---------------------------------------------------------------- texts


def documents(path: Path) -> list[str]:
    """A text's documents: a blank line between them."""
    return path.read_text("utf-8").strip().split("\n\n")


def write_texts(source: Path, folder: Path) -> list[str]:
    """Write the texts of the program, and return the documents to train on."""
    varied = documents(source / "varied.txt")
    texts = {
        "corpus": documents(source / "calibration.txt"),
        "varied": varied[::SPARED],
        "heldout": documents(source / "heldout.txt"),
    }
    for name, kept in texts.items():
        write_text(folder / f"{name}.txt", "\n\n".join(kept) + "\n")
    return documents(source / "train.txt") + [text for i, text in enumerate(varied) if i % SPARED]


def trained_tokenizer(texts: list[str], vocab: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE of so many tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    kept: Any = PreTrainedTokenizerFast
    made: PreTrainedTokenizerFast = kept(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END
    )
    return made


def encoded(tokenizer: Any, texts: list[str]) -> Tensor:
    """All tokens in a row, each document with its end."""
    return torch.tensor(
        [i for text in texts for i in (*tokenizer(text)["input_ids"], tokenizer.eos_token_id)]
    )


def blocks(tokens: Tensor, context: int) -> Tensor:
    """As many blocks as there are, [N, context]."""
    count = len(tokens) // context
    return tokens[: count * context].view(count, context)


# ---------------------------------------------------------------- training


def model_of(sizes: Sizes) -> Qwen3ForCausalLM:
    """An untrained model, always the same one."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=sizes.vocab,
        hidden_size=sizes.hidden,
        intermediate_size=sizes.intermediate,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.kv_heads,
        head_dim=sizes.head_dim,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    return Qwen3ForCausalLM(config)


class Training:
    """A model, its optimizer and how far they are. `used_s`: CPU seconds so far."""

    def __init__(self, sizes: Sizes, folder: Path) -> None:
        """Go on from the checkpoint in `folder`, if there is one of these sizes."""
        self.sizes, self._path = sizes, folder / "checkpoint.pt"
        self.model = model_of(sizes)
        groups = (
            [p for p in self.model.parameters() if p.ndim >= 2],
            [p for p in self.model.parameters() if p.ndim < 2],
        )
        self._optimizer = torch.optim.AdamW(
            [{"params": groups[0], "weight_decay": 0.1}, {"params": groups[1], "weight_decay": 0.0}],
            lr=sizes.rate,
            betas=(0.9, 0.95),
            fused=True,
        )
        self._bf16 = faster_in_bfloat16(torch.device("cpu"))
        self.used_s, self.step = 0.0, 0
        if self._path.is_file():
            self._restore()

    def _restore(self) -> None:
        state = torch.load(self._path, weights_only=True)
        if state["sizes"] != asdict(self.sizes):
            sys.exit(f"error: {self._path} is of another model: delete it, or use its sizes")
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.used_s, self.step = state["used_s"], state["step"]

    def save(self) -> None:
        """Write the checkpoint in one step."""
        state = {
            "sizes": asdict(self.sizes),
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "used_s": self.used_s,
            "step": self.step,
        }
        with replacing(self._path) as temporary:
            torch.save(state, temporary)

    def trained(self, tokens_NS: Tensor, budget_s: float) -> Iterator[float]:
        """Losses of batches, until the budget is used. Order of blocks: shuffled anew each epoch."""
        self.model.train()
        while self.used_s < budget_s:
            began = time.process_time()
            rate = self.sizes.rate * scheduled(self.used_s / budget_s)
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            batch_BS = tokens_NS[batch_places(self.step, len(tokens_NS), self.sizes.batch)]
            with torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
                loss = self.model(input_ids=batch_BS, labels=batch_BS, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self._optimizer.step()
            self._optimizer.zero_grad()
            self.step += 1
            self.used_s += time.process_time() - began
            yield float(loss.detach())

    @torch.no_grad()
    def loss(self, tokens_NS: Tensor) -> float:
        """Mean loss of some blocks."""
        self.model.train(False)
        losses = [self.model(input_ids=ids[None], labels=ids[None]).loss for ids in tokens_NS]
        self.model.train()
        return float(torch.stack(losses).mean())


def scheduled(done: float) -> float:
    """Share of the highest rate when a share of the budget is used: linear warm-up, then a cosine down to LAST_RATE."""
    if done < WARMUP:
        return max(done / WARMUP, 0.01)
    falling = 0.5 * (1 + math.cos(math.pi * (done - WARMUP) / (1 - WARMUP)))
    return LAST_RATE + (1 - LAST_RATE) * falling


def batch_places(step: int, count: int, batch: int) -> Tensor:
    """Blocks of one step: each epoch has its own order, which depends on nothing else."""
    per_epoch = max(1, count // batch)
    epoch, place = divmod(step, per_epoch)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(epoch))
    return order[place * batch : (place + 1) * batch]


# ---------------------------------------------------------------- all of it


def make(source: Path, folder: Path, sizes: Sizes, minutes: float) -> None:
    """Write the program and its texts, and train the parent until so many CPU minutes are used."""
    work = folder / "work"
    texts = write_texts(source, folder / "data")
    write_text(folder / "second.pzl", PROGRAM)
    tokenizer, tokens_NS, validation_NS = read_tokens(
        texts, documents(folder / "data" / "corpus.txt"), sizes, work
    )
    training = Training(sizes, work)
    count = sum(p.numel() for p in training.model.parameters())
    print(f"{count:,} parameters, {tokens_NS.numel():,} tokens to train on", flush=True)
    losses: list[float] = []
    saved_s = shown_s = training.used_s
    for loss in training.trained(tokens_NS, 60 * minutes):
        losses.append(loss)
        if training.used_s - shown_s >= EVERY_S / 4:
            print(shown(training, losses), flush=True)
            losses, shown_s = [], training.used_s
        if training.used_s - saved_s >= EVERY_S:
            training.save()
            saved_s = training.used_s
    training.save()
    print(f"{shown(training, losses)}, on other text {training.loss(validation_NS):.3f}", flush=True)
    write_parent(training.model, tokenizer, folder)


def shown(training: Training, losses: list[float]) -> str:
    """A line of progress."""
    tokens = training.step * training.sizes.batch * training.sizes.context
    mean = f", loss {sum(losses) / len(losses):.3f}" if losses else ""
    rate = tokens / max(training.used_s, 1e-9)
    return f"{training.used_s / 60:.1f} CPU minutes, {tokens:,} tokens ({rate:,.0f} a CPU second){mean}"


def read_tokens(
    texts: list[str], other: list[str], sizes: Sizes, work: Path
) -> tuple[PreTrainedTokenizerFast, Tensor, Tensor]:
    """The tokenizer, blocks to train on, and a few of another text; kept in `work`."""
    kept = work / f"tokens-{sizes.vocab}-{sizes.context}.pt"
    if kept.is_file():
        state = torch.load(kept, weights_only=True)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(work / "tokenizer")
        return tokenizer, state["train"], state["other"]
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    tokenizer = trained_tokenizer(texts, sizes.vocab)
    tokenizer.save_pretrained(work / "tokenizer")
    train, some = (blocks(encoded(tokenizer, part), sizes.context) for part in (texts, other))
    some = some[:VALIDATION_BLOCKS].clone()
    with replacing(kept) as temporary:
        torch.save({"train": train, "other": some}, temporary)
    return tokenizer, train, some


def write_parent(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Replace `parent/` by what was trained."""
    partial = folder / ".parent.tmp"
    shutil.rmtree(partial, ignore_errors=True)
    model.train(False)
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    shutil.rmtree(folder / "parent", ignore_errors=True)
    partial.rename(folder / "parent")


def main() -> None:
    """Train within the budget, and say where things are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("--to", type=Path, default=Path("build/second"), help="(default: %(default)s)")
    add("--data", type=Path, default=Path("examples/smollm2/data"), help="texts (default: %(default)s)")
    add("--minutes", type=float, default=120, help="CPU minutes of training, in all (default: %(default)s)")
    add("--threads", type=int, help="of torch (default: its own choice)")
    add("--sizes", type=json.loads, default={}, help=f"JSON (default: {json.dumps(asdict(Sizes()))})")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    make(options.data, options.to, Sizes(**options.sizes), options.minutes)
    print(f"pzl run {options.to / 'second.pzl'} --until score")


if __name__ == "__main__":
    main()
