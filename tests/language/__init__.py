"""Every rule of docs/language.md, held to be true. `test_reference.py` demands that none is left out."""
