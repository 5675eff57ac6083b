"""Exact search for the best child: a multiple-choice knapsack with logical side constraints, in integers, with a proof."""
