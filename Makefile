# Every target sets up what it needs in .venv: a bare machine wants only make and Python >= 3.11.
# `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check $(PIP_EXTRA)

EXAMPLE := examples/smollm2
PYTEST := $(BIN)/python -m pytest -n auto --dist loadscope --no-loadscope-reorder
PYTEST_ARGS ?=
LOWEST_TOOLS := 'pytest>=8.3' 'hypothesis>=6.112' 'pytest-timeout>=2.3' 'pytest-xdist>=3.8' 'gguf>=0.17'
LOWEST_TESTS := tests/base tests/checker/test_diagnostics.py tests/cli/test_help.py tests/cli/test_odd_paths.py tests/costs/test_roofline.py \
  tests/measure/test_whole.py tests/models/families/test_load.py tests/models/test_build.py tests/models/test_process.py tests/search/verify/test_verify.py \
  tests/server/test_completion.py tests/syntax/test_parse.py tests/uptrain/test_train.py
MUTANTS_ARGS ?=
STRENGTH := benchmarks/strength.json
STRENGTH_ARGS ?=
GPU_ARGS ?=
VSCODE := editors/vscode

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo night gpu vllm llama test test-lowest test-slow coverage mutants strength lint docs format clean distclean

help: ## what there is
	@printf 'make <target>, where <target> is\n\n'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nPYTHON=python3.12        the interpreter that makes .venv (default python3; 3.11 or newer)\n'
	@printf 'PIP_EXTRA=...            more options for pip install; pip also reads PIP_INDEX_URL and its like.\n'
	@printf "PYTEST_ARGS='-k search'  more options for pytest\n"

setup: $(VENV)/.dev $(VSCODE)/node_modules ## make .venv with the package and the tools that develop it

demo: $(VENV)/.examples ## fetch SmolLM2-135M-Instruct, search a faster child of it for llama.cpp on this machine, beside plain 4-bit files
	$(BIN)/python $(EXAMPLE)/prepare.py
	$(BIN)/pzl run $(EXAMPLE)/chat.pzl -o $(EXAMPLE)/build/chat

night: $(VENV)/.examples ## the demo with a budget for a night on two cores; stop it at any time, the same command goes on
	$(BIN)/python $(EXAMPLE)/prepare.py
	$(BIN)/pzl run $(EXAMPLE)/chat.pzl -o $(EXAMPLE)/build/night --set fitting=64Ki

gpu: $(VENV)/.dev ## on a machine with a GPU: run the whole pipeline on it, check it against the CPU, time it; build/gpu/gpu.json
	$(BIN)/python -m benchmarks.gpu $(GPU_ARGS)

vllm: $(VENV)/.made ## make .venv-vllm, where the slow tests and `pzl verify-export` find vLLM
	PYTHON=$(BIN)/python scripts/vllm_env.sh

llama: $(VENV)/.made ## build llama.cpp for this processor in .llama: its library, which pzl then times and runs, and llama-server
	PYTHON=$(BIN)/python scripts/llama_native.sh

test: $(VENV)/.dev $(VSCODE)/node_modules ## the tests that take minutes together and need no download
	$(PYTEST) -m 'not slow' $(PYTEST_ARGS)

test-lowest: $(VENV)/.made ## tests of each layer with the oldest version of every dependency that pyproject.toml allows, in .venv-lowest
	$(PYTHON) scripts/lowest.py pyproject.toml > $(VENV)/lowest.txt
	$(PYTHON) -m venv --clear $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --disable-pip-version-check $(PIP_EXTRA) -e . $(LOWEST_TOOLS) -c $(VENV)/lowest.txt
	$(VENV)-lowest/bin/python -m pytest -n auto --dist loadscope -m 'not slow' $(LOWEST_TESTS) $(PYTEST_ARGS)

test-slow: $(VENV)/.dev ## the slow ones, and all random cases of those that draw some; a few need what `make demo` downloads
	PZL_CASES=1 $(PYTEST) -m '(slow or more or drawn or hypothesis) and not alone' $(PYTEST_ARGS)
	$(PYTEST) -n 0 -m alone $(PYTEST_ARGS) || test $$? -eq 5 # none is among those that are asked for

coverage: $(VENV)/.dev ## which branches of the code that never imports torch no test takes, those of all families among them; fails below 95 %
	PZL_WHOLE=1 $(PYTEST) -m 'not slow' --cov --cov-report= $(PYTEST_ARGS)
	$(BIN)/coverage report --show-missing
	$(BIN)/python -m scripts.branches --floor 95

mutants: $(VENV)/.dev ## which changes of the code that must be right no test notices; fails below 85 %
	$(BIN)/python -m benchmarks.mutants --floor 85 $(MUTANTS_ARGS)

strength: $(VENV)/.dev ## branches of every folder, and mutants of five, against those that benchmarks/strength.json records; takes hours
	PZL_WHOLE=1 $(PYTEST) -m 'not slow' --cov --cov-report= $(PYTEST_ARGS)
	$(BIN)/python -m scripts.branches --record $(STRENGTH) $(STRENGTH_ARGS)
	for folder in search pieces scoring child alternatives; do $(BIN)/python -m benchmarks.mutants --folder $$folder --sample 200 \
	  --budget 5 --out build/mutants/$$folder.jsonl --record $(STRENGTH) $(STRENGTH_ARGS) || exit; done

lint: $(VENV)/.dev ## formatting, style, types and who may import whom
	$(BIN)/ruff format --check --output-format concise .
	$(BIN)/ruff check --output-format concise .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(VENV)/.dev ## the documentation as a site, in build/site; made anew where the code says it
	$(BIN)/python scripts/reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo 'build/site/index.html; with search: $(BIN)/python -m http.server -d build/site'

format: $(VENV)/.dev ## write the formatting that `make lint` checks
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only .

clean: ## remove caches and build products; keep .venv, downloads and what pzl built
	rm -rf dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.*
	find benchmarks examples puzzledsl tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean ## also .venv, downloads and what the example built
	rm -rf $(VENV) $(VSCODE)/node_modules $(EXAMPLE)/build $(EXAMPLE)/downloads $(EXAMPLE)/parent $(EXAMPLE)/data

# A stamp file says that a step was done; a newer pyproject.toml has it done again.

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "error: puzzledsl needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "       Name another with: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN)/python && $(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { \
	  echo "error: $(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; \
	  rm -rf $(VENV); exit 1; }
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	$(PIP_INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/.examples

# What checks the VS Code extension. Without npm, or without its registry, those tests say that they are skipped.
$(VSCODE)/node_modules: $(VSCODE)/package-lock.json
	@if command -v npm >/dev/null 2>&1 && cd $(VSCODE) && npm ci --ignore-scripts --no-audit --no-fund; \
	  then touch node_modules; else echo "note: without npm the VS Code extension is not tested" >&2; fi

$(VENV)/.examples: $(VENV)/.made pyproject.toml
	$(PIP_INSTALL) -e '.[examples]'
	@touch $@
