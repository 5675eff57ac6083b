"""JSON schemas of every file of a build directory and of every `--json` output, for `pzl schema` and docs/artefacts.md."""
