"""Imports every module that a stage needs, once, before processes are forked: only servers of processes import it."""

import gc
import importlib
import sys
from pkgutil import walk_packages

import puzzledsl

PATHS = sys.path[1:]
STAGES = "api child data evaluate export measure models pieces pipeline refining report scoring search uptrain".split()
LEFT_OUT = ("puzzledsl.child.checkpoint.remote", "puzzledsl.export.engines")
"""Files that travel with a checkpoint; what is imported in an engine's own process."""

for module in walk_packages(puzzledsl.__path__, "puzzledsl."):
    if module.name.split(".")[1] in STAGES and not module.name.startswith(LEFT_OUT):
        importlib.import_module(module.name)
for name in ("tests.tiny", "transformers.models.llama.modeling_llama", "puzzledsl.cli.app"):
    importlib.import_module(name)
gc.collect()
gc.freeze()  # pages of what is imported stay shared
