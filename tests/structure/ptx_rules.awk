# What the PTX of the kernels must look like, all of it. Reads PTX, or what `ptxas -v` says of it; prints `file:line: what is
# wrong` and exits with 1 if anything is.
#
# Memory that another rank reads or writes is touched through the verbs of src/base/atomics.hpp only. In PTX these are: packs,
# 16 bytes wide, relaxed at system scope; words of 32 or 64 bits, relaxed, released or acquired at system scope. Shared memory is
# a block's own and takes any scope; what the blocks of one rank count together is atomic at the scope of its GPU.

function wrong(text) {
  printf "%s:%d: %s: %s\n", FILENAME, FNR, text, $0
  failures = 1
}

function close_kernel() {
  if (kernel == "") return
  if (kernel ~ /local_/) { kernel = ""; return }  # its rank's own memory, which no peer sees
  if (kernel ~ /copy_(open|meet)/) { kernel = ""; return }  # flags only
  if (kernel ~ /copy_sum/) pack_stores = 1  # stores to its rank's output only
  if (kernel ~ /probe_(write|ping_pong)/) { kernel = ""; return }  # stores only, or flags only
  if (!pack_loads) { printf "%s: %s loads no 16-byte pack at system scope\n", FILENAME, kernel; failures = 1 }
  if (!pack_stores) { printf "%s: %s stores no 16-byte pack at system scope\n", FILENAME, kernel; failures = 1 }
  kernel = ""
}

{ sub(/^[ \t]+/, ""); sub(/\/\/.*/, "") }
/^@!?%/ { sub(/^@!?%[a-z0-9]+[ \t]+/, "") }

/\.entry / {
  close_kernel()
  ++kernels
  kernel = $0
  sub(/.*\.entry[ \t]+/, "", kernel)
  sub(/[ \t(].*/, "", kernel)
  pack_loads = pack_stores = 0
}
/^\.local / || /^(ld|st)\.local\./ { wrong("local memory in a kernel") }
/^(atom|red|multimem)\.(.*\.)?sys\./ { wrong("a read-modify-write at system scope, which PCIe does not have") }
/^(atom|red)\..*cta\./ && !/\.shared/ { wrong("a read-modify-write of global memory below the scope of the GPU") }
/^(ld|st)\.volatile/ { wrong("volatile instead of a verb") }
/^ld\..*\.nc[. ]/ { wrong("a load through the read-only cache, which never sees what a peer writes") }
/^(fence|membar)\..*sys/ { wrong("a system-wide fence instead of release and acquire") }
/^(ld|st)\.(relaxed|acquire|release)\./ && !/\.sys\./ && !/\.shared/ { wrong("an ordered access below system scope") }
/^(ld|st)\.(acquire|release)\.sys\./ && !/\.sys\.(global\.)?[bu](32|64)[ \t]/ { wrong("a flag that is not one word of 32 or 64 bits") }
/^(ld|st)\.relaxed\.sys\./ && !/\.sys\.(global\.)?(v4\.)?[bu]32[ \t]/ && !/\.sys\.(global\.)?[bu]64[ \t]/ {
  wrong("neither a pack of 16 bytes nor one word of 32 or 64 bits")
}
/^ld\.relaxed\.sys\.(global\.)?v4\.[bu]32/ { pack_loads = 1 }
/^st\.relaxed\.sys\.(global\.)?v4\.[bu]32/ { pack_stores = 1 }

# ptxas -v names the kernel in the line before.
/Function properties for|Compiling entry function/ { described = $0 }
/bytes stack frame/ {
  ++reports
  if ($0 !~ /(^| )0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads/) wrong("registers spilled to local memory by a kernel (" described ")")
}

END {
  close_kernel()
  if (!kernels && !reports) { print FILENAME ": neither a kernel nor a report of ptxas"; failures = 1 }
  exit failures
}
