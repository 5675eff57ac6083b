"""Bayesian linear regression of a child's measured loss on the entries of a score table.

A score table predicts a child's loss as a sum with one entry for each sub-block that is not the parent's, or one for a run of
dropped layers. Entries are measured one at a time, so the sum misses interactions: scattered dropped attentions cost up to twice
their sum, consecutive dropped layers less than their sum. The model keeps the sum and gives every entry v a relative error:

    loss = offset + sum of v (1 + e),   e = shared + by kind of change + by kind and third of the depth + the entry's own

with independent normal errors. The measured children give the posterior in closed form (Bishop, Pattern Recognition and Machine
Learning, section 3.3). The further a loss is above the best one, the less it counts: a linear model holds only locally.

Shapes: I entries of the table, N measured children, F errors that entries share.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from puzzledsl.ir.facts import Run, counted_runs
from puzzledsl.ir.tables import Assignment, EndsAssignment, LayerAssignment, ScoreTable

Floats = NDArray[np.float64]
Child = Sequence[Assignment]
Kind = Literal["attention", "ffn", "embedding", "head", "pair", "run"]
SHARED, BY_KIND, OWN = 0.5, 0.4, 0.35
"""Standard deviations of a replacement's relative errors."""
SHARED_RUN, OWN_RUN = 0.15, 0.3
"""Standard deviations of a run's relative errors. A run is measured with all its layers dropped, so less is unknown."""
NOISE = 0.05
"""Relative standard deviation of a measurement around the linear model."""
DISTANCE_NOISE = 0.3
"""Additional noise per unit of loss above the best measurement."""
LEAST = 0.1
"""Lower bound on a refitted entry, as a fraction of its absolute value in the table, so that no replacement becomes free."""
Entry = tuple[Kind, int, str, int]
"""One entry of a score table: its kind, its (first) layer, the name of what is chosen there, and the number of layers."""
GONE = ("noop", "linear")


class Surrogate:
    """Posterior of a score table's entries, given the children measured so far.

    surrogate = Surrogate(table, tables.dropped())
    surrogate.tell(child, 0.68)
    mean, stderr = surrogate.predict(other)
    better_table = surrogate.table()
    """

    def __init__(self, table: ScoreTable, dropped: Sequence[LayerAssignment | None]) -> None:
        """Set up the prior, which is centred on the table's entries. `dropped`: as from `Tables.dropped`."""
        self._table, self._dropped = table, dropped
        entries = _entries(table)
        self._places = {entry: place for place, entry in enumerate(entries)}
        runs = ((entry, place) for entry, place in self._places.items() if entry[0] == "run")
        self._runs: dict[Run, int] = {(first, length): place for (_, first, _, length), place in runs}
        self._values_I = np.array([*entries.values()])
        typical = float(np.median(np.abs(self._values_I))) if entries else 0.0
        self._sizes_I = np.maximum(np.abs(self._values_I), typical / 100 or 1e-9)
        self._prior_II = _prior([*entries], len(table.attention or table.pairs))
        self._mean_I, self._covariance_II = np.zeros(len(entries)), self._prior_II
        self._counts: list[Floats] = []
        self._losses: list[float] = []

    def predict(self, child: Child) -> tuple[float, float]:
        """Return the expected loss of a child in the score's unit, and its standard deviation without measurement noise."""
        counts_I = self._counts_of(child)
        sizes_I = counts_I * self._sizes_I
        mean = self._table.offset + counts_I @ self._values_I + sizes_I @ self._mean_I
        return float(mean), float(np.sqrt(max(0.0, sizes_I @ self._covariance_II @ sizes_I)))

    def tell(self, child: Child, loss: float) -> None:
        """Add a child's measured loss and recompute the posterior."""
        self._counts.append(self._counts_of(child))
        self._losses.append(loss)
        counts_NI, losses_N = np.array(self._counts), np.array(self._losses)
        residuals_N = losses_N - self._table.offset - counts_NI @ self._values_I
        sizes_NI = counts_NI * self._sizes_I
        best = losses_N.min()
        noise_N = NOISE * np.abs(losses_N) + DISTANCE_NOISE * (losses_N - best) + 1e-9
        shared_NI = sizes_NI @ self._prior_II
        gain_IN = np.linalg.solve(shared_NI @ sizes_NI.T + np.diag(noise_N**2), shared_NI).T
        self._mean_I = gain_IN @ residuals_N
        self._covariance_II = self._prior_II - gain_IN @ shared_NI

    def table(self, generator: np.random.Generator | None = None, share: float = 1.0) -> ScoreTable:
        """Return the table with each entry's posterior mean; with a `generator`, a draw at `share` of the standard deviation."""
        errors_I = self._mean_I
        if generator is not None:
            nothing_I = np.zeros(len(self._places))
            drawn_I = generator.multivariate_normal(nothing_I, self._covariance_II, method="eigh")
            errors_I = errors_I + share * drawn_I
        entries_I = np.maximum(self._values_I + self._sizes_I * errors_I, LEAST * self._sizes_I)
        return _with_entries(self._table, dict(zip(self._places, entries_I.tolist(), strict=True)))

    def _counts_of(self, child: Child) -> Floats:
        """Return the indicator vector [I] (0 or 1) of the entries in a child's sum."""
        counts_I = np.zeros(len(self._places))
        dropped = [layer == gone for layer, gone in zip(child, self._dropped, strict=True)]
        in_runs: set[int] = set()
        for first, length in counted_runs(dropped, self._runs):
            counts_I[self._runs[first, length]] = 1
            in_runs |= set(range(first, first + length))
        for index, layer in enumerate(child):
            if index not in in_runs:
                for key in _keys(self._table, index, layer):
                    if key in self._places:  # the parent's own sub-block has no entry
                        counts_I[self._places[key]] = 1
        return counts_I


