#!/usr/bin/env bash
# needed.sh LIBRARY...: what each needs to be loaded is the C and C++ runtime alone. hwloc, NVML, CUDA's driver and NCCL are opened when
# they are there; the rest is within.
set -euo pipefail
failures=0
for library in "$@"; do
  needed=$(readelf -d "$library" | sed -nE 's/.*\(NEEDED\).*\[(.*)\]/\1/p')
  [ -n "$needed" ] || { echo "$library: needs nothing, not even libc?"; failures=1; }
  while read -r name; do
    case $name in
      libc.so.* | libm.so.* | libdl.so.* | librt.so.* | libpthread.so.* | libstdc++.so.* | libgcc_s.so.* | ld-linux*.so.* | libpugixml.so.*) ;;
      *) echo "$library: needs $name to be loaded"; failures=1 ;;
    esac
  done <<<"$needed"
done
exit $failures
