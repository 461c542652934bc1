#!/usr/bin/env bash
# needed_controls.sh COMPILER: needed.sh must refuse a library that needs hwloc, and take one that needs libc.
set -euo pipefail
compiler=$1
here=$(dirname "$0")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
printf '#include <cstdio>\nextern "C" int answer() { return std::puts("42"); }\n' > "$folder/one.cpp"
"$compiler" -shared -fPIC -o "$folder/libplain.so" "$folder/one.cpp"
"$compiler" -shared -fPIC -o "$folder/libneedy.so" "$folder/one.cpp" -Wl,--no-as-needed -lhwloc
"$here/needed.sh" "$folder/libplain.so" || { echo "a plain library was refused"; exit 1; }
if output=$("$here/needed.sh" "$folder/libplain.so" "$folder/libneedy.so"); then
  echo "a library that needs hwloc was taken"; exit 1
fi
grep -qE 'libneedy.so: needs libhwloc' <<<"$output" || { echo "expected hwloc to be named: $output"; exit 1; }
