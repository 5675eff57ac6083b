"""puzzledsl: search inference-optimised LLMs, declared in one file."""

__version__ = "0.1.0"
