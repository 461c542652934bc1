#!/usr/bin/env bash
# symbols.sh LIBRARY INCLUDE_FOLDER: the library exports the C interface and the classes and functions of its public headers,
# and nothing else: no fmt, no JSON, no CUDA runtime, no inside of its own.
set -euo pipefail
library=$1
headers=$2

symbols=$(nm -D --defined-only "$library" | awk '{ print $NF }')
failures=0
while read -r symbol; do
  case $symbol in
    coll_*) name=$symbol ;;
    *)
      # The first name after collectives:: in a mangled name, behind a const member's K and the special names of a type.
      name=$(sed -nE 's/^_Z(TI|TS|TV)?NK?11collectives([0-9]+)(.*)$/\2 \3/p' <<<"$symbol")
      [ -n "$name" ] && name=$(awk '{ print substr($2, 1, $1) }' <<<"$name")
      ;;
  esac
  if [ -z "$name" ]; then
    echo "exported, but neither coll_* nor of namespace collectives: $symbol"
    failures=1
  elif ! grep -qwrF -- "$name" "$headers"; then
    echo "exported, but in no public header: $name ($symbol)"
    failures=1
  fi
done <<<"$symbols"

# The other way round: a function that is declared and not exported would fail only in its user's link.
for name in $(sed -nE 's/^COLL_API .*[ *](coll_[a-z_]+)\(.*/\1/p' "$headers/collectives/collectives.h"); do
  grep -qx "$name" <<<"$symbols" || { echo "declared, but not exported: $name"; failures=1; }
done
[ $failures = 0 ] && echo "$(wc -l <<<"$symbols") exported symbols, all of the public headers"
exit $failures
