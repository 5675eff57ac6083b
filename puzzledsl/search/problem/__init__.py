"""The integer problem of a search: columns, rows, formulas, and the reductions that keep it exact."""
