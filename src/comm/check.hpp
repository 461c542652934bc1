#pragma once

#include <collectives/verify.hpp>
#include <functional>
#include <vector>

namespace collectives {

/// The public function of this name, which tells of each size as soon as it is checked.
void check_all_reduce(const std::vector<int>& devices, const Options& options, const std::vector<std::size_t>& bytes,
                      const std::function<void(const AllReduceCheck&)>& tell);

}  // namespace collectives
