#!/usr/bin/env bash
# run.sh install BUILD PREFIX | cpp PREFIX WORK | c PREFIX WORK | python PREFIX | nccl PREFIX | run PREFIX | cli PREFIX: the installed library as a stranger uses it.
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
  nccl)
    python3 -c 'import ctypes' 2>/dev/null || { echo "skipped: no python3 with ctypes"; exit 77; }
    library=$(find "$2" -name libnccl.so.2 -print -quit)
    # Opened by its name, then in front of a program that names none.
    CUDA_VISIBLE_DEVICES='' python3 "$here/python/nccl.py" "$library"
    CUDA_VISIBLE_DEVICES='' LD_PRELOAD="$library" python3 "$here/python/nccl.py"
    ;;
  run)
    python3 -c 'import ctypes' 2>/dev/null || { echo "skipped: no python3 with ctypes"; exit 77; }
    summary=$(CUDA_VISIBLE_DEVICES='' "$2/bin/collectives" run -- python3 "$here/python/nccl.py" 2>&1)
    echo "$summary"
    # Two processes: 4004 bytes each in two calls, and a kilobyte of floats sent each way.
    [ "$(grep -cE '[0-9]: all_reduce +2 calls +4004 bytes +[0-9]+\.[0-9]{3} ms in calls$' <<<"$summary")" = 2 ] || { echo "expected each process's all-reduces"; exit 1; }
    ! grep -E ' 0\.000 ms in calls' <<<"$summary" || { echo "expected a call to take time"; exit 1; }
    [ "$(grep -cE 'exchange +1 calls +4000 bytes' <<<"$summary")" = 2 ] || { echo "expected each process's exchange"; exit 1; }
    [ "$(grep -cE 'up to 4K +1 calls, [a-z_]+, [0-9]+\.[0-9] us in a call \(most [0-9]+\.[0-9]\)$' <<<"$summary")" -ge 2 ] || { echo "expected a line for each size"; exit 1; }
    by_rank=$(CUDA_VISIBLE_DEVICES='' "$2/bin/collectives" run --ranks -- python3 "$here/python/nccl.py" 2>&1)
    for rank in 0 1; do
      [ "$(grep -cE "rank $rank of 2: all_reduce +2 calls" <<<"$by_rank")" = 1 ] || { echo "expected rank $rank by itself: $by_rank"; exit 1; }
    done
    [ -z "$("$2/bin/collectives" run --quiet -- sh -c 'exit 0' 2>&1)" ] || { echo "expected silence"; exit 1; }
    preloaded=$(LD_PRELOAD=libm.so.6 "$2/bin/collectives" run -- printenv LD_PRELOAD)
    case $preloaded in */libnccl.so.2:libm.so.6) ;; *) echo "expected ours before what was preloaded: $preloaded"; exit 1 ;; esac
    status=0
    "$2/bin/collectives" run -- sh -c 'exit 37' || status=$?
    [ $status = 37 ] || { echo "expected the command's own exit status, found $status"; exit 1; }
    status=0
    "$2/bin/collectives" run --mode warp -- true 2>/dev/null || status=$?
    [ $status = 5 ] || { echo "expected a wrong mode to be refused, found $status"; exit 1; }
    ;;
  cli)
    # By its own path to the library, from wherever it is called.
    cd / && env -u LD_LIBRARY_PATH "$2/bin/collectives" plan --machine "$here/../machines/chain_3x.json" --bytes 1M
    ;;
  *) echo "unknown case $1" >&2; exit 2 ;;
esac
