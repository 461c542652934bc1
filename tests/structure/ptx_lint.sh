#!/usr/bin/env bash
# ptx_lint.sh OBJECT...: checks what nvcc_kept.sh left beside the kernels' objects, PTX and ptxas' report, against ptx_rules.awk.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# -gt 0 ] || { echo "no object to check"; exit 1; }
failures=0
kernels=0
for object in "$@"; do
  for file in "$object.kept"/*.ptx "$object.kept/report"; do
    [ -e "$file" ] || { echo "not there: $file"; failures=1; continue; }
    awk -f "$here/ptx_rules.awk" "$file" || failures=1
    kernels=$((kernels + $(grep -c '\.entry ' "$file" || true)))
  done
done
[ $failures = 0 ] && echo "$kernels kernels keep to the rules"
exit $failures
