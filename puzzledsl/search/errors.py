"""Diagnostics of searches and their tables (E0501 to E0513)."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class NoSolution(Diagnostic):
    """Requirements that no child meets together.

    No child meets all requirements together. The places named are a smallest set that conflicts: with any
    one of them dropped the rest can be met, and each says how far it could go with the others kept.

    Wrong:
        search s of w {
          maximize params
          require params <= 40% * p.params
          require sum(ffn.width) >= 4 * p.intermediate
        }
    Right:
        search s of w {
          maximize params
          require params <= 90% * p.params
          require sum(ffn.width) >= 2 * p.intermediate
        }
    """

    code = "E0501"
    template = "search `{name}` has no solution"


class ScoresNotThere(Diagnostic):
    """A search whose score table is not made yet.

    A search needs the score of every alternative. `pzl run` runs all missing stages in order.

    Wrong:
        $ pzl solve wide.pzl best
    Right:
        $ pzl score wide.pzl kl
        $ pzl solve wide.pzl best
    """

    code = "E0502"
    template = "scores `{name}` are not there yet"
    help_template = "run `pzl score {file} {name}`"


class CostsNotThere(Diagnostic):
    """A search with a scenario whose costs are missing.

    Costs on `measured(…)` hardware come from `pzl measure`, run on that hardware.

    Wrong:
        $ pzl solve wide.pzl best
    Right:
        $ pzl measure wide.pzl
        $ pzl solve wide.pzl best
    """

    code = "E0503"
    template = "costs of scenario `{name}` are not there yet"
    help_template = "run `pzl measure {file}`"


class AlternativeNotScored(Diagnostic):
    """A score table without an alternative of the space.

    The space has an alternative that the score table does not have: most likely the space was changed after
    scoring.

    Wrong:
        $ pzl score wide.pzl kl
        $ edit wide.pzl               # adds `linear` to the space
        $ pzl solve wide.pzl best
    Right:
        $ edit wide.pzl
        $ pzl run wide.pzl --until solve
    """

    code = "E0504"
    template = "scores `{name}` have no entry for `{alternative}` in layer {layer}"
    help_template = "run `pzl score {file} {name}` again, or take the alternative out of the space"


class AlternativeNotCosted(Diagnostic):
    """A cost table without an alternative of the space.

    The space has an alternative that the cost table does not have: most likely the space was changed after
    measuring.

    Wrong:
        $ pzl measure wide.pzl
        $ edit wide.pzl               # adds `linear` to the space
        $ pzl solve wide.pzl best
    Right:
        $ edit wide.pzl
        $ pzl run wide.pzl --until solve
    """

    code = "E0505"
    template = "the costs of scenario `{name}` leave out `{alternative}` in layer {layer}"
    help_template = "make the costs again, or take the alternative out of the space"


class NoInfluence(Diagnostic):
    """A score table without the block influence that a solver needs.

    `block_influence` and `angular_run` drop layers by how little they change the parent's stream, which `pzl score`
    measures along with the scores. Tables made by earlier versions have only the scores.

    Wrong:
        $ pzl solve wide.pzl shortgpt     # solver = block_influence
    Right:
        $ pzl score wide.pzl kl
        $ pzl solve wide.pzl shortgpt
    """

    code = "E0510"
    template = "scores `{name}` do not contain the influence of each layer, by which `{solver}` drops layers"
    help_template = "run `pzl score {file} {name}` again"


class ScoreTableUnreadable(Diagnostic):
    """A score file that is missing or is not a table.

    A table of scores is a CSV file with a header line.

    Wrong:
        score other of w = table("kl.xlsx")
    Right:
        score other of w = table("kl.csv")
    """

    code = "E0511"
    template = "cannot read the score table `{path}`: {reason}"
    help_template = "{help}"


class ScoreTableCell(Diagnostic):
    """An invalid row of a score table.

    A row names a layer, an alternative by the name that `pzl show` prints, and a number.

    Wrong:
        layer,attention,ffn,kl
        0,gqa(4),,0.02
    Right:
        layer,attention,ffn,kl
        0,gqa4,,0.02
    """

    code = "E0512"
    template = "`{path}` {line}: {problem}"
    help_template = "{help}"


class ScoreTableGap(Diagnostic):
    """A score file without a row for an alternative of the space.

    Every alternative of every layer needs a row; the parent's own are 0 and may be left out.

    Wrong:
        layer,attention,ffn,kl
        0,gqa2,,0.02
    Right:
        layer,attention,ffn,kl
        0,gqa2,,0.02
        0,gqa1,,0.05
    """

    code = "E0513"
    template = "`{path}` has no score for {missing}"
    help_template = "add a row for each alternative of each layer; `parent` may be left out, it is 0"


class MetricUnknown(Diagnostic):
    """A search that mentions a metric which its scenario's cost table does not have.

    A cost table from elsewhere may have only sizes, or only times. Other metrics cannot be used in the search.

    Wrong:
        $ head -1 costs.csv
        layer,attention,ffn,chat.memory[bytes]
        $ grep require wide.pzl
        require chat.latency <= 2s
    Right:
        $ head -1 costs.csv
        layer,attention,ffn,chat.memory[bytes],chat.latency[us]
    """

    code = "E0508"
    template = "the costs of scenario `{scenario}` do not give its {metric}"
    help_template = (
        "add a column `{scenario}.{column}` to the table, or take `{scenario}.{metric}` out of the search"
    )


class NoAnswerInTime(Diagnostic):
    """A search that found no solution in its time, and no proof that there is none.

    More time, or fewer and looser requirements, may help. The notes say what was proven so far.

    Wrong:
        search s of w { minimize kl, solver = cpsat(time: 1ms) }
    Right:
        search s of w { minimize kl, solver = cpsat(time: 1min) }
    """

    code = "E0507"
    template = "search `{name}`: no solution found by {how}"


class Unbounded(Diagnostic):
    """A score or cost that is not a finite number.

    A search computes exactly, so scores and costs must not be NaN or infinite.

    Wrong:
        layer,attention,ffn,kl
        0,noop,,inf
    Right:
        layer,attention,ffn,kl
        0,noop,,3.87
    """

    code = "E0506"
    template = "{what} of search `{name}` is not a finite number"
    help_template = "make the table again: a score or cost in it is not finite"
