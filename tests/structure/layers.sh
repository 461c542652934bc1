#!/usr/bin/env bash
# layers.sh TREE: checks the sources of a tree against layers.awk.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$1"
mapfile -t files < <(find include topology src kernels perf examples -type f \( -name '*.h' -o -name '*.hpp' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \) | sort)
[ ${#files[@]} -ge 20 ] || { echo "found only ${#files[@]} sources under $1"; exit 1; }
awk -f "$here/layers.awk" "${files[@]}" && echo "${#files[@]} sources keep to the layers"
