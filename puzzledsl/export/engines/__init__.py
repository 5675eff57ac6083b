"""Programs that run an exported model, one per engine, and the call that runs them.

`worker.py` and the engines beside it import nothing of ours, so that they also run in vLLM's own environment; an engine that
crashes takes the worker's process with it, not ours.
"""
