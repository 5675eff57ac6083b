"""Losses of whole children, here or on workers."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from puzzledsl.ir.tables import ModelDefinition
from puzzledsl.scoring.inputs import ScoreInputs
from puzzledsl.scoring.subject import Subject
from puzzledsl.scoring.sweep.sweep import final_states
from puzzledsl.scoring.workers.whole import sent


class Judge:
    """The parent and a score's measure, by which children are compared with it one after the other."""

    @torch.inference_mode()
    def __init__(self, inputs: ScoreInputs, *, unseen: bool) -> None:
        """Load and run the parent. Raises DiagnosticError: those of `Subject`."""
        self._subject = Subject(inputs, unseen=unseen)
        self._subject.measure.set_parent(final_states(self._subject.runner, self._subject.measure))

    @torch.inference_mode()
    def loss(self, child: ModelDefinition) -> float:
        """Return a child's loss by the score's metric."""
        subject = self._subject
        subject.incumbent.become(child)
        figures = subject.measure.figures(final_states(subject.runner, subject.measure))
        return figures[subject.inputs.method.metric]


@dataclass(frozen=True)
class JudgeMaker:
    """Maker of a worker's `Judge`."""

    inputs: ScoreInputs
    unseen: bool

    @classmethod
    def of(cls, inputs: ScoreInputs, *, unseen: bool) -> JudgeMaker:
        """Return the maker, for this process or for others."""
        return cls(inputs if inputs.executor.is_local else sent(inputs), unseen)

    def __call__(self, member: int) -> Judge:
        """Return a new judge."""
        return Judge(self.inputs, unseen=self.unseen)
