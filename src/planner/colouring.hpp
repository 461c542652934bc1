#pragma once

#include <cstdint>
#include <vector>

#include "planner/limits.hpp"

namespace collectives {

using Colour = std::uint64_t;

/// A colour that depends on both, and on which is which.
Colour blend(Colour colour, Colour with);

/// Tells ranks apart, and limits, by what they are and by all that they have to do with, whatever their numbers: what has another
/// colour is not interchangeable. What has the same is, but in graphs more regular than machines are.
class Colouring {
 public:
  /// `flows` are what is known of each ordered pair beside its limits, [from * ranks + to]. `limits` must outlive this.
  Colouring(const Limits& limits, std::vector<Colour> flows);

  Colour of_rank(int rank) const { return ranks_[static_cast<std::size_t>(rank)]; }
  Colour of_limit(int limit) const { return shared_[static_cast<std::size_t>(limit)]; }
  /// The ranks from `first` on, each the next in number of those whose colour comes first once all before it have been singled out.
  /// Two such orders of equally coloured ranks name ranks that are interchangeable, all at once.
  std::vector<int> order_from(int first) const;
  /// Gives a rank a colour of its own, one for each `number`, and colours the others anew.
  void single_out(int rank, int number);

 private:
  void look_ahead();
  void refine();
  std::size_t classes() const;
  void recolour();

  const Limits& limits_;
  std::vector<Colour> flows_;
  std::vector<Colour> ranks_;
  std::vector<Colour> shared_;  ///< of the limits
};

}  // namespace collectives
