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

Per-layer tables are tuples with one dictionary a layer, keyed by canonical alternative name.
"""

from puzzledsl.ir.tables.answers import *  # noqa: F403
from puzzledsl.ir.tables.evaluations import *  # noqa: F403
from puzzledsl.ir.tables.summed import *  # noqa: F403
