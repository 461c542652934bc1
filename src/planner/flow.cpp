#include "planner/flow.hpp"

#include <algorithm>
#include <limits>

#include "base/integers.hpp"

namespace collectives {
int FlowNetwork::add_node() {
  leaving_.emplace_back();
  return nodes() - 1;
}

int FlowNetwork::add_edge(int from, int to, std::int64_t capacity) {
  leaving_[at(from)].push_back(static_cast<int>(edges_.size()));
  edges_.push_back({to, capacity, 0});
  leaving_[at(to)].push_back(static_cast<int>(edges_.size()));
  edges_.push_back({from, 0, 0});
  return static_cast<int>(edges_.size()) / 2 - 1;
}

std::int64_t FlowNetwork::max_flow(int source, int sink) {
  for (Edge& edge : edges_) edge.left = edge.capacity;
  std::int64_t total = 0;
  level_.assign(leaving_.size(), -1);
  while (find_levels(source, sink)) {
    next_.assign(leaving_.size(), 0);
    while (const std::int64_t pushed = push(source, sink, std::numeric_limits<std::int64_t>::max())) total += pushed;
  }
  return total;
}

// The search that finds no way to the sink leaves a level on exactly what the source reaches.
std::vector<bool> FlowNetwork::source_side() const {
  std::vector<bool> side;
  for (const int level : level_) side.push_back(level >= 0);
  return side;
}

bool FlowNetwork::find_levels(int source, int sink) {
  std::fill(level_.begin(), level_.end(), -1);
  level_[at(source)] = 0;
  std::vector<int> front{source};
  for (std::size_t i = 0; i < front.size(); ++i)
    for (const int index : leaving_[at(front[i])]) {
      const Edge& edge = edges_[at(index)];
      if (edge.left == 0 || level_[at(edge.to)] >= 0) continue;
      level_[at(edge.to)] = level_[at(front[i])] + 1;
      front.push_back(edge.to);
    }
  return level_[at(sink)] >= 0;
}

std::int64_t FlowNetwork::push(int node, int sink, std::int64_t most) {
  if (node == sink) return most;
  for (std::size_t& i = next_[at(node)]; i < leaving_[at(node)].size(); ++i) {
    const int index = leaving_[at(node)][i];
    Edge& edge = edges_[at(index)];
    if (edge.left == 0 || level_[at(edge.to)] != level_[at(node)] + 1) continue;
    const std::int64_t pushed = push(edge.to, sink, std::min(most, edge.left));
    if (pushed == 0) continue;
    edges_[at(index)].left -= pushed;
    edges_[at(index ^ 1)].left += pushed;
    return pushed;
  }
  return 0;
}

}  // namespace collectives
