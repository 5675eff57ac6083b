"""The language server: one module a feature, each a function from a document and a place to what an editor shows.

`app.py` is the shell that speaks the protocol. Positions are the diagnostics' own (lines and
columns from 1, code points) up to `document.Lines`, which counts as the editor does.
"""
