"""Artefacts of a build directory to one self-contained HTML page. Reads files only; loads no torch."""
