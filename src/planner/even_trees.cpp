// Two ranks are joined as many times as their limits hold the weight of a tree both ways, and the joints are dealt out to trees so that
// none has a cycle (Edmonds' partition of a matroid; Roskind and Tarjan for trees): one that closes a cycle in every tree takes the
// place of another on such a cycle, which goes on to another tree, by the shortest chain of such moves. What was dealt out stays so,
// and no order of dealing ends with fewer. Where joints share a limit, those with the shortest ways are dealt out first, and the
// others have what is left.
#include "planner/even_trees.hpp"

#include <algorithm>
#include <numeric>

#include "base/integers.hpp"

namespace collectives {
namespace {

constexpr int nothing = -1;
constexpr double rounding = 1e-9;

class EvenTrees {
 public:
  EvenTrees(const Limits& limits, int count, double mb_per_s)
      : limits_(limits), count_(count), mb_per_s_(mb_per_s), beside_(at(count * limits.ranks())), via_(at(limits.ranks())) {
    for (int i = 0; i < limits.count(); ++i) room_.push_back(limits[i].mb_per_s * (1 + rounding));
  }

  std::vector<TreePair> run() {
    auto pairs = pairs_by_way();
    if (!may_do(pairs)) return {};
    while (!pairs.empty() && !is_done()) std::erase_if(pairs, [this](Two two) { return is_done() || !join(two); });
    std::vector<TreePair> trees;
    for (int tree = 0; tree < count_ && is_done(); ++tree) trees.push_back(pair_of(tree));
    return trees;
  }

 private:
  struct Two {
    int a, b;
  };
  struct Joint {
    Two two;
    int tree;
  };
  struct Neighbour {
    int rank, joint;
  };

  int ranks() const { return limits_.ranks(); }
  bool is_done() const { return joints_.size() == at(count_ * (ranks() - 1)); }
  std::vector<Neighbour>& beside(int tree, int rank) { return beside_[at(tree * ranks() + rank)]; }

  std::vector<Two> pairs_by_way() const {
    std::vector<Two> pairs;
    for (int a = 0; a < ranks(); ++a)
      for (int b = a + 1; b < ranks(); ++b) pairs.push_back({a, b});
    const auto way = [this](Two two) { return limits_.on(two.a, two.b).size() + limits_.on(two.b, two.a).size(); };
    std::stable_sort(pairs.begin(), pairs.end(), [&](Two x, Two y) { return way(x) < way(y); });
    return pairs;
  }

  /// False where there are too few joints at a rank, or in all, even if none shared a limit.
  bool may_do(const std::vector<Two>& pairs) const {
    std::vector<int> joints(at(ranks()), 0);
    for (const Two two : pairs) {
      double most = count_;
      for (const auto way : {limits_.on(two.a, two.b), limits_.on(two.b, two.a)})
        for (const int limit : way) most = std::min(most, room_[at(limit)] / mb_per_s_);
      joints[at(two.a)] += static_cast<int>(most);
      joints[at(two.b)] += static_cast<int>(most);
    }
    return *std::min_element(joints.begin(), joints.end()) >= count_ &&
           std::accumulate(joints.begin(), joints.end(), 0) >= 2 * count_ * (ranks() - 1);
  }

  /// False if it has no room, or would be a joint too many among some ranks; then it always will.
  bool join(Two two) {
    const bool fits = take(two, mb_per_s_);
    if (fits && deal(two)) return true;
    take(two, -mb_per_s_);
    return false;
  }

  /// Is there room for that?
  bool take(Two two, double mb_per_s) {
    bool fits = true;
    for (const auto way : {limits_.on(two.a, two.b), limits_.on(two.b, two.a)})
      for (const int limit : way) fits = (room_[at(limit)] -= mb_per_s) >= 0 && fits;
    return fits;
  }

  bool deal(Two two) {
    std::vector<int> moved_by(joints_.size() + 1, nothing);
    std::vector<int> queue{static_cast<int>(joints_.size())};
    joints_.push_back({two, nothing});
    for (std::size_t next = 0; next < queue.size(); ++next) {
      const int joint = queue[next];
      for (int tree = 0; tree < count_; ++tree) {
        if (tree == joints_[at(joint)].tree) continue;
        if (!find_path(tree, joints_[at(joint)].two)) {
          move(joint, tree, moved_by);
          return true;
        }
        for (int rank = joints_[at(joint)].two.b; via_[at(rank)].joint != nothing; rank = via_[at(rank)].rank) {
          const int other = via_[at(rank)].joint;
          if (other == queue[0] || moved_by[at(other)] != nothing) continue;
          moved_by[at(other)] = joint;
          queue.push_back(other);
        }
      }
    }
    joints_.pop_back();
    return false;
  }

  /// From b back to a, each rank's neighbour on the way and the joint to it.
  bool find_path(int tree, Two two) {
    std::fill(via_.begin(), via_.end(), Neighbour{nothing, nothing});
    via_[at(two.a)].rank = two.a;
    front_.assign(1, two.a);
    for (std::size_t next = 0; next < front_.size() && via_[at(two.b)].rank == nothing; ++next)
      for (const Neighbour& neighbour : beside(tree, front_[next])) {
        if (via_[at(neighbour.rank)].rank != nothing) continue;
        via_[at(neighbour.rank)] = {front_[next], neighbour.joint};
        front_.push_back(neighbour.rank);
      }
    return via_[at(two.b)].rank != nothing;
  }

  /// Into this tree, and what made it go into the tree that it leaves, and so on.
  void move(int joint, int tree, const std::vector<int>& moved_by) {
    for (; joint != nothing; joint = moved_by[at(joint)]) {
      auto& [two, own] = joints_[at(joint)];
      const int left = own;
      const auto is_this = [&](const Neighbour& neighbour) { return neighbour.joint == joint; };
      for (const int rank : {two.a, two.b})
        if (left != nothing) std::erase_if(beside(left, rank), is_this);
      beside(tree, two.a).push_back({two.b, joint});
      beside(tree, two.b).push_back({two.a, joint});
      own = tree;
      tree = left;
    }
  }

  /// From its root on, the rank from which it is least deep.
  TreePair pair_of(int tree) {
    std::vector<int> best;
    int least = ranks();
    for (int root = 0; root < ranks(); ++root) {
      std::vector<int> parent(at(ranks()), no_parent), depth(at(ranks()), 0);
      std::vector<int> front{root};
      for (std::size_t next = 0; next < front.size(); ++next)
        for (const Neighbour& neighbour : beside(tree, front[next])) {
          if (neighbour.rank == root || parent[at(front[next])] == neighbour.rank) continue;
          parent[at(neighbour.rank)] = front[next];
          depth[at(neighbour.rank)] = depth[at(front[next])] + 1;
          front.push_back(neighbour.rank);
        }
      if (depth[at(front.back())] >= least) continue;
      least = depth[at(front.back())];
      best = std::move(parent);
    }
    return {.up = best, .down = best, .mb_per_s = mb_per_s_};
  }

  const Limits& limits_;
  const int count_;
  const double mb_per_s_;
  std::vector<double> room_;  ///< MB/s, by limit
  std::vector<Joint> joints_;
  std::vector<std::vector<Neighbour>> beside_;  ///< [tree * ranks + rank]
  std::vector<Neighbour> via_;                  ///< by rank
  std::vector<int> front_;
};

}  // namespace

std::vector<TreePair> even_trees(const Limits& limits, int count, double mb_per_s) { return EvenTrees(limits, count, mb_per_s).run(); }

}  // namespace collectives
