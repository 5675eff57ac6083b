"""Alternatives as modules: a file for each word that makes weights. `realisation` finds the files, also those of packages."""
