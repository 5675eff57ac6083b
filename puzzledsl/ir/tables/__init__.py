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

from puzzledsl.ir.tables.answers import Change as Change
from puzzledsl.ir.tables.answers import ConflictItem as ConflictItem
from puzzledsl.ir.tables.answers import FrontierPoint as FrontierPoint
from puzzledsl.ir.tables.answers import FrontierResult as FrontierResult
from puzzledsl.ir.tables.answers import LayerAssignment as LayerAssignment
from puzzledsl.ir.tables.answers import Relaxation as Relaxation
from puzzledsl.ir.tables.answers import SearchResult as SearchResult
from puzzledsl.ir.tables.answers import Solution as Solution
from puzzledsl.ir.tables.children import LayerDefinition as LayerDefinition
from puzzledsl.ir.tables.children import ModelDefinition as ModelDefinition
from puzzledsl.ir.tables.costs import CellTiming as CellTiming
from puzzledsl.ir.tables.costs import Cost as Cost
from puzzledsl.ir.tables.costs import CostTable as CostTable
from puzzledsl.ir.tables.costs import ScenarioCosts as ScenarioCosts
from puzzledsl.ir.tables.engines import EngineCheck as EngineCheck
from puzzledsl.ir.tables.engines import EngineName as EngineName
from puzzledsl.ir.tables.engines import EngineResult as EngineResult
from puzzledsl.ir.tables.engines import EngineSpeed as EngineSpeed
from puzzledsl.ir.tables.evaluations import Answer as Answer
from puzzledsl.ir.tables.evaluations import AnsweredPrompt as AnsweredPrompt
from puzzledsl.ir.tables.evaluations import Evaluation as Evaluation
from puzzledsl.ir.tables.evaluations import Figure as Figure
from puzzledsl.ir.tables.evaluations import Interval as Interval
from puzzledsl.ir.tables.evaluations import Kept as Kept
from puzzledsl.ir.tables.evaluations import ModelComparison as ModelComparison
from puzzledsl.ir.tables.evaluations import ModelFigures as ModelFigures
from puzzledsl.ir.tables.evaluations import Paired as Paired
from puzzledsl.ir.tables.evaluations import Repetition as Repetition
from puzzledsl.ir.tables.evaluations import TextGap as TextGap
from puzzledsl.ir.tables.failures import Failure as Failure
from puzzledsl.ir.tables.failures import Problem as Problem
from puzzledsl.ir.tables.pieces import BldJob as BldJob
from puzzledsl.ir.tables.pieces import Piece as Piece
from puzzledsl.ir.tables.refinements import MeasuredChild as MeasuredChild
from puzzledsl.ir.tables.refinements import RefinedFrontier as RefinedFrontier
from puzzledsl.ir.tables.refinements import RefinedPoint as RefinedPoint
from puzzledsl.ir.tables.refinements import Refinement as Refinement
from puzzledsl.ir.tables.scores import RunScore as RunScore
from puzzledsl.ir.tables.scores import ScoreFit as ScoreFit
from puzzledsl.ir.tables.scores import ScoreTable as ScoreTable
from puzzledsl.ir.tables.texts import TextCounts as TextCounts
from puzzledsl.ir.tables.texts import WrittenText as WrittenText
from puzzledsl.ir.tables.why import Margin as Margin
from puzzledsl.ir.tables.why import Move as Move
from puzzledsl.ir.tables.why import Regret as Regret
from puzzledsl.ir.tables.why import SubBlockRegrets as SubBlockRegrets
from puzzledsl.ir.tables.why import WhyResult as WhyResult
