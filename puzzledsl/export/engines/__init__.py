"""Programs that run an exported model in one engine each, and how they are asked.

`worker.py` and the engines beside it import nothing of ours, so that they also run in vLLM's own environment; an engine that
crashes takes the worker's process with it, not ours.
"""
