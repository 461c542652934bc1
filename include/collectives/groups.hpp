#pragma once

#include <collectives/plan.hpp>
#include <collectives/topology.hpp>
#include <cstddef>
#include <vector>

namespace collectives {

/// A call that will be made, and how often.
struct Work {
  PlanRequest request;
  double times = 1;
};

/// Some GPUs of a machine, and what work takes on them.
struct Group {
  std::vector<int> devices;     ///< CUDA ordinals, ascending
  double predicted_us = 0;      ///< all the work
  std::vector<double> each_us;  ///< one call of each
  std::size_t alike = 0;        ///< groups with the same GPUs and links as this one, itself included
};

/// What a search for the best group found.
struct GroupSearch {
  std::vector<Group> groups;  ///< the first of each kind that was planned, best first; the last is the worst by its sketch
  std::size_t looked_at = 0;  ///< every group of this size
  std::size_t kinds = 0;      ///< that they fall into
};

/// Looks at every group of `size` of the GPUs `among` (CUDA ordinals, at most 16): sketches what the work takes, sorts alike groups
/// together, and plans the `most` kinds whose sketch is best, and the worst. Needs no GPU.
/// Throws Error(invalid_argument) for a size below 2 or above the number of GPUs, no work, or a device the machine does not have.
COLLECTIVES_EXPORT GroupSearch search_groups(const Machine& machine, const std::vector<int>& among, int size, const std::vector<Work>& work,
                                             std::size_t most = 64);

}  // namespace collectives
