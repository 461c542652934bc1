#!/usr/bin/env bash
# layers_controls.sh TREE: plants one violation after the other in a copy of the tree; each must be found where it is.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
copy=$(mktemp -d)
trap 'rm -r "$copy"' EXIT
for folder in include topology src kernels perf examples; do cp -R "$1/$folder" "$copy/"; done
failures=0
planted=0

# refused FILE LINE WHAT: with this line at its end the file must be named for that reason.
refused() {
  local file="$copy/$1" before output
  before=$(mktemp)
  if [ -e "$file" ]; then cp "$file" "$before"; else mkdir -p "${file%/*}"; fi
  printf '%s\n' "$2" >>"$file"
  planted=$((planted + 1))
  if output=$("$here/layers.sh" "$copy" 2>&1) || ! grep -F "$1:" <<<"$output" | grep -qF "$3"; then
    printf 'not found in %s: %s\n%s\n' "$1" "$2" "$output"
    failures=1
  fi
  if [ -s "$before" ]; then mv "$before" "$file"; else rm "$file" "$before"; fi
}

# accepted FILE LINE: what only looks like a violation.
accepted() {
  local file="$copy/$1" output
  printf '%s\n' "$2" >"$file"
  if ! output=$("$here/layers.sh" "$copy" 2>&1); then
    printf 'wrongly refused: %s\n%s\n' "$2" "$output"
    failures=1
  fi
  rm "$file"
}

"$here/layers.sh" "$copy" || { echo "the tree itself does not keep to the layers"; exit 1; }
refused src/base/planted.cpp '#include "planner/planner.hpp"' 'base may not use planner'
refused topology/planted.cpp '#include "memory/pool.hpp"' 'topology may not use memory'
refused topology/planted.cpp '#include "kernels/program.hpp"' 'topology may not use kernels'
refused src/transport/planted.cpp '#include "memory/pool.hpp"' 'transport may not use memory'
refused src/memory/planted.cpp '#include "transport/mesh.hpp"' 'memory may not use transport'
refused src/planner/planted.cpp '  #  include "exec/executor.hpp"' 'planner may not use exec'
refused src/planner/planted.cpp '#include "kernels/program.hpp"' 'planner may not use kernels'
refused src/exec/planted.cpp '#include "comm/impl.hpp"' 'exec may not use comm'
refused src/comm/planted.cpp '#include "kernels/program.hpp"' 'comm may not use kernels'
refused kernels/planted.cuh '#include "planner/program.hpp"' 'kernels may not use planner'
refused src/c_api/planted.cpp '#include "planner/planner.hpp"' 'c_api may not use planner'
refused src/cli/planted.cpp '#include "base/env.hpp"' 'cli may not use base'
refused perf/planted.cpp '#include "base/cuda.hpp"' 'perf may not use base'
refused examples/planted.cpp '#include "topology/graph.hpp"' 'examples may not use topology'
refused src/novel/planted.cpp '// a layer nobody has drawn' 'no layer of this name'
refused src/comm/planted.cpp '#include "../exec/executor.hpp"' 'not through ..'
refused include/collectives/types.hpp '#include <cuda_runtime.h>' 'a public header includes'
refused include/collectives/plan.hpp '#include "base/log.hpp"' 'a public header includes'
refused include/collectives/plan.hpp '#include <fmt/format.h>' 'a public header includes'
refused include/collectives/collectives.h '#include <cuda.h>' 'no CUDA here'
refused src/comm/planted.cpp '#include <hwloc.h>' "topology's alone"
refused src/exec/planted.cpp 'int n = hwloc_get_nbobjs();' "topology's alone"
refused src/exec/planted.cpp 'auto* f = nvmlInit_v2;' "topology's alone"
refused src/planner/planted.cpp '#include <cuda_runtime_api.h>' 'no CUDA here'
refused src/planner/planted.cpp '#include "base/cuda.hpp"' 'no CUDA here'
refused topology/graph.cpp '#include "base/cuda.hpp"' 'no CUDA here'
refused topology/graph.cpp 'int f() { return cudaGetDeviceCount(nullptr); }' 'no CUDA here'
refused kernels/planted.hpp '#include "base/cuda.hpp"' "a kernel's header"
refused src/exec/planted.cu 'void f() { kernel<<<1, 2>>>(); }' 'kernels belong to'
refused src/comm/planted.cpp 'int i = threadIdx.x;' 'kernels belong to'
refused examples/planted.cpp 'int i = threadIdx.x;' 'kernels belong to'
refused examples/planted.cu 'void f() { asm volatile("nanosleep.u32 1;"); }' 'PTX belongs to'
refused src/exec/planted.cpp 'void f() { asm volatile("st.release.sys.u32 [%0], %1;"); }' 'PTX belongs to'
refused src/comm/planted.cpp 'const char* v = getenv("HOME");' 'reads the environment'
refused examples/planted.cpp 'auto v = std::getenv("HOME");' 'reads the environment'
refused src/base/log.cpp '/* a */ const char* v = secure_getenv("HOME");' 'reads the environment'
refused src/comm/planted.cpp 'extern "C" int f();' 'extern "C" belongs to'
accepted src/comm/planted.cpp '// getenv("HOME"), extern "C", asm volatile("x"), kernel<<<1, 2>>>() and threadIdx in a comment'
accepted src/comm/planted.cpp '/* getenv("HOME") */ const char* text = "getenv(\"HOME\") threadIdx // <<<";'
accepted src/planner/planted.cpp 'int cudaish = 0; int kernel_threadIdxs = 1;'
accepted perf/planted.cu 'void f() { kernel<<<1, 2>>>(); }'
accepted examples/planted.cu 'void f() { kernel<<<1, 2>>>(); }'
[ $failures = 0 ] && echo "$planted planted violations were found"
exit $failures
