#include "fuzz/importers.hpp"

#include <collectives/error.hpp>
#include <collectives/topology.hpp>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "topology/importers.hpp"

using namespace collectives;

namespace {

[[noreturn]] void broken(const char* what) {
  std::fprintf(stderr, "an importer broke its promise: %s\n", what);
  std::abort();
}

/// Calls an importer and looks at what it gives: a valid machine that can be written and read again, or an error with a place.
template <typename Read>
bool try_reading(std::string_view text, Read read) {
  Machine machine;
  try {
    machine = read(SourceText(text, "fuzz"));
  } catch (const Error& error) {
    if (error.code() != ErrorCode::invalid_argument) broken(error.what());
    if (std::string_view(error.what()).find("fuzz: line ") != 0) broken(error.what());
    return false;
  }
  validate(machine);
  if (machine_from_json(to_json(machine)).links != machine.links) broken("the machine does not survive its own format");
  return true;
}

bool run_any(std::string_view text) { return try_reading(text, read_any); }
bool run_smi(std::string_view text) { return try_reading(text, read_smi); }
bool run_p2p_test(std::string_view text) { return try_reading(text, read_p2p_test); }
bool run_hwloc(std::string_view text) { return try_reading(text, read_hwloc_xml); }

/// What NCCL's importer takes, its exporter can write, and that is the same machine to NCCL.
bool run_nccl(std::string_view text) {
  return try_reading(text, [](const SourceText& source) {
    Machine machine = read_nccl_xml(source);
    const std::string written = to_nccl_xml(machine);
    if (read_nccl_xml(SourceText(written, "")).gpus().size() != machine.gpus().size()) broken("NCCL's format lost a GPU");
    return machine;
  });
}

constexpr const char* json_seeds[] = {"pcie_2x.json", "chain_3x.json"};
constexpr const char* smi_seeds[] = {"nvlink_pairs_4x.topo.txt", "nvswitch_8x.topo.txt", "nested_switches_8x.topo.txt"};
constexpr const char* p2p_test_seeds[] = {"one_refused_3x.p2p_test.txt"};
constexpr const char* nccl_seeds[] = {"nvswitch_4x.nccl.xml"};
constexpr const char* hwloc_seeds[] = {"bridge_3x.hwloc.xml", "two_sockets.hwloc.xml"};

constexpr FuzzTarget targets[] = {{"any", run_any, json_seeds},
                                  {"smi", run_smi, smi_seeds},
                                  {"p2p_test", run_p2p_test, p2p_test_seeds},
                                  {"nccl", run_nccl, nccl_seeds},
                                  {"hwloc", run_hwloc, hwloc_seeds}};

}  // namespace

std::span<const FuzzTarget> fuzz_targets() { return targets; }
