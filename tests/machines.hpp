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
    "pcie_2x.json",          "narrow_links_16x.json",  "desktop_5x.json"};

inline std::string machine_path(const std::string& name) { return std::string(TEST_MACHINES_DIR) + "/" + name; }

inline std::string machine_text(const std::string& name) {
  std::ifstream file(machine_path(name), std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline collectives::Machine test_machine(const std::string& name) { return collectives::read_machine_file(machine_path(name)); }

/// GPUs that claim every peer, by NVLink through a switch or by the path named.
inline collectives::Machine machine_of(int gpus, const std::string& path = "NV18") {
  collectives::Machine machine;
  machine.driver = "580.1";
  for (int device = 0; device < gpus; ++device) {
    collectives::Node node;
    node.device = device;
    node.uuid = "GPU-" + std::to_string(100 + device);
    node.compute_capability = 90;
    machine.nodes.push_back(node);
  }
  for (int from = 0; from < gpus; ++from)
    for (int to = 0; to < gpus; ++to) {
      collectives::Peer peer;
      peer.from = from, peer.to = to, peer.access = true, peer.path = path;
      if (from != to) machine.peers.push_back(peer);
    }
  return machine;
}

/// Where machines as their owners published them lie: outside this project, and not everywhere.
inline std::filesystem::path corpus_folder() {
  const char* named = std::getenv("COLLECTIVES_MACHINE_CORPUS");
  return named ? std::filesystem::path(named) : std::filesystem::path(TEST_PROJECT_DIR) / ".." / "shared" / "topologies";
}
