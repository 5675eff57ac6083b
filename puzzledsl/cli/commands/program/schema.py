"""`pzl schema`: print the JSON schema of the IR."""

from __future__ import annotations


def schema() -> None:
    """Print the JSON schema of the IR (build/ir.json)."""
    from puzzledsl.cli.output import print_json
    from puzzledsl.ir.nodes import program_schema

    print_json(program_schema())
