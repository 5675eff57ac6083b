"""puzzledsl: search inference-optimised LLMs, declared in one file."""
