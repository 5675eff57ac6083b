#!/usr/bin/env bash
# The wheel alone, installed without torch and run elsewhere, compiles an example: the packaged grammar and spaces
# are found, and nothing between a program's text and its IR needs the torch half.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
python=$root/.venv/bin/python
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"$python" -m build --wheel --no-isolation --outdir "$scratch/dist" . >"$scratch/build.log" 2>&1 || {
  cat "$scratch/build.log"
  exit 1
}

light=$("$python" - <<'PY'
import re, tomllib

HEAVY = {"torch", "transformers", "safetensors"}
with open("pyproject.toml", "rb") as file:
    wanted = tomllib.load(file)["project"]["dependencies"]
print("\n".join(line for line in wanted if re.match(r"[\w-]+", line)[0] not in HEAVY))
PY
)
"$python" -m venv "$scratch/venv"
mapfile -t requirements <<<"$light"
"$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check "${requirements[@]}"
"$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "$scratch"/dist/*.whl

mkdir "$scratch/elsewhere"
cp examples/nemotron51b.pzl "$scratch/elsewhere/"
cd "$scratch/elsewhere"
"$scratch/venv/bin/python" - "$root" <<'PY'
import importlib.util, pathlib, sys

import puzzledsl

where = pathlib.Path(puzzledsl.__file__).resolve()
assert not where.is_relative_to(sys.argv[1]), f"{where} is the checkout, not the wheel"
assert importlib.util.find_spec("torch") is None, "torch is installed: the check would prove nothing"
PY
"$scratch/venv/bin/pzl" compile nemotron51b.pzl
"$scratch/venv/bin/pzl" explain E0301 | grep --quiet "Right:"
echo "the wheel compiles nemotron51b.pzl without torch"
