#!/usr/bin/env bash
# run.sh install BUILD PREFIX | cpp PREFIX WORK | c PREFIX WORK | python PREFIX | cli PREFIX: the installed library as a stranger uses it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# The folder under a prefix where the library lies: lib, lib64 or lib/<triplet>.
library_folder() {
  local found
  found=$(find "$1" -name libcollectives.so -print -quit)
  [ -n "$found" ] || { echo "no libcollectives.so under $1" >&2; return 1; }
  dirname "$found"
}

case $1 in
  install)
    rm -rf "$3"
    cmake --install "$2" --prefix "$3"
    ;;
  cpp)
    rm -rf "$3"
    cmake -S "$here/cpp" -B "$3" -G Ninja "-DCMAKE_PREFIX_PATH=$2" "-DCMAKE_CXX_COMPILER=${CXX:-g++}"
    cmake --build "$3"
    "$3/consumer"
    ;;
  c)
    folder=$(library_folder "$2")
    mkdir -p "$3"
    "${CC:-cc}" -std=c99 -pedantic -Wall -Wextra -Werror "-I$2/include" "$here/c/main.c" -o "$3/consumer_c" "-L$folder" -lcollectives
    LD_LIBRARY_PATH="$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" "$3/consumer_c"
    ;;
  python)
    python3 -c 'import ctypes' 2>/dev/null || { echo "skipped: no python3 with ctypes"; exit 77; }
    python3 "$here/python/all_reduce.py" "$(library_folder "$2")/libcollectives.so"
    ;;
  cli)
    # By its own path to the library, from wherever it is called.
    cd / && env -u LD_LIBRARY_PATH "$2/bin/collectives" plan --machine "$here/../machines/chain_3x.json" --bytes 1M
    ;;
  *) echo "unknown case $1" >&2; exit 2 ;;
esac
