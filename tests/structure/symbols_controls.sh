#!/usr/bin/env bash
# symbols_controls.sh INCLUDE_FOLDER COMPILER: libraries that export what they must not, or not what they must, are refused.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
headers=$1
compiler=$2
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
declared=$(sed -nE 's/^COLL_API .*[ *](coll_[a-z_]+)\(.*/\1/p' "$headers/collectives/collectives.h")
complete=$(printf 'extern "C" void %s() {}\n' $declared)
failures=0

# library SOURCE: compiled and checked.
library() {
  printf '%s\n' "$1" | "$compiler" -std=c++20 -shared -fPIC -x c++ - -o "$folder/library.so"
  "$here/symbols.sh" "$folder/library.so" "$headers"
}

# refused WHAT SOURCE: with this beside a complete library.
refused() {
  local output
  if output=$(library "$complete"$'\n'"$2" 2>&1) || ! grep -qF "$1" <<<"$output"; then
    printf 'not refused for "%s": %s\n%s\n' "$1" "$2" "$output"
    failures=1
  fi
}

library "$complete"$'\n''namespace collectives { struct Machine { int gpus() const; }; int Machine::gpus() const { return 0; } }' || failures=1
refused 'neither coll_* nor' 'namespace fmt { void vformat() {} }'
refused 'neither coll_* nor' 'extern "C" void cudaMalloc() {}'
refused 'neither coll_* nor' 'namespace std { template <typename T> void f(T) {} } namespace collectives { struct Machine {}; } template void std::f(collectives::Machine);'
refused 'in no public header: coll_hidden' 'extern "C" void coll_hidden() {}'
refused 'in no public header: PrivateMesh' 'namespace collectives { struct PrivateMesh { void join(); }; void PrivateMesh::join() {} }'
refused 'in no public header: private_log_line' 'namespace collectives { void private_log_line(int) {} }'
if output=$(library "$(grep -v coll_abort <<<"$complete")" 2>&1) || ! grep -qF 'not exported: coll_abort' <<<"$output"; then
  printf 'a missing function was not found:\n%s\n' "$output"
  failures=1
fi
[ $failures = 0 ] && echo "every planted symbol was found"
exit $failures
