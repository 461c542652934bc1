#pragma once

#include <collectives/topology.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

/// The machine files under tests/machines.
inline constexpr const char* machine_files[] = {
    "nvswitch_8x.json",      "nvlink_pairs_4x.json",  "bridges_across_sockets_6x.json", "cube_mesh_8x.json",     "chain_3x.json",
    "mixed_islands_7x.json", "pcie_no_peers_8x.json", "two_sockets_8x.json",            "pcie_switches_8x.json", "pcie_switches_16x.json",
    "pcie_2x.json"};

inline std::string machine_path(const std::string& name) { return std::string(TEST_MACHINES_DIR) + "/" + name; }

inline std::string machine_text(const std::string& name) {
  std::ifstream file(machine_path(name), std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline collectives::Machine test_machine(const std::string& name) { return collectives::read_machine_file(machine_path(name)); }

/// Where machines as their owners published them lie: outside this project, and not everywhere.
inline std::filesystem::path corpus_folder() {
  const char* named = std::getenv("COLLECTIVES_MACHINE_CORPUS");
  return named ? std::filesystem::path(named) : std::filesystem::path(TEST_PROJECT_DIR) / ".." / "shared" / "topologies";
}
