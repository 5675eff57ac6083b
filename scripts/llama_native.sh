#!/usr/bin/env bash
# llama.cpp built for this machine's processor: the library and llama-server, from the sources in llama-cpp-python's sdist.
#   scripts/llama_native.sh [DIRECTORY]      default: .llama beside this checkout's .venv
# Does nothing where it is already built. Afterwards `measured(engine: llama_cpp)`, `pzl verify-export` and `make test-slow`
# take the library from .llama, or the one that PZL_LLAMA_LIBRARY names, in place of the wheel's. A C++ compiler is needed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=0.3.36
folder=${1:-.llama}
python=${PYTHON:-python3}

if [[ -f $folder/.built-$version ]]; then
  echo "llama.cpp of llama-cpp-python $version is in $folder"
  exit 0
fi
rm -rf "$folder"
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
work=$(mktemp -d -t pzl-llama-XXXXXX) # outside of this checkout, whose commit llama.cpp would take for its own
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/tools"
"$work/tools/bin/python" -m pip install --disable-pip-version-check --quiet --no-input cmake ninja scikit-build-core
"$work/tools/bin/python" -m pip download --disable-pip-version-check --quiet --no-input --no-deps --no-build-isolation \
  --no-binary llama-cpp-python --dest "$work" "llama-cpp-python==$version"
tar -xzf "$work/llama_cpp_python-$version.tar.gz" -C "$work"

PATH=$work/tools/bin:$PATH
source=$work/llama_cpp_python-$version/vendor/llama.cpp
cmake -S "$source" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON -DGGML_NATIVE=ON \
  -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON -DCMAKE_INSTALL_RPATH='$ORIGIN;$ORIGIN/../lib' \
  -DLLAMA_BUILD_COMMIT="llama-cpp-python-$version" -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
  -DLLAMA_BUILD_APP=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF
nice cmake --build "$work/build" --target llama llama-server
mkdir -p "$folder"/{bin,include,lib}
cp -a "$work"/build/bin/lib*.* "$folder/lib/"
cp -a "$work/build/bin/llama-server" "$folder/bin/"
cp "$source"/include/llama.h "$source"/ggml/include/*.h "$folder/include/"
touch "$folder/.built-$version"
echo "llama.cpp of llama-cpp-python $version is in $folder"
