#pragma once

#include <algorithm>
#include <cstddef>
#include <thread>
#include <vector>

namespace collectives {

/// Calls body(begin, end) for parts of 0 to count, together all of it, on as many threads as that is worth. A GPU sums nine million elements in
/// microseconds, of which one thread of the host takes seconds to say what they should be.
template <typename Body>
void in_parts(std::size_t count, Body body) {
  constexpr std::size_t worth_a_thread = std::size_t{1} << 16, most = 16;
  const std::size_t parts = std::clamp<std::size_t>(std::min<std::size_t>(count / worth_a_thread, std::thread::hardware_concurrency()), 1, most);
  std::vector<std::jthread> others;
  for (std::size_t part = 1; part < parts; ++part) others.emplace_back([&body, count, part, parts] { body(count * part / parts, count * (part + 1) / parts); });
  body(std::size_t{0}, count / parts);
}

}  // namespace collectives
