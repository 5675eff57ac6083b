"""Times of exported models in the engines that serve them: for cost tables, and for evaluations."""
