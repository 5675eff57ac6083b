"""Model families: one table per family with the places of its weights, and functions to load and address modules."""
