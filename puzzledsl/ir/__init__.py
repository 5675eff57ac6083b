"""The tree given meaning: names, types, parent facts, lowering. `nodes.py` is what a program means;
`tables.py` is what the stages after it exchange."""
