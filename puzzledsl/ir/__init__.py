"""The IR: data only. `nodes.py` defines the lowered program; `tables.py` the artefacts that stages exchange."""
