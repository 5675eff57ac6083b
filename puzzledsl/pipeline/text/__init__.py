"""Results of stages as text and as model cards."""
