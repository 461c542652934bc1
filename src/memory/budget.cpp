#include "memory/budget.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <set>
#include <string>

#include "base/require.hpp"

namespace collectives {
namespace {

using PoolPlace = std::pair<bool, int>;  // pinned or not, device

struct Account {
  std::size_t committed = 0;
  std::multiset<std::size_t> bounds;
};

/// Process-wide because the bound is: communicators know nothing of each other. Never destroyed, so that a pool may outlive
/// every other static object.
struct Accounts {
  std::mutex mutex;
  std::map<PoolPlace, Account> by_place;
};

Accounts& accounts() {
  static auto* all = new Accounts;
  return *all;
}

PoolPlace place_of(PoolKind kind, int device) { return {kind == PoolKind::pinned, kind == PoolKind::host ? -1 : device}; }

std::string place_name(const PoolPlace& place) {
  if (place.first) return fmt::format("in pinned memory for device {}", place.second);
  return place.second < 0 ? "in host memory" : fmt::format("on device {}", place.second);
}

}  // namespace

Budget::Budget(PoolKind kind, int device, std::size_t bound)
    : place_(place_of(kind, device)), bound_(bound) {
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

std::size_t room_for(PoolKind kind, int device, std::size_t bound) {
  const std::lock_guard lock(accounts().mutex);
  const auto& account = accounts().by_place[place_of(kind, device)];
  const std::size_t largest = account.bounds.empty() ? bound : std::max(bound, *account.bounds.rbegin());
  return std::min(bound, largest - std::min(largest, account.committed));
}

bool is_shared_place(PoolKind kind, int device) {
  const std::lock_guard lock(accounts().mutex);
  return accounts().by_place[place_of(kind, device)].committed > 0;
}

}  // namespace collectives
