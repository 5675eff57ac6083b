"""The IR: data only. `nodes.py` defines the lowered program; `tables/` the artefacts that stages exchange."""
