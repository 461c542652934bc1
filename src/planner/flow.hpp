#pragma once

#include <cstdint>
#include <vector>

namespace collectives {

/// A directed graph with whole capacities, and the greatest flow between two of its nodes (Dinic).
class FlowNetwork {
 public:
  explicit FlowNetwork(int nodes) : leaving_(static_cast<std::size_t>(nodes)) {}

  int nodes() const { return static_cast<int>(leaving_.size()); }
  int add_node();
  /// The edge's index, for `set_capacity`.
  int add_edge(int from, int to, std::int64_t capacity);
  void set_capacity(int edge, std::int64_t capacity) { edges_[static_cast<std::size_t>(2 * edge)].capacity = capacity; }

  /// From scratch each time.
  std::int64_t max_flow(int source, int sink);
  /// After `max_flow`: what the source still reaches, which is its side of a least cut.
  std::vector<bool> source_side() const;

 private:
  struct Edge {
    int to;
    std::int64_t capacity;
    std::int64_t left;
  };

  bool find_levels(int source, int sink);
  std::int64_t push(int node, int sink, std::int64_t most);

  std::vector<Edge> edges_;  ///< each beside its reverse
  std::vector<std::vector<int>> leaving_;
  std::vector<int> level_;
  std::vector<std::size_t> next_;
};

}  // namespace collectives
