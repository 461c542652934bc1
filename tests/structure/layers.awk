# The layer rules, all of them. Reads sources, named relative to the top of the tree; prints `file:line: what is wrong` and
# exits with 1 if anything is.

BEGIN {
  # Who may include whom, beside itself and <collectives/...>. An edge that is not here is forbidden.
  uses["base"] = ""
  uses["topology"] = "base"
  uses["transport"] = "base"
  uses["memory"] = "base"
  uses["kernels"] = "base"
  uses["planner"] = "base topology"
  uses["exec"] = "base topology transport memory planner kernels"
  uses["comm"] = "base topology transport memory planner exec"
  uses["c_api"] = "base"
  uses["nccl_shim"] = "base"
  uses["cli"] = ""
  uses["perf"] = ""
  uses["examples"] = ""
  uses["public"] = ""

  # kernels/ for exec is its launch functions and argument structures; comm lays the same control words out in the pool.
  also["comm kernels/control.hpp"] = 1
  # Links are proved by kernels that move data over them.
  also["topology kernels/probe.hpp"] = 1

  for (user in uses) {
    known[user] = 1
    count = split(uses[user], names, " ")
    for (i = 1; i <= count; ++i) allowed[user, names[i]] = 1
  }
}

function layer_of(path) {
  if (path ~ /^include\/collectives\//) return "public"
  if (path ~ /^src\/[a-z_]+\//) { sub(/^src\//, "", path); sub(/\/.*/, "", path); return path }
  sub(/\/.*/, "", path)
  return path
}

function wrong(text) {
  printf "%s:%d: %s\n", FILENAME, FNR, text
  failures = 1
}

# The line without comments and the insides of string literals.
function code_of(line,    result, at, rest) {
  result = ""
  while (line != "") {
    if (in_comment) {
      at = index(line, "*/")
      if (at == 0) return result
      line = substr(line, at + 2)
      in_comment = 0
      continue
    }
    if (!match(line, /\/\/|\/\*|"/)) return result line
    result = result substr(line, 1, RSTART - 1)
    rest = substr(line, RSTART)
    if (substr(rest, 1, 2) == "//") return result
    if (substr(rest, 1, 2) == "/*") { in_comment = 1; line = substr(rest, 3); continue }
    if (!match(rest, /^"([^"\\]|\\.)*"/)) return result rest
    result = result "\"\""
    line = substr(rest, RLENGTH + 1)
  }
  return result
}

function check_include(target, quoted,    to) {
  if (target ~ /^collectives\//) return
  to = layer_of("src/" target)
  if (!(to in known)) to = layer_of(target)
  if (target ~ /\.\./) wrong("include by a name from the top of its tree, not through ..: " target)
  if (to in known && target ~ /\// && to != layer && !((layer, to) in allowed) && !((layer " " target) in also))
    wrong(layer " may not use " to ": " target)
  if (layer == "public" && FILENAME !~ /\.h$/ && (quoted || target ~ /[.\/]/))
    wrong("a public header includes the standard library and <collectives/...> only: " target)
  if (target ~ /hwloc|nvml|pugixml|libxml/ && layer != "topology") wrong("hwloc, NVML and XML are topology's alone: " target)
  if (is_cuda_free && target ~ /^cuda|base\/cuda\.hpp/) wrong("no CUDA here, so that it runs on a laptop: " target)
  if (FILENAME ~ /^kernels\/.*\.hpp$/ && target ~ /^cuda(_runtime.*)?\.h$|base\/cuda\.hpp/)
    wrong("a kernel's header is included by host code and takes no CUDA header: " target)
}

FNR == 1 {
  layer = layer_of(FILENAME)
  in_comment = 0
  is_cuda_free = layer == "planner" || layer == "public" || (layer == "topology" && FILENAME !~ /^topology\/(detect|verify)/)
  if (!(layer in known)) wrong("no layer of this name is known to tests/structure/layers.awk: " layer)
}

{
  if (match($0, /^[ \t]*#[ \t]*include[ \t]*[<"][^>"]+[>"]/)) {
    target = substr($0, RSTART, RLENGTH)
    sub(/^[^<"]*/, "", target)
    check_include(substr(target, 2, length(target) - 2), substr(target, 1, 1) == "\"")
    next
  }
  extern_c = $0 ~ /extern[ \t]+"C"/
  code = code_of($0)
  if (extern_c && code ~ /extern/ && layer != "c_api" && layer != "nccl_shim" && FILENAME != "include/collectives/collectives.h")
    wrong("extern \"C\" belongs to src/c_api and src/nccl_shim")
  if (code ~ /(^|[^A-Za-z0-9_])(secure_)?getenv[^A-Za-z0-9_]/ && FILENAME != "src/base/env.cpp")
    wrong("src/base/env.cpp alone reads the environment")
  # perf/ and the examples have no library code to launch theirs by, and are linked into nothing else.
  if (code ~ /<<<|(^|[^A-Za-z0-9_])(threadIdx|blockIdx|__global__)([^A-Za-z0-9_]|$)/ && layer != "kernels" && FILENAME !~ /^(perf|examples)\/.*\.cuh?$/)
    wrong("kernels belong to kernels/")
  if (code ~ /(^|[^A-Za-z0-9_])asm[ \t]*(volatile)?[ \t]*\(/ && layer != "kernels" && FILENAME != "src/base/atomics.hpp" && FILENAME !~ /^perf\/.*\.cuh?$/)
    wrong("PTX belongs to kernels/ and src/base/atomics.hpp")
  if (code ~ /(^|[^A-Za-z0-9_])(hwloc_|nvml[A-Z])/ && layer != "topology") wrong("hwloc and NVML are topology's alone")
  if (is_cuda_free && code ~ /(^|[^A-Za-z0-9_])(cuda|cu)[A-Z][A-Za-z]*[ \t]*\(/) wrong("no CUDA here, so that it runs on a laptop")
}

END { exit failures }
