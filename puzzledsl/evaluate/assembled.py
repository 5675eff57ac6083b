"""A model's figures from its units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from puzzledsl.evaluate.choices import Answers, accuracy_figures, together
from puzzledsl.evaluate.compare import PERPLEXITY
from puzzledsl.evaluate.divergence import cross_entropies, divergence_figures
from puzzledsl.evaluate.plan import Plan
from puzzledsl.evaluate.speed import speed_figures
from puzzledsl.evaluate.units import PARENT, Found, Unit
from puzzledsl.ir.tables import Answer, AnsweredPrompt, Figure, ModelFigures


@dataclass(frozen=True, slots=True)
class Measured:
    """A model's figures, and what children are compared by: values of every item and block.

    `chances`: of accuracies, what guessing gives, one value an item. `answers`: to the prompts; none where it was not asked.
    """

    figures: ModelFigures
    samples: Mapping[str, tuple[float, ...]]
    chances: Mapping[str, tuple[float, ...]]
    answers: tuple[Answer, ...] = ()


def assembled(plan: Plan, name: str, found: Mapping[Unit, Found]) -> Measured:
    """Put the units of one model together, in the order of the plan."""
    texts = {unit.of: new for unit, new in found.items() if unit.kind == "text"}
    texts_figures = {text: divergence_figures(new.blocks) for text, new in texts.items()}
    first, (directory,) = plan.texts[0].name, {unit.directory for unit in found}
    answered = together(Answers(new.right, new.chances) for new in found.values())
    figures = {
        "params": Figure(value=texts[first].params),
        "checkpoint_bytes": Figure(value=texts[first].stored_bytes or _stored_bytes(directory), unit="bytes"),
        **texts_figures[first],
        **accuracy_figures(answered.right),
    }
    speeds = {unit.of: new.speed for unit, new in found.items() if new.speed is not None}
    for timed in plan.timed:
        if timed.scenario in speeds:
            figures |= speed_figures(timed.scenario, speeds[timed.scenario], timed.workload)
    return Measured(
        figures=ModelFigures(model=name, figures=figures, texts=texts_figures),
        samples={PERPLEXITY: cross_entropies(texts[first].blocks), **answered.right},
        chances=answered.chances,
        answers=next((new.answers for new in found.values() if new.answers), ()),
    )


def side_by_side(plan: Plan, models: Sequence[Measured]) -> tuple[AnsweredPrompt, ...]:
    """Return each prompt with the answers of the models that were asked; nothing if the parent was not."""
    asked = {model.figures.model: model.answers for model in models if model.answers}
    if PARENT not in asked:
        return ()
    return tuple(
        AnsweredPrompt(
            prompt=prompt.text,
            source=prompt.source,
            continuation=prompt.continuation,
            answers={name: answers[number] for name, answers in asked.items()},
        )
        for number, prompt in enumerate(plan.prompts)
    )


def _stored_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("*.safetensors"))
