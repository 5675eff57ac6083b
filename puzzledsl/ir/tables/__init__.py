"""Artefacts that stages hand to each other: one artefact type an arrow of the pipeline.

    Program -> CostTable            puzzledsl.costs (roofline) or puzzledsl.measure (this machine)
    Program -> list[BldJob]         puzzledsl.plan
    BldJob  -> Piece                puzzledsl.pieces.train, kept by puzzledsl.pieces.store
    pieces  -> ScoreTable           puzzledsl.scoring
    tables  -> SearchResult         puzzledsl.search
    tables  -> WhyResult            puzzledsl.search
    result  -> Refinement           puzzledsl.refining
    Solution -> ModelDefinition     puzzledsl.plan
    child   -> Evaluation           puzzledsl.evaluate
    child   -> EngineCheck          puzzledsl.export

Per-layer tables are tuples with one dictionary a layer, keyed by canonical alternative name.
"""

from __future__ import annotations

from puzzledsl.ir.tables.answers import (
    Change,
    ConflictItem,
    FrontierPoint,
    FrontierResult,
    LayerAssignment,
    Relaxation,
    SearchResult,
    Solution,
)
from puzzledsl.ir.tables.children import LayerDefinition, ModelDefinition
from puzzledsl.ir.tables.costs import CellTiming, Cost, CostTable, ScenarioCosts
from puzzledsl.ir.tables.engines import EngineCheck, EngineName, EngineResult, EngineSpeed
from puzzledsl.ir.tables.evaluations import (
    Answer,
    AnsweredPrompt,
    Evaluation,
    Figure,
    Interval,
    Kept,
    ModelComparison,
    ModelFigures,
    Paired,
    Repetition,
    TextGap,
)
from puzzledsl.ir.tables.failures import Failure, Problem
from puzzledsl.ir.tables.pieces import BldJob, Piece
from puzzledsl.ir.tables.refinements import MeasuredChild, RefinedFrontier, RefinedPoint, Refinement
from puzzledsl.ir.tables.scores import RunScore, ScoreFit, ScoreTable
from puzzledsl.ir.tables.texts import TextCounts, WrittenText
from puzzledsl.ir.tables.why import Margin, Move, Regret, SubBlockRegrets, WhyResult

__all__ = [
    "Cost",
    "ScenarioCosts",
    "CellTiming",
    "CostTable",
    "BldJob",
    "Piece",
    "RunScore",
    "ScoreFit",
    "ScoreTable",
    "LayerAssignment",
    "Solution",
    "ConflictItem",
    "Change",
    "Relaxation",
    "SearchResult",
    "FrontierPoint",
    "FrontierResult",
    "MeasuredChild",
    "Refinement",
    "RefinedPoint",
    "RefinedFrontier",
    "Regret",
    "SubBlockRegrets",
    "Move",
    "Margin",
    "WhyResult",
    "LayerDefinition",
    "ModelDefinition",
    "Figure",
    "ModelFigures",
    "Interval",
    "Paired",
    "Kept",
    "TextGap",
    "Answer",
    "AnsweredPrompt",
    "Repetition",
    "ModelComparison",
    "Evaluation",
    "WrittenText",
    "TextCounts",
    "Problem",
    "Failure",
    "EngineResult",
    "EngineSpeed",
    "EngineCheck",
    "EngineName",
]
