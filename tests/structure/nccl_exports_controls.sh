#!/usr/bin/env bash
# nccl_exports_controls.sh LIST COMPILER: libraries with an export too many, too few, or of another kind or name are refused.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
list=$1
compiler=$2
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
failures=0
complete=$(awk '$1 == "ncclResetDebugInitInternal" { print "extern \"C\" void " $1 "() {}"; next }
  { print "extern \"C\" void p" $1 "() {}\nextern \"C\" void " $1 "() __attribute__((weak, alias(\"p" $1 "\")));" }' "$list")

# library NAME SOURCE: compiled and checked.
library() {
  printf '%s\n' "$2" | "$compiler" -shared -fPIC -Wl,-soname,"$1" -x c++ - -o "$folder/library.so"
  "$here/nccl_exports.sh" "$folder/library.so" "$list"
}

# refused WHAT NAME SOURCE
refused() {
  local output
  if output=$(library "$2" "$3" 2>&1) || ! grep -qF "$1" <<<"$output"; then
    printf 'not refused for "%s":\n%s\n' "$1" "$output"
    failures=1
  fi
}

library libnccl.so.2 "$complete" || failures=1
refused '> T ncclMore' libnccl.so.2 "$complete"$'\n''extern "C" void ncclMore() {}'
refused '< T pncclMemFree' libnccl.so.2 "$(grep -v ncclMemFree <<<"$complete")"
refused '> T ncclMemFree' libnccl.so.2 "$(grep -v 'void ncclMemFree()' <<<"$complete")"$'\n''extern "C" void ncclMemFree() {}'
refused 'not called libnccl.so.2' libnccl.so.3 "$complete"
[ $failures = 0 ] && echo "every planted fault was found"
exit $failures
