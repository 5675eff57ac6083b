"""Exact search for the best child: a multiple-choice knapsack with logical side constraints, in integers, with a proof.

    tables -> Problem -> presolve -> bound -> engines in turn -> verify -> SearchResult

Each part imports only parts above it (an import contract holds this):

    verify          independent verification of an answer; imports nothing of the search
    tables          inputs of a search, checked (with errors, needs, score_table, effort)
    problem         columns, rows, formulas and their decision diagram
    lagrangian      Lagrangian bound and reduced costs
    cpsat           CP-SAT on a problem
    label_setting   label setting with dominance and suffix lookup
    local_search    repair and exchange moves
    portfolio       the exact engines in turn, on one problem
    batches         branch and bound over boxes of batches
    answer          verified solutions, and the figures of any child
    baselines, infeasible              heuristics, conflicts
    solve           `pzl solve`, and the model as a CP-SAT file
    frontier        the search along one bound
    sensitivity     regrets and margins (`pzl why`)
    variations      one search with other requirements, again and again (`pzl explore`)
"""
