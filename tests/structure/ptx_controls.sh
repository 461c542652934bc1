#!/usr/bin/env bash
# Plants one bad instruction after the other in a kernel that keeps to the rules; each must be refused. Needs no CUDA.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
failures=0
planted=0

good_load='ld.relaxed.sys.global.v4.u32 {%r1,%r2,%r3,%r4}, [%rd1];'
good_store='st.relaxed.sys.global.v4.u32 [%rd2], {%r1,%r2,%r3,%r4};'

# kernel LOAD STORE INSTRUCTION: as a file that is checked.
checked() {
  cat >"$folder/kernel.ptx" <<PTX
.version 8.0
.target sm_90
.visible .entry kernel(
	.param .u64 kernel_param_0
)
{
	ld.acquire.sys.global.u64 	%rd3, [%rd1];
	$1
	@%p1 $2
	st.global.v4.u32 	[%rd4], {%r1,%r2,%r3,%r4};
	atom.add.acq_rel.gpu.global.u32 	%r1, [%rd1], 1;
	st.release.sys.global.u64 	[%rd1], %rd2;
	$3
	ret;
}
PTX
  awk -f "$here/ptx_rules.awk" "$folder/kernel.ptx"
}

# refused REASON LOAD STORE INSTRUCTION
refused() {
  local output
  planted=$((planted + 1))
  if output=$(checked "$2" "$3" "$4" 2>&1) || ! grep -qF "$1" <<<"$output"; then
    printf 'not refused for "%s": %s %s %s\n%s\n' "$1" "$2" "$3" "$4" "$output"
    failures=1
  fi
}
planted_instruction() { refused "$1" "$good_load" "$good_store" "$2"; }

checked "$good_load" "$good_store" 'ld.relaxed.sys.global.u32 %r1, [%rd1];  // atom.sys' || { echo "a kernel without fault is refused"; failures=1; }
for own in 'ld.acquire.cta.shared.u32 %r1, [%r2];' 'st.release.cta.shared::cta.u32 [%r2], %r1;' 'atom.add.relaxed.cta.shared.u32 %r1, [%r2], 1;'; do
  checked "$good_load" "$good_store" "$own" || { echo "shared memory is refused: $own"; failures=1; }
done
planted_instruction 'read-modify-write at system scope' 'atom.add.acq_rel.sys.global.u32 %r1, [%rd1], 1;'
planted_instruction 'read-modify-write at system scope' '@%p2 red.release.sys.global.add.u32 [%rd1], 1;'
planted_instruction 'read-modify-write at system scope' 'atom.sys.global.cas.b32 %r1, [%rd1], 1, 2;'
planted_instruction 'below the scope of the GPU' 'atom.add.acq_rel.cta.global.u32 %r1, [%rd1], 1;'
planted_instruction 'volatile instead of a verb' 'ld.volatile.global.u32 %r1, [%rd1];'
planted_instruction 'read-only cache' 'ld.global.nc.v4.u32 {%r1,%r2,%r3,%r4}, [%rd1];'
planted_instruction 'read-only cache' 'ld.global.nc.L1::no_allocate.u32 %r1, [%rd1];'
planted_instruction 'system-wide fence' 'fence.acq_rel.sys;'
planted_instruction 'system-wide fence' 'membar.sys;'
planted_instruction 'below system scope' 'st.release.gpu.global.u32 [%rd1], %r1;'
planted_instruction 'below system scope' 'ld.relaxed.cta.global.u32 %r1, [%rd1];'
planted_instruction 'below system scope' 'ld.acquire.cta.global.u32 %r1, [%rd1];'
planted_instruction 'below system scope' 'st.release.cta.u32 [%rd1], %r1;'
planted_instruction 'not one word' 'st.release.sys.global.u8 [%rd1], %r1;'
planted_instruction 'neither a pack' 'st.relaxed.sys.global.u16 [%rd1], %rs1;'
planted_instruction 'neither a pack' 'ld.relaxed.sys.global.v2.u32 {%r1,%r2}, [%rd1];'
planted_instruction 'local memory' 'st.local.u32 [%rd1], %r1;'
planted_instruction 'local memory' '.local .align 16 .b8 	__local_depot0[64];'
refused 'loads no 16-byte pack' 'ld.relaxed.sys.global.u32 %r1, [%rd1];' "$good_store" ''
refused 'stores no 16-byte pack' "$good_load" 'st.relaxed.sys.global.u32 [%rd2], %r1;' ''

# report TEXT: as ptxas -v writes it.
report() { printf '%s\n' "ptxas info    : Function properties for kernel" "$1" >"$folder/report" && awk -f "$here/ptx_rules.awk" "$folder/report"; }
report '    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads' || { echo "a report without fault is refused"; failures=1; }
for text in '    16 bytes stack frame, 24 bytes spill stores, 20 bytes spill loads' '    0 bytes stack frame, 0 bytes spill stores, 10 bytes spill loads'; do
  planted=$((planted + 1))
  if report "$text" >/dev/null; then echo "not refused: $text"; failures=1; fi
done
# What was not kept is not taken for faultless.
if "$here/ptx_lint.sh" "$folder/absent.cu.o" >/dev/null; then echo "an object without PTX is accepted"; failures=1; fi
if "$here/ptx_lint.sh" >/dev/null; then echo "no object at all is accepted"; failures=1; fi
if awk -f "$here/ptx_rules.awk" </dev/null >/dev/null; then echo "an empty file is accepted"; failures=1; fi
[ $failures = 0 ] && echo "$planted planted faults were refused"
exit $failures
