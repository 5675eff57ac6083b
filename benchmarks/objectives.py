"""Which objective should a search minimise? `python -m benchmarks.objectives --example examples/smollm2 [--samples 512]`.

The example's finished build (parent and pieces) is read; scores, searches and children are made in `--work`, where what is
done stays done. Children of the same budgets are sought with these objectives: the sum of replace-1-block KLs; single KLs fitted
to children that were measured whole (`children`); KL scored again inside the sum's child (`around`; with --again-of-fit inside
the fit's too); and two that others use: cosine of the final hidden states, and LM loss. Each child is then judged by its KL to
the parent, on the scored text and on text that nothing else has seen. A budget is a share of the parameters of the parent's
layers; embeddings no search can change.

`+-` is the standard error of the difference from the sum's child on held-out text: a paired bootstrap over runs of 32 positions.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from puzzledsl.base.build_dir import BuildDir
from puzzledsl.base.files import write_text
from puzzledsl.base.progress import Progress, Silent
from puzzledsl.checker.check import check
from puzzledsl.child.assemble import assemble
from puzzledsl.child.definition import model_definition
from puzzledsl.costs.table import cost_table
from puzzledsl.data.blocks import token_blocks
from puzzledsl.data.budget import Budget
from puzzledsl.ir import nodes
from puzzledsl.ir.base import Artefact
from puzzledsl.ir.tables import CostTable, ModelDefinition, ScoreTable, SearchResult, Solution
from puzzledsl.models.families.load import load_parent, load_tokenizer
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.pieces.store.library import Library
from puzzledsl.pipeline.rounds.penalties import best_move
from puzzledsl.plan.bld import bld_plan
from puzzledsl.scoring.inputs import ScoreInputs
from puzzledsl.scoring.measures import Divergence
from puzzledsl.scoring.run import run_score
from puzzledsl.scoring.sweep.sweep import final_states
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.solve import solve_search
from puzzledsl.search.tables import tables_of

A = TypeVar("A", bound=Artefact)
BUDGETS = (80, 60, 40)


class Told(Silent):
    """A line now and then on stderr."""

    def __init__(self) -> None:
        self._done, self._said = 0, time.monotonic()

    def advance(self, amount: int = 1, **figures: float | str) -> None:
        """See `Progress`."""
        self._done += amount
        if time.monotonic() - self._said > 20:
            self._said = time.monotonic()
            print(f"  {self._done} replacements, layer {figures.get('layer')}", file=sys.stderr, flush=True)


@dataclass
class Bench:
    """The example, opened."""

    example: Path
    work: Path
    samples: int
    around_samples: int
    heldout: int
    search_s: int
    rounds: int
    again_of_fit: bool

    def __post_init__(self) -> None:
        checked = check(self.example / "smollm2.pzl", {})
        assert checked.program is not None, checked.diagnostics
        self.program: nodes.Program = checked.program
        self.parent = self.example / "parent"
        self.work.mkdir(parents=True, exist_ok=True)
        self.build = BuildDir(self.work)
        self.library = _borrowed(BuildDir(self.example / "build").library, self.build.library)
        self.jobs = bld_plan(self.program, "pieces")
        self.costs: CostTable = cost_table(self.program, "wide", self.example)
        self._heldout: Divergence | None = None
        self._scored: Divergence | None = None
        self.progress: Progress = Told()

    # ------------------------------------------------------------ searches

    def search(self, budget: int) -> nodes.Search:
        """Minimise `kl` within a share of the layers' parameters."""
        fixed = self.costs.params_fixed
        parent = fixed + sum(
            c["parent"] for t in (self.costs.params_attention, self.costs.params_ffn) for c in t
        )
        allowed = fixed + (parent - fixed) * budget // 100
        best = self.program.searches["best"]
        params = nodes.Linear(terms=(nodes.WeightedTerm(coefficient=Fraction(1), term=nodes.ParamsTerm()),))
        limit = nodes.LinearRequirement(
            left=params, op="<=", bound=Fraction(allowed), where=best.where, bound_where=best.where
        )
        solver = nodes.CpSat(time_s=Fraction(self.search_s))
        return best.model_copy(update={"requirements": (limit,), "solver": solver})

    def solved(self, budget: int, table: ScoreTable) -> SearchResult:
        """The best child for one table, with the proof."""
        program = self._program(budget)
        table = table.model_copy(update={"score": "kl"})
        return self._once(
            f"search-{budget}-{table.digest()[:16]}",
            SearchResult,
            lambda: solve_search(program, "best", self.costs, {"kl": table}),
        )

    def _program(self, budget: int) -> nodes.Program:
        return self.program.model_copy(update={"searches": {"best": self.search(budget)}})

    def child(self, result: SearchResult) -> ModelDefinition:
        """The model of a search's first answer."""
        return self.define(result.solutions[0])

    def define(self, answer: Solution) -> ModelDefinition:
        """The model of one answer."""
        return model_definition(self.program, "best", answer, self.jobs)

    def predicted(self, budget: int, table: ScoreTable, result: SearchResult) -> float:
        """Value of a child in a table."""
        scores = {"kl": table.model_copy(update={"score": "kl"})}
        tables = tables_of(self._program(budget), "best", self.costs, scores)
        child = Child(tables, result.solutions[0].layers, result.solutions[0].batches)
        return float(child.term(nodes.ScoreTerm(score="kl")))

    # ------------------------------------------------------------ scores

    def table(self, around: ModelDefinition | None = None, **method: Any) -> ScoreTable:
        """A replace-1-block score, measured unless it is there."""
        method = {"metric": "kl_divergence", "samples": self.samples, "data": "corpus", **method}
        metric = method["metric"]
        name = hashlib.sha256(json.dumps([method, around and around.digest()]).encode()).hexdigest()[:16]
        score = self.program.scores["kl"].model_copy(update={"method": nodes.ReplaceOne(**method)})
        program = self.program.model_copy(update={"scores": {"kl": score}})

        def measured() -> ScoreTable:
            of = "parent" if around is None and metric == "kl_divergence" else name
            work = self.build.work("score", f"{of}-{self.samples}")
            return run_score(
                ScoreInputs(
                    program,
                    "kl",
                    self.parent,
                    self.example,
                    self.library,
                    self.jobs,
                    work,
                    self.progress,
                    around,
                )
            )

        return self._once(f"scores-{name}", ScoreTable, measured)

    def again(self, budget: int, result: SearchResult) -> tuple[ScoreTable, Solution]:
        """Scores inside a search's child, and the search's answer by them: a round of `around`."""

        def judge(answers: Sequence[Solution]) -> list[float]:
            return [self.judged(self.define(answer), "scored") for answer in answers]

        table = self.table(around=self.child(result), samples=self.around_samples)
        move = best_move(
            table, result.solutions[0], lambda changed: self.solved(budget, changed).solutions[0], judge
        )
        return move.table, move.solution

    def _once(self, name: str, kind: type[A], make: Callable[[], A]) -> A:
        path = self.work / "objectives" / f"{name}.json"
        if not path.is_file():
            began = time.process_time()
            made = make()
            print(f"  {name}: {time.process_time() - began:.0f} CPU s", file=sys.stderr, flush=True)
            write_text(path, made.canonical_json())
        return kind.from_json(path.read_bytes())

    # ------------------------------------------------------------ judging

    @torch.inference_mode()
    def judged(self, definition: ModelDefinition, text: str) -> float:
        """KL of a child in memory, on the scored text or on held-out text."""
        size = self.samples if text == "scored" else self.heldout
        path = self.work / "objectives" / f"{text}-{size}-{_layers_digest(definition)}.json"
        if not path.is_file():
            runner, measure = (
                LayerRunner(assemble(load_parent(self.parent), definition, self.library.load)),
                self._measures()[text],
            )
            figures = measure.figures(final_states(runner, measure))
            write_text(path, json.dumps(figures["kl_divergence"]))
        return float(json.loads(path.read_text()))

    @torch.inference_mode()
    def heldout_kls(self, definition: ModelDefinition) -> list[float]:
        """KL of a child in memory at every held-out position."""
        path = self.work / "objectives" / f"positions-{self.heldout}-{_layers_digest(definition)}.json"
        if not path.is_file():
            runner = LayerRunner(assemble(load_parent(self.parent), definition, self.library.load))
            measure = self._measures()["heldout"]
            write_text(path, json.dumps(measure.measured(final_states(runner, measure))[1].tolist()))
        return [float(kl) for kl in json.loads(path.read_text())]

    def _measures(self) -> Mapping[str, Divergence]:
        if self._heldout is None or self._scored is None:
            runner = LayerRunner(load_parent(self.parent, dtype=torch.float32, device=torch.device("cpu")))
            budget = Budget.of(self.program.blds["pieces"])
            count = -(-self.samples // budget.context)
            scored = self._tokens("corpus", (budget.blocks + count) * budget.context)[budget.blocks :]
            heldout = self._tokens("heldout", self.heldout)
            self._scored = Divergence(runner, scored, self.samples)
            self._heldout = Divergence(runner, heldout, self.heldout)
            for measure in (self._scored, self._heldout):
                measure.set_parent(final_states(runner, measure))
        return {"scored": self._scored, "heldout": self._heldout}

    def _tokens(self, data: str, count: int) -> Tensor:
        bld = self.program.blds["pieces"]
        return token_blocks(
            self.program.data[data], self.example, load_tokenizer(self.parent),
            context=Budget.of(bld).context, tokens=count, seed=bld.seed, cache=self.build.tokens,
        )  # fmt: skip


def _borrowed(library: Path, here: Path) -> Library:
    """The pieces of another build, which is not written to."""
    here.mkdir(exist_ok=True)
    for path in library.glob("*.safetensors"):
        if not (here / path.name).exists():
            os.symlink(path.resolve(), here / path.name)
    shutil.copy(library / "index.jsonl", here)
    return Library(here)


def _layers_digest(definition: ModelDefinition) -> str:
    layers = [layer.model_dump_json() for layer in definition.layers]
    return hashlib.sha256(json.dumps(layers).encode()).hexdigest()[:24]


# ---------------------------------------------------------------- the table


CHILDREN = 24
FITTED = "fitted to children"


@dataclass(frozen=True)
class Row:
    """One child. `predicted`: what its own objective says of it, nats, where that is a KL; `of_sums`: of the sum's child."""

    budget: int
    objective: str
    predicted: float | None
    of_sums: float | None
    scored: float
    heldout: list[float]
    proven: str


def rows_of(bench: Bench, budget: int) -> list[Row]:
    """All objectives at one budget."""
    fitted = bench.table(children=CHILDREN)
    tables = {"sum of KL": bench.table(), FITTED: fitted}  # all measured by the first
    results = {name: bench.solved(budget, table) for name, table in tables.items()}
    for first in ("sum of KL", FITTED) if bench.again_of_fit else ("sum of KL",):
        last = first
        for number in range(1, bench.rounds + 1):
            name = f"{first}, scored again" + (f" ({number})" if number > 1 else "")
            tables[name], solution = bench.again(budget, results[last])
            results[name], last = bench.solved(budget, tables[name]), name
            assert results[name].solutions[0].layers == solution.layers
    for name, metric in (("cosine", "cosine"), ("LM loss", "lm_loss")):
        tables[name] = bench.table(metric=metric)
        results[name] = bench.solved(budget, tables[name])
    return [
        _row(bench, budget, name, tables[name], result, results["sum of KL"])
        for name, result in results.items()
    ]


def _row(
    bench: Bench, budget: int, name: str, table: ScoreTable, result: SearchResult, sums: SearchResult
) -> Row:
    child = bench.child(result)
    nats = table.metric == "kl_divergence"
    return Row(
        budget,
        name,
        bench.predicted(budget, table, result) if nats else None,
        bench.predicted(budget, table, sums) if nats and name == FITTED else None,
        bench.judged(child, "scored"),
        bench.heldout_kls(child),
        result.status if result.gap in (0, None) else f"gap {result.gap:.1%}",
    )


def lines(rows: list[Row]) -> list[str]:
    """For people, and for docs/science.md."""
    first = rows[0]
    found = []
    for row in rows:
        said = "" if row.predicted is None else f"{row.predicted:.3f} ({row.predicted / row.scored:.2f}x)"
        of_sums = "" if row.of_sums is None else f"{row.of_sums:.3f} ({row.of_sums / first.scored:.2f}x)"
        heldout, less = sum(row.heldout) / len(row.heldout), _difference(row.heldout, first.heldout)
        found.append(
            f"| {row.budget} % | {row.objective} | {said} | {of_sums} | {row.scored:.3f} | {row.scored / first.scored - 1:+.1%}"
            f" | {heldout:.3f} | {less} | {row.proven} |"
        )
    return found


BLOCK, RESAMPLES = 32, 2000


def _difference(one: list[float], other: list[float]) -> str:
    """The relative difference of two means, and its standard error, in per cent."""
    pairs = torch.tensor([one, other], dtype=torch.float64)
    if torch.equal(pairs[0], pairs[1]):
        return "as the sum's"
    blocks = torch.stack([part.mean(1) for part in torch.split(pairs, BLOCK, dim=1)])
    drawn = torch.randint(len(blocks), (RESAMPLES, len(blocks)), generator=torch.Generator().manual_seed(0))
    means = blocks[drawn].mean(1)
    change = means[:, 0] / means[:, 1] - 1
    total = pairs.mean(1)
    return f"{float(total[0] / total[1] - 1):+.1%} +- {float(change.std()):.1%}"


def main() -> None:
    """Print the table, a budget at a time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--example", type=Path, required=True, help="a finished copy of examples/smollm2")
    parser.add_argument("--work", type=Path, default=Path("build/objectives"))
    parser.add_argument("--samples", type=int, default=512, help="scored positions (default: %(default)s)")
    parser.add_argument(
        "--around-samples", type=int, help="scored positions inside a child (default: --samples)"
    )
    parser.add_argument("--heldout", type=int, default=4096, help="held-out tokens (default: %(default)s)")
    parser.add_argument(
        "--budgets", type=int, nargs="*", default=BUDGETS, help="percent (default: %(default)s)"
    )
    parser.add_argument("--search-s", type=int, default=60, help="seconds a search (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="times to score again (default: %(default)s)")
    parser.add_argument("--again-of-fit", action="store_true", help="score again inside the fit's child too")
    options = parser.parse_args()
    bench = Bench(
        options.example,
        options.work,
        options.samples,
        options.around_samples or options.samples,
        options.heldout,
        options.search_s,
        options.rounds,
        options.again_of_fit,
    )
    print(
        "| budget | objective | predicts | of the sum's child | KL, scored text | | KL, held-out | | search |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for budget in options.budgets:
        print("\n".join(lines(rows_of(bench, budget))), flush=True)
    fit = bench.table(children=CHILDREN).fit
    print(f"the fit: {fit}")


if __name__ == "__main__":
    main()
