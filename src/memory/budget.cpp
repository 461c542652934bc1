#include "memory/budget.hpp"

#include <fmt/format.h>

#include <map>
#include <mutex>
#include <set>
#include <string>

#include "base/require.hpp"

namespace collectives {
namespace {

struct Account {
  std::size_t committed = 0;
  std::multiset<std::size_t> bounds;
};

/// Process-wide because the bound is: communicators know nothing of each other. Never destroyed, so that a pool may outlive
/// every other static object.
struct Accounts {
  std::mutex mutex;
  std::map<std::pair<bool, int>, Account> by_place;
};

Accounts& accounts() {
  static auto* all = new Accounts;
  return *all;
}

std::string place_name(const std::pair<bool, int>& place) {
  if (place.first) return fmt::format("in pinned memory for device {}", place.second);
  return place.second < 0 ? "in host memory" : fmt::format("on device {}", place.second);
}

}  // namespace

Budget::Budget(PoolKind kind, int device, std::size_t bound)
    : place_(kind == PoolKind::pinned, kind == PoolKind::host ? -1 : device), bound_(bound) {
  const std::lock_guard lock(accounts().mutex);
  accounts().by_place[place_].bounds.insert(bound);
}

Budget::~Budget() {
  const std::lock_guard lock(accounts().mutex);
  auto& account = accounts().by_place[place_];
  account.committed -= taken_;
  account.bounds.erase(account.bounds.find(bound_));
}

void Budget::take(std::size_t bytes) {
  const std::lock_guard lock(accounts().mutex);
  auto& account = accounts().by_place[place_];
  const std::size_t largest = *account.bounds.rbegin();
  require(
      bytes <= bound_ - taken_ && account.committed <= largest && bytes <= largest - account.committed,
      [&] {
        return fmt::format(
            "a pool {} needs {} bytes: it holds {} of its bound of {}, other pools of this process hold {} and all together "
            "may hold {}; COLLECTIVES_POOL_BYTES raises the bound",
            place_name(place_), bytes, taken_, bound_, account.committed - taken_, largest);
      },
      ErrorCode::out_of_memory);
  account.committed += bytes;
  taken_ += bytes;
}

void Budget::give_back(std::size_t bytes) {
  const std::lock_guard lock(accounts().mutex);
  accounts().by_place[place_].committed -= bytes;
  taken_ -= bytes;
}

}  // namespace collectives
