"""Loss of a child far from the start of a text: `python -m benchmarks.long_context PARENT CHILD … --text heldout.txt`.

A window costs nothing before its end, so that a mean over short texts flatters it. One table, of blocks of `--context` tokens of
a text that nothing was fitted to:

- KL to the parent (nats) by place in the block, with its standard error over blocks.
- Recall: a block's first half, twice. The share of the second copy's tokens that come out as the likeliest: each can be read
  off the first copy, half a block behind.

`CHILD` may be `NAME=DIRECTORY`, or `every:WINDOW:SINKS` for the parent with that window in every layer, not healed.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.child.load import load_checkpoint
from puzzledsl.models.families.access import attention, layers
from puzzledsl.models.families.load import load_parent, load_tokenizer
from puzzledsl.models.families.window import LimitWindow

EDGES = (0, 64, 128, 256, 512, 1024, 2048, 4096)


@torch.inference_mode()
def log_probabilities(model: PreTrainedModel, ids_S: Tensor) -> Tensor:
    """Log-probabilities of the next token at every place, [S, V] float32."""
    return model(input_ids=ids_S[None], use_cache=False).logits[0].float().log_softmax(-1)


def divergences(parent: Sequence[Tensor], model: PreTrainedModel, blocks_NS: Tensor) -> Tensor:
    """KL at every place, [N, S]; `parent` holds its log-probabilities, [S, V] a block."""
    found = []
    for before, ids in zip(parent, blocks_NS, strict=True):
        after = log_probabilities(model, ids)
        found.append((before.exp() * (before - after)).sum(-1))
    return torch.stack(found)


def recall(model: PreTrainedModel, blocks_NS: Tensor) -> Tensor:
    """The share of a second copy's tokens that are the likeliest, [N]. The copy is the first half of the block."""
    half = blocks_NS.shape[1] // 2
    shares = []
    for ids in blocks_NS:
        twice = torch.cat((ids[:half], ids[:half]))
        guesses = log_probabilities(model, twice).argmax(-1)
        shares.append((guesses[half:-1] == twice[half + 1 :]).float().mean())
    return torch.stack(shares)


def with_windows(parent: PreTrainedModel, window: int, sinks: int) -> PreTrainedModel:
    """The parent itself, with a window in every layer from now on."""
    for layer in layers(parent):
        attention(layer).register_forward_pre_hook(LimitWindow(window, sinks), with_kwargs=True)
    return parent


def load(child: str, parent_dir: Path) -> tuple[str, PreTrainedModel]:
    """Name and model of an argument."""
    if child.startswith("every:"):
        window, sinks = map(int, child.split(":")[1:])
        parent = load_parent(parent_dir, dtype=torch.float32)
        return f"window {window} ({sinks} first) in every layer", with_windows(parent, window, sinks)
    name, _, directory = child.rpartition("=")
    return name or Path(directory).name, load_checkpoint(Path(directory), dtype=torch.float32)


def shown(values_N: Tensor) -> str:
    """Mean and standard error."""
    return f"{float(values_N.mean()):.3f} ± {float(values_N.std()) / len(values_N) ** 0.5:.3f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("parent", type=Path, help="the parent's directory")
    add("children", nargs="*", help="directories, NAME=DIRECTORY, or every:WINDOW:SINKS")
    add("--text", type=Path, required=True, help="a text file that nothing was fitted to")
    add("--context", type=int, default=1024, help="tokens of a block (default: %(default)s)")
    add("--blocks", type=int, default=8, help="(default: %(default)s)")
    options = parser.parse_args()
    tokenizer = load_tokenizer(options.parent)
    ids = tokenizer(options.text.read_text("utf-8"), verbose=False)["input_ids"]
    count = options.blocks * options.context
    if len(ids) < count:
        parser.error(f"{options.text} has {len(ids):,} tokens of {count:,}")
    blocks_NS = torch.tensor(ids[:count]).view(options.blocks, options.context)
    parent = load_parent(options.parent, dtype=torch.float32)
    before = [log_probabilities(parent, ids_S) for ids_S in blocks_NS]
    edges = [edge for edge in EDGES if edge < options.context] + [options.context]
    spans = list(itertools.pairwise(edges))
    print("| child | " + " | ".join(f"KL, {a}-{b}" for a, b in spans) + " | all | recall |")
    print("|---" * (len(spans) + 3) + "|")
    print("| the parent |" + " |" * (len(spans) + 1) + f" {shown(recall(parent, blocks_NS))} |")
    for child in options.children:
        name, model = load(child, options.parent)
        kl_NS = divergences(before, model, blocks_NS)
        cells = [shown(kl_NS[:, a:b].mean(1)) for a, b in spans] + [shown(kl_NS.mean(1))]
        print(f"| {name} | {' | '.join(cells)} | {shown(recall(model, blocks_NS))} |", flush=True)


if __name__ == "__main__":
    main()
