#!/usr/bin/env bash
# ptx_lint.sh PTXAS ARCHITECTURE FILE...: checks the kernels' PTX, and what ptxas makes of it, against ptx_rules.awk.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ptxas=$1
architecture=$2
shift 2
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
failures=0
for file in "$@"; do
  report="$folder/$(basename "$file" .ptx).ptxas"
  awk -f "$here/ptx_rules.awk" "$file" || failures=1
  "$ptxas" -v "-arch=$architecture" "$file" -o "$folder/code" 2>"$report" || { cat "$report"; exit 1; }
  awk -f "$here/ptx_rules.awk" "$report" || failures=1
done
[ $failures = 0 ] && echo "$(cat "$@" | grep -c '\.entry ') kernels keep to the rules"
exit $failures
