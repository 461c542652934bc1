#!/usr/bin/env bash
# nccl_exports.sh LIBRARY LIST: the library is called libnccl.so.2 and exports the functions of the list, weak and by their profiling
# names (but for the one that NCCL has under one name alone), and nothing else.
set -euo pipefail
library=$1
list=$2

expected=$(awk '$1 == "ncclResetDebugInitInternal" { print "T " $1; next } { print "W " $1; print "T p" $1 }' "$list" | LC_ALL=C sort)
found=$(nm -D --defined-only "$library" | awk '{ print $2 " " $3 }' | LC_ALL=C sort)
failures=0
diff <(printf '%s\n' "$expected") <(printf '%s\n' "$found") || { echo "the exports are not NCCL's"; failures=1; }
readelf -d "$library" | grep -q 'SONAME.*\[libnccl\.so\.2\]' || { echo "the library is not called libnccl.so.2"; failures=1; }
[ $failures = 0 ] && echo "$(wc -l <<<"$found") exported symbols, all NCCL's"
exit $failures
