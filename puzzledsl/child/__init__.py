"""Child models: assembled from pieces, healed, written as checkpoints."""
