# What perf/run, tests/run and tests/soak share: packages, compilers, GPUs, and steps with a progress line. Sourced, not run.
# Expects $root, the top of the source tree. Sets no shell option; callers run under `set -euo pipefail`.

build_jobs=$(nproc 2>/dev/null || echo 2)

say() { printf '%s\n' "$*"; }
refuse() { printf '%s/%s: %s\n' "$(basename "$(cd "$(dirname "$0")" && pwd)")" "$(basename "$0")" "$*" >&2; exit 2; }

# --- packages ------------------------------------------------------------------------------------------------------------

# Is a header found by the compiler, or under a prefix that CMake will search?
has_header() {
  local prefix options=()
  local IFS=:
  for prefix in ${CMAKE_PREFIX_PATH:-}; do options+=("-I$prefix/include"); done
  command -v "${CXX:-g++}" >/dev/null && printf '#include <%s>\n' "$1" | "${CXX:-g++}" "${options[@]}" -std=c++20 -E -x c++ - >/dev/null 2>&1
}

has_cmake() {
  command -v cmake >/dev/null || return 1
  [ "$(printf '3.25\n%s\n' "$(cmake --version | sed -n '1s/.* //p')" | sort -V | head -1)" = 3.25 ]
}

# Does this machine hold what a package brings, from the package or from elsewhere?
has_package() {
  case $1 in
    cmake) has_cmake ;;
    ninja-build) command -v ninja >/dev/null ;;
    g++) command -v "${CXX:-g++}" >/dev/null ;;
    pkg-config) command -v pkg-config >/dev/null ;;
    libhwloc-dev) command -v pkg-config >/dev/null && pkg-config --exists hwloc ;;
    libfmt-dev) has_header fmt/format.h ;;
    catch2) has_header catch2/catch.hpp || has_header catch2/catch_all.hpp ;;
    libcli11-dev) has_header CLI/CLI.hpp ;;
    nlohmann-json3-dev) has_header nlohmann/json.hpp ;;
    libpugixml-dev) has_header pugixml.hpp ;;
  esac
}

# Leaves in $missing those of its arguments that are not there.
find_missing() {
  local package
  missing=()
  for package in "$@"; do has_package "$package" || missing+=("$package"); done
}

# Installs what is missing of its arguments where it may, else says what to install and exits with 2.
need_packages() {
  find_missing "$@"
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    mkdir -p "$root/build"
    step "installing ${missing[*]}" "$root/build/packages.log" install_packages "${missing[@]}" ||
      refuse "apt could not install: ${missing[*]}; without a network bring these here by hand and run this again"
    hash -r
    find_missing "$@"
    [ ${#missing[@]} -gt 0 ] || return 0
    case " ${missing[*]} " in *' cmake '*)
      refuse "CMake 3.25 or newer is needed; this system's package is $(cmake --version 2>/dev/null | sed -n '1s/.* //p')" ;;
    esac
    refuse "still missing after their installation: ${missing[*]}"
  fi
  say "These packages are missing: ${missing[*]}"
  if command -v apt-get >/dev/null; then
    say "Install them with: sudo apt-get install ${missing[*]}"
  else
    say "They are Debian's and Ubuntu's names; there is no apt here. Install what they bring and run this again."
  fi
  exit 2
}

install_packages() {
  export DEBIAN_FRONTEND=noninteractive
  apt-get update && apt-get install -y --no-install-recommends "$@"
}

# --- CUDA ----------------------------------------------------------------------------------------------------------------

# Sets $nvcc (empty: none), $gpus (how many nvidia-smi sees) and $gpu_architectures (theirs, as CMake wants them).
find_cuda() {
  local candidate
  nvcc=
  for candidate in "$(command -v nvcc || true)" "${CUDACXX:-}" "${CUDA_HOME:-/nonexistent}/bin/nvcc" /usr/local/cuda/bin/nvcc \
      $(printf '%s\n' /usr/local/cuda-*/bin/nvcc | sort -rV); do
    if [ -z "$nvcc" ] && [ -n "$candidate" ] && "$candidate" --version >/dev/null 2>&1; then nvcc=$candidate; fi
  done
  [ -z "$nvcc" ] || export CUDACXX="$nvcc"
  gpus=0
  gpu_architectures=
  if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then
    gpus=$(nvidia-smi -L | grep -c '^GPU ' || true)
    [ "$gpus" = 0 ] || gpu_architectures=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | tr -d '. ' | sort -un | paste -sd';')
  fi
}

# Refuses GPUs that this nvcc has no code for.
check_architectures() {
  local architecture known
  known=$("$nvcc" --list-gpu-arch)
  for architecture in ${gpu_architectures//;/ }; do
    case "$known" in *"compute_$architecture"*) ;; *)
      refuse "$nvcc cannot compile for this machine's GPU of compute capability $architecture; it knows: $(echo $known)" ;;
    esac
  done
}

# --- steps ---------------------------------------------------------------------------------------------------------------

# step WHAT LOG COMMAND...: runs a command into a log with one progress line: rewritten on a terminal, else every 20 seconds.
# On failure prints the end of the log. Returns the command's status.
step() {
  local what=$1 log=$2 begin=$SECONDS shown=-20 line last='' status=0 fd pid
  shift 2
  mkdir -p "${log%/*}"
  exec {fd}< <("$@" </dev/null 2>&1)
  pid=$!
  : >"$log"
  while true; do
    line=
    if IFS= read -r -t 2 -u "$fd" line; then
      printf '%s\n' "$line" >>"$log"
      last=$line
    elif [ $? -le 128 ]; then
      break
    else
      printf '%s' "$line" >>"$log"
    fi
    show_progress
  done
  printf '%s' "$line" >>"$log"
  exec {fd}<&-
  wait "$pid" || status=$?
  [ ! -t 1 ] || printf '\r\033[K'
  if [ $status = 0 ]; then
    say "$what: done in $((SECONDS - begin)) s"
  else
    tail -n 60 "$log"
    say "$what: FAILED after $((SECONDS - begin)) s; all of it is in $log"
  fi
  return $status
}

# Of the step around it.
show_progress() {
  local elapsed=$((SECONDS - begin)) text
  text="$what: $elapsed s  ${last:0:60}"
  if [ -t 1 ]; then
    printf '\r\033[K%s' "$text"
  elif [ $((elapsed - shown)) -ge 20 ]; then
    shown=$elapsed
    say "$text"
  fi
}

# configure_and_build PRESET [CMake options]. A build folder that another place of this tree left behind is begun anew.
configure_and_build() {
  local preset=$1 folder="$root/build/$1" fresh=()
  shift
  if [ -f "$folder/CMakeCache.txt" ] && ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$root" "$folder/CMakeCache.txt"; then fresh=(--fresh); fi
  step "$preset: configuring" "$folder/configure.log" in_root cmake --preset "$preset" "${fresh[@]}" "$@" &&
    step "$preset: building" "$folder/build.log" cmake --build "$folder" -j "$build_jobs"
}

in_root() { cd "$root" && "$@"; }
