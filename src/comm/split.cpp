#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <tuple>

#include "base/require.hpp"
#include "comm/impl.hpp"

#if COLLECTIVES_HAS_CUDA
#include "base/cuda.hpp"
#endif

// Smaller communicators out of a larger one, whose ranks can already write to each other.
namespace collectives {
namespace {

template <typename T>
void send(Post& post, int to, const T& value) {
  std::uint8_t bytes[sizeof value];
  std::memcpy(bytes, &value, sizeof value);
  post.send(to, bytes);
}

template <typename T>
T receive(Post& post, int from) {
  static_assert(std::is_trivially_copyable_v<T>);
  T value{};
  std::memcpy(&value, post.receive(from, sizeof value).data(), sizeof value);
  return value;
}

struct Wish {
  std::int32_t color;
  std::int32_t key;
};

}  // namespace

Communicator Communicator::Impl::gather_members(std::span<const int> members, const Options& options, const RankMasks& apart) {
  require(!members.empty(), "a subgroup of nobody: expected at least this rank");
  for (std::size_t m = 0; m < members.size(); ++m) {
    const bool again = std::find(members.begin(), members.begin() + static_cast<std::ptrdiff_t>(m), members[m]) != members.begin() + static_cast<std::ptrdiff_t>(m);
    require(members[m] >= 0 && members[m] < size && !again, [&] { return fmt::format("a subgroup names rank {}: expected each of its ranks once, 0 to {}", members[m], size - 1); });
  }
  const auto place = std::find(members.begin(), members.end(), rank);
  require(place != members.end(), [&] { return fmt::format("rank {} is not of the subgroup that it asks for", rank); });
  UniqueId id;
  if (place == members.begin()) {
    id = make_unique_id();
    for (const int member : members.subspan(1)) send(*post, member, id);
  } else {
    id = receive<UniqueId>(*post, members[0]);
  }
#if COLLECTIVES_HAS_CUDA
  std::optional<DeviceScope> scope;
  if (backend == Backend::cuda) scope.emplace(device);
#endif
  Options same = options;
  same.backend = backend;
  for (std::size_t b = 0; b < members.size(); ++b)
    for (std::size_t a = 0; a < b; ++a)
      if ((apart[static_cast<std::size_t>(members[a])] >> members[b] & 1u) != 0) same.refused.emplace_back(a, b);
  return create(id, static_cast<int>(place - members.begin()), static_cast<int>(members.size()), same);
}

Communicator Communicator::subgroup(std::span<const int> members, const Options& options) {
  return impl_->gather_members(members, options, impl_->demotions.apart());
}

void Communicator::renew(const Options& options) {
  std::vector<int> all(static_cast<std::size_t>(size()));
  std::iota(all.begin(), all.end(), 0);
  // The old one goes when the new one stands on every rank.
  *this = impl_->gather_members(all, options, {});
}

std::optional<Communicator> Communicator::split(int color, int key, const Options& options) {
  const Wish mine{color, key};
  std::vector<std::tuple<int, int>> group;  // by key, then by rank
  for (int peer = 0; peer < size(); ++peer)
    if (peer != rank()) send(*impl_->post, peer, mine);
  for (int peer = 0; peer < size(); ++peer) {
    const Wish theirs = peer == rank() ? mine : receive<Wish>(*impl_->post, peer);
    if (theirs.color == color) group.emplace_back(theirs.key, peer);
  }
  if (color < 0) return std::nullopt;
  std::sort(group.begin(), group.end());
  std::vector<int> members;
  for (const auto& [member_key, peer] : group) members.push_back(peer);
  return subgroup(members, options);
}

}  // namespace collectives
