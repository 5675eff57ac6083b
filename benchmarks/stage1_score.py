"""Speed of replace-1 scoring: `python -m benchmarks.stage1_score [--example examples/smollm2] [--every 12] [--whole]`.

Of every `--every`th replacement of a random small Llama and, with `--example`, of SmolLM2: the CPU time of scoring as `pzl score`
does it, against whole forward passes of the changed model with the parent's log-probabilities made once; the share of the
machine's measured rate of fp32 products that its arithmetic reaches; the largest difference of the two KLs; and what it holds
of logits. `--whole` scores everything and prints the seconds by the clock. Exits with 1 where a claim does not hold.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from benchmarks.matmul import matmul_flop_per_s
from puzzledsl.checker.check import check
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import BldJob
from puzzledsl.models.alternatives.realisation import build_alternative
from puzzledsl.models.families.access import layers
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.machine import Workers
from puzzledsl.pieces.store.library import Library
from puzzledsl.plan.bld import bld_plan
from puzzledsl.plan.memory.stage_plan import CPU
from puzzledsl.scoring.measures import Divergence
from puzzledsl.scoring.replacements import Name, Replacement, replacements
from puzzledsl.scoring.sweep import Sweep

FASTER, LIMIT_SHARE, DIFFERENCE = 2.0, 0.8, 1e-5
WHOLE_S = 240
SMALL = """
parent p = hf("parent")
space w of p {
  attention = parent | gqa(kv_heads: 2 | 1) | linear | noop
  ffn = parent | mlp(width: 75% | 50% | 25% | 10%) | linear | noop
}
data d = text("text.txt")
bld b of w { train = attention + ffn, tokens = 1k, data = d }
score s of b = replace_one(kl_divergence)
search best of w { minimize s }
"""


@dataclass
class Subject:
    """A parent, its pieces, and what is scored on."""

    name: str
    model: PreTrainedModel
    library: Library
    todo: list[Replacement]
    tokens_NS: Tensor

    def __post_init__(self) -> None:
        self.runner = LayerRunner(self.model)

    def sweep(self, todo: list[Replacement]) -> list[float]:
        """As `pzl score` does it: the KL of each."""
        measure = Divergence(self.runner, self.tokens_NS, self.tokens_NS.numel())
        found: dict[Name, float] = {}
        with Workers(self.runner.device) as workers:
            sweep = Sweep(self.runner, measure, self.model, self.library)
            sweep.open((), workers)
            with self.runner.packed():
                for unit, measured in sweep.measuring(sweep.units(todo, ()), workers):
                    for replacement, each in zip(unit, measured, strict=True):
                        found[replacement.entry] = each["kl_divergence"]
        return [found[replacement.entry] for replacement in todo]

    def whole(self, todo: list[Replacement]) -> list[float]:
        """By whole forward passes."""
        groups = torch.split(self.tokens_NS, max(1, 2048 // self.tokens_NS.shape[1]))
        teacher = [self._log_probs(group) for group in groups]
        found = []
        own = layers(self.model)
        for replacement in todo:
            before = own[replacement.layer]
            own[replacement.layer] = replacement.layer_of(self.model, self.library)
            kl = sum(
                float(F.kl_div(self._log_probs(group), p, log_target=True, reduction="sum"))
                for group, p in zip(groups, teacher, strict=True)
            )
            own[replacement.layer] = before
            found.append(kl / self.tokens_NS.numel())
        return found

    def _log_probs(self, tokens_BS: Tensor) -> Tensor:
        logits: Tensor = self.model(tokens_BS, use_cache=False).logits
        return logits.log_softmax(-1)

    def flops(self, replacement: Replacement) -> float:
        """Least work of one replacement: its layer and those above it, and the head; products only."""
        config = self.model.config
        attended = (
            config.num_attention_heads * config.head_dim * self.tokens_NS.shape[1] * 2
        )  # causal: half of 4
        each = [
            2 * sum(p.numel() for p in layer.parameters() if p.ndim == 2) + attended
            for layer in layers(self.model)
        ]
        own = each[replacement.layer]
        for part in replacement.parts:
            sub_block, alternative = part.sub_block, part.alternative
            module = build_alternative(self.model, replacement.layer, alternative)
            parent = getattr(
                layers(self.model)[replacement.layer], "self_attn" if sub_block == "attention" else "mlp"
            )
            own += 2 * (_weights(module) - _weights(parent))
            own -= attended if alternative.kind in ("noop", "linear") and sub_block == "attention" else 0
        head = 2 * self.runner.head_weights()[0].numel()
        return float(self.tokens_NS.numel() * (own + sum(each[replacement.layer + 1 :]) + head))

    def matmul_rate(self) -> float:
        """FLOP a CPU second."""
        return matmul_flop_per_s(self.model.config.hidden_size, self.model.config.intermediate_size)


def _weights(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.ndim == 2)


def _cpu_s(work: Callable[[], object]) -> tuple[float, object]:
    began = time.process_time()
    result = work()
    return time.process_time() - began, result


# ---------------------------------------------------------------- what is measured


def small(folder: Path, tokens: int) -> Subject:
    """Eight layers of a random Llama; pieces with random weights."""
    config = LlamaConfig(
        num_hidden_layers=8, hidden_size=256, intermediate_size=688, num_attention_heads=8, num_key_value_heads=4,
        head_dim=32, vocab_size=4096, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder / "parent")
    (folder / "small.pzl").write_text(SMALL)
    program = _program(folder / "small.pzl")
    model, jobs = _parent(folder / "parent"), bld_plan(program, "b")
    library = Library(folder / "library")
    for job in jobs:
        library.enter(library.write(job, random_piece(model, job), 0.0, 0.0, 0))
    todo = replacements(program.scores["s"], program.spaces["w"], "subblock", jobs)
    return Subject("small Llama", model, library, todo, torch.randint(0, 4096, (tokens // 256, 256)))


def random_piece(model: PreTrainedModel, job: BldJob) -> dict[str, Tensor]:
    alternative = job.attention or job.ffn
    assert alternative is not None
    module = build_alternative(model, job.layer, alternative)
    return {name: torch.randn_like(p) * 0.02 for name, p in module.state_dict().items()}


def smollm2(example: Path, tokens: int) -> Subject:
    """The example's parent and pieces, on random tokens: which ones they are changes no time."""
    program = _program(example / "smollm2.pzl")
    torch.manual_seed(0)
    model, library = _parent(example / "parent"), Library(example / "build" / "library")
    todo = replacements(program.scores["kl"], program.spaces["wide"], "subblock", bld_plan(program, "pieces"))
    return Subject("SmolLM2", model, library, todo, torch.randint(0, 49152, (tokens // 256, 256)))


def _program(path: Path) -> nodes.Program:
    checked = check(path, {})
    assert checked.program is not None, checked.diagnostics
    return checked.program


def _parent(directory: Path) -> PreTrainedModel:
    return load_parent(directory, dtype=torch.float32, device=torch.device("cpu"))


@torch.inference_mode()
def compared(subject: Subject, every: int) -> bool:
    """Print the ratios of one subject; whether all claims hold."""
    sample = subject.todo[every // 2 :: every]
    rates = [subject.matmul_rate()]
    alone, _ = _cpu_s(lambda: subject.sweep([]))  # the parent's own pass, shared by all replacements
    both, scores = _cpu_s(lambda: subject.sweep(sample))
    rates.append(subject.matmul_rate())
    teacher, _ = _cpu_s(lambda: subject.whole([]))
    naive, expected = _cpu_s(lambda: subject.whole(sample))
    rates.append(subject.matmul_rate())
    share = len(sample) / len(subject.todo)
    ours, whole = both - alone + alone * share, naive - teacher + teacher * share
    limit = sum(map(subject.flops, sample)) / statistics.median(rates)
    difference = max(abs(a - b) for a, b in zip(scores, expected, strict=True))  # type: ignore[call-overload]
    tile = CPU.logit_positions * min(CPU.logit_tokens, len(subject.runner.head_weights()[0])) * 4
    held = 2 * tile * torch.get_num_threads()
    all_logits = subject.tokens_NS.numel() * len(subject.runner.head_weights()[0]) * 4
    tokens, rate = subject.tokens_NS.numel(), statistics.median(rates) / 1e9
    print(f"{subject.name}: {len(sample)} of {len(subject.todo)} replacements, {tokens} tokens")
    told = f"{ours / len(sample):.3f} CPU s a replacement, by whole forwards {whole / len(sample):.3f}"
    print(f"  {whole / ours:7.2f}x as fast (>= {FASTER}): {told}")
    reached = limit / (both - alone)
    print(f"  {reached:7.2f}  of the matmul limit (>= {LIMIT_SHARE}): {rate:.0f} GFLOP a CPU s")
    print(f"  {difference:7.1e}  is the largest difference in KL (<= {DIFFERENCE})")
    print(
        f"  {held / 2**20:7.0f}  MiB of logits held (two tiles a thread), of {all_logits / 2**20:.0f} MiB",
        flush=True,
    )
    return whole / ours >= FASTER and reached >= LIMIT_SHARE and difference <= DIFFERENCE


@torch.inference_mode()
def everything(subject: Subject) -> bool:
    """Print the clock's seconds of a whole score."""
    began = time.perf_counter()
    subject.sweep(subject.todo)
    seconds = time.perf_counter() - began
    print(
        f"{subject.name}: all {len(subject.todo)} replacements in {seconds:.0f} s  (<= {WHOLE_S})", flush=True
    )
    return seconds <= WHOLE_S


def main() -> int:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--example", type=Path, help="a finished copy of examples/smollm2")
    parser.add_argument("--tokens", type=int, default=1024, help="scored tokens (default: %(default)s)")
    parser.add_argument(
        "--every", type=int, default=12, help="which of SmolLM2's replacements (default: %(default)s)"
    )
    parser.add_argument("--whole", action="store_true", help="score all of SmolLM2's replacements too")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        good = compared(small(Path(folder), 2 * options.tokens), 2)
    if options.example and not (options.example / "build" / "library").is_dir():
        print(f"{options.example} has no pieces yet (`pzl bld`): SmolLM2 is left out")
    elif options.example:
        subject = smollm2(options.example, options.tokens)
        good &= compared(subject, options.every)
        good &= not options.whole or everything(subject)
    return int(not good)


if __name__ == "__main__":
    raise SystemExit(main())
