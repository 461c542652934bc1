#!/usr/bin/env bash
# nvcc_kept.sh COMPILER ARGUMENT...: compiles as told, and leaves in OBJECT.kept the PTX of it and what ptxas said of each kernel,
# for ptx_lint.sh. Compiling the kernels a second time for that would take a minute.
set -euo pipefail
object='' previous=''
for argument in "$@"; do
  [ "$previous" != -o ] || object=$argument
  previous=$argument
done
kept=$object.kept
rm -rf "$kept"
mkdir -p "$kept"
status=0
"$@" --keep --keep-dir "$kept" -Xptxas -v 2>"$kept/report" || status=$?
# The rest, warnings and errors, is for whoever builds.
grep -vE '^(ptxas|nvlink) info|^ +[0-9]+ bytes stack frame|^$' "$kept/report" >&2 || true
find "$kept" -type f ! -name '*.ptx' ! -name report -delete
exit $status
