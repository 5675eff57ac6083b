"""Foundations that every folder uses: diagnostics, units, files, checksums, progress."""