def _keys(table: ScoreTable, index: int, layer: Assignment) -> list[Entry]:
    if isinstance(layer, EndsAssignment):
        return [("embedding", 0, layer.embedding, 1), ("head", 0, layer.head, 1)]
    if table.unit == "block":
        return [("pair", index, f"{layer.attention}/{layer.ffn}", 1)]
    return [("attention", index, layer.attention, 1), ("ffn", index, layer.ffn, 1)]


def _parts(table: ScoreTable) -> list[tuple[Kind, str, Sequence[dict[str, float]]]]:
    """Return the parts of a table without its runs: their kind, their field, and their scores by layer."""
    return [
        ("attention", "attention", table.attention),
        ("ffn", "ffn", table.ffn),
        ("pair", "pairs", table.pairs),
        ("embedding", "embedding", (table.embedding,)),
        ("head", "head", (table.head,)),
    ]


def _entries(table: ScoreTable) -> dict[Entry, float]:
    """Return every entry of a table except the parent's, which are not refitted."""
    found: dict[Entry, float] = {}
    for kind, _, layers in _parts(table):
        for index, layer in enumerate(layers):
            names = sorted(name for name in layer if name not in ("parent", "parent/parent"))
            found |= {(kind, index, name, 1): layer[name] for name in names}
    return found | {("run", run.first, "noop/noop", run.length): run.value for run in table.runs}


def _prior(entries: Sequence[Entry], layers: int) -> Floats:
    """Return the prior covariance of the entries' relative errors, [I, I]."""
    own = np.array([OWN_RUN if kind == "run" else OWN for kind, *_ in entries])
    shared = [_shared(entry, layers) for entry in entries]
    names = dict.fromkeys(name for errors in shared for name, _ in errors)
    columns = {name: column for column, name in enumerate(names)}
    loadings_IF = np.zeros((len(entries), len(columns)))
    for place, errors in enumerate(shared):
        for name, deviation in errors:
            loadings_IF[place, columns[name]] = deviation
    prior_II: Floats = np.diag(own**2) + loadings_IF @ loadings_IF.T
    return prior_II


def _shared(entry: Entry, layers: int) -> list[tuple[tuple[object, ...], float]]:
    """Return (name, standard deviation) of the errors that an entry shares with others."""
    kind, layer, name, _ = entry
    if kind == "run":
        return [(("run",), SHARED_RUN)]
    gone = tuple(part in GONE for part in name.split("/"))
    third = 3 * layer // max(1, layers)
    return [(("replacement",), SHARED), ((kind, gone), BY_KIND), ((kind, gone, third), BY_KIND)]


def _with_entries(table: ScoreTable, entries: dict[Entry, float]) -> ScoreTable:
    changed: dict[str, object] = {}
    for kind, field, layers in _parts(table):
        each = tuple(
            {name: entries.get((kind, index, name, 1), value) for name, value in layer.items()}
            for index, layer in enumerate(layers)
        )
        changed[field] = each[0] if kind in ("embedding", "head") else each
    refitted = ((run, entries["run", run.first, "noop/noop", run.length]) for run in table.runs)
    runs = tuple(run.model_copy(update={"value": value}) for run, value in refitted)
    return table.model_copy(update={**changed, "runs": runs})
