#pragma once

#include <collectives/topology.hpp>
#include <string>
#include <vector>

namespace cli {

/// What a plan moves from one GPU to another (CUDA ordinals), drawn over the machine.
struct Arrow {
  int from = 0;
  int to = 0;
  int channel = 0;   ///< each has its colour
  double share = 0;  ///< of the message
};

/// The machine in Graphviz's language: links as lines with their rates, GPUs that refuse each other joined by dots. With arrows,
/// those stand in place of the refusals.
std::string to_dot(const collectives::Machine& machine, const std::vector<Arrow>& arrows = {});

/// Has Graphviz draw it into a file. Throws Error(unsupported) where there is no program `dot`, Error(system) with what it said
/// if it fails.
void write_svg(const std::string& dot, const std::string& path);

}  // namespace cli
