"""The model card of a child: what it is, what each layer became, how to load it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from puzzledsl.child.block_configs import Layer
from puzzledsl.ir.nodes import Shape


def model_card(name: str, parent: str, shape: Shape, layers: Sequence[Layer], params: int) -> str:
    """Markdown with a YAML head. `params` counts tied embeddings once."""
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "tags: [puzzle, neural-architecture-search, distillation]",
        "---",
        "",
        f"# {name}",
        "",
        f"A child of `{parent}` found by a Puzzle search (arXiv 2411.19146) with puzzledsl: {params:,} parameters,",
        f"{len(layers)} layers, hidden size {shape.hidden}. Layers that differ from the parent's are listed below.",
        "",
        "| layers | attention | FFN |",
        "|---|---|---|",
    ]
    for (attention, ffn), group in groupby(enumerate(layers), key=lambda item: item[1]):
        indices = [index for index, _ in group]
        span = str(indices[0]) if len(indices) == 1 else f"{indices[0]}-{indices[-1]}"
        lines.append(f"| {span} | {attention.name} | {ffn.name} |")
    lines += [
        "",
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'model = AutoModelForCausalLM.from_pretrained("path/to/this", trust_remote_code=True)',
        'tokenizer = AutoTokenizer.from_pretrained("path/to/this", trust_remote_code=True)',
        "```",
        "",
    ]
    return "\n".join(lines)
