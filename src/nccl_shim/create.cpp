#include "nccl_shim/create.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>

#include "base/env.hpp"
#include "base/log.hpp"
#include "base/require.hpp"
#include "nccl_shim/counts.hpp"
#include "nccl_shim/group.hpp"
#include "nccl_shim/nccl_id.hpp"
#include "nccl_shim/notice.hpp"
#include "nccl_shim/place.hpp"
#include "nccl_shim/real.hpp"

namespace collectives {
namespace {

/// How long ranks of one host wait for each other where some may be on another and have gone to NCCL at once.
constexpr std::uint32_t patience_ms = 60'000;

Options options_for(const DropInConfig& config) {
  Options options;
  options.max_blocks = config.max_ctas;
  return options;
}

bool on_several_hosts(const Launch& launch) { return launch.processes > launch.on_this_host; }

/// Why the real library has to serve this communicator; empty if it need not. The same on every rank, but for `id.host`.
std::string why_not_here(int size, const DropInId& id) {
  const Launch launch = read_launch();
  if (size > max_ranks) return fmt::format("{} ranks are more than {}", size, max_ranks);
  if (id.host != 0 && id.host != this_host()) return "its id was made on another host";
  if (on_several_hosts(launch) && size > launch.on_this_host) return fmt::format("{} ranks are more than the {} that were started on this host", size, launch.on_this_host);
  return {};
}

/// The real library's id: from ours, or left by rank 0 for those of its host.
struct RealId {
  NcclId id{};
  std::optional<Notice> notice;
};

void find_real_id(RealId& found, const NcclFunctions& real, const DropInId& id, const std::string& identity, int rank) {
  if (id.real) {
    found.id = *id.real;
    return;
  }
  require(id.host == 0 || id.host == this_host(),
          "this unique id was made on another host: ranks of several hosts need NCCL, so set COLLECTIVES_NCCL_FALLBACK to its libnccl.so.2 in every process, before ncclGetUniqueId",
          ErrorCode::unsupported);
  const std::string name = identity + "/nccl";
  if (rank == 0) {
    real_check(real, real.get_unique_id(&found.id));
    found.notice.emplace(name, std::span(reinterpret_cast<const std::uint8_t*>(&found.id), sizeof found.id));
    return;
  }
  const auto bytes = read_notice(name, read_environment().timeout_ms);
  ensure(bytes.size() == sizeof found.id, "an id of NCCL has 128 bytes");
  std::memcpy(&found.id, bytes.data(), sizeof found.id);
}

void connect_real(DropInRank& rank, const DropInId& id) {
  const NcclFunctions& real = real_nccl();
  RealId found;
  find_real_id(found, real, id, rank.identity(), rank.rank());
  NcclComm* comm = nullptr;
  NcclConfig place;
  if (NcclConfig* config = rank.config().for_real(place); config != nullptr && real.comm_init_rank_config != nullptr)
    real_check(real, real.comm_init_rank_config(&comm, rank.size(), found.id, rank.rank(), config));
  else
    real_check(real, real.comm_init_rank(&comm, rank.size(), found.id, rank.rank()));
  rank.take(real, comm);
}

/// Leaves a communicator to the real library, and says why.
void leave_to_real(DropInRank& rank, const DropInId& id, const std::string& reason) {
  try {
    connect_real(rank, id);
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("libcollectives does not serve this communicator: {}; {}", reason, error.what()));
  }
  if (auto* counts = DropInCounts::if_wanted()) counts->add_fallback(reason);
  log(rank.rank() == 0 ? LogLevel::warn : LogLevel::info, "NCCL serves a communicator of {} ranks: {}", rank.size(), reason);
}

/// Is this a failure after which NCCL is worth a try?
bool may_be_elsewhere(const Error& error, const DropInId& id) {
  switch (error.code()) {
    case ErrorCode::unsupported: return has_real_nccl() && read_environment().p2p.mode != PeerMode::p2p;  // p2p is that or an error
    case ErrorCode::timeout:
    case ErrorCode::peer_lost:
    case ErrorCode::invalid_argument: return id.real && has_real_nccl();
    default: return false;
  }
}

void connect(DropInRank& rank, const DropInId& id) {
  if (const std::string reason = why_not_here(rank.size(), id); !reason.empty()) return leave_to_real(rank, id, reason);
  Options options = options_for(rank.config());
  if (id.real) options.timeout_ms = std::min(patience_ms, read_environment().timeout_ms);
  try {
    rank.take(Communicator::create(id.meeting, rank.rank(), rank.size(), options));
  } catch (const Error& error) {
    if (!may_be_elsewhere(error, id)) throw;
    leave_to_real(rank, id, error.what());
  }
}

std::string text_of(const NcclId& id) { return std::string(id.bytes, sizeof id.bytes); }

NcclComm*& handle_place(NcclComm** handle) {
  require(handle != nullptr, "the place for the new communicator is null");
  return *handle = nullptr;
}

/// Has a communicator made, in the place of `handle`.
NcclResult begin(DropInCreation creation, NcclComm** handle) {
  creation.handle = handle;
  if (creation.made) *handle = make_handle(creation.made);
  return DropInGroup::of_this_thread().add(std::move(creation));
}

/// A communicator that the real library made from one of its own, or none.
void adopt(DropInRank& child, const NcclFunctions& real, NcclComm* comm, const std::string& identity) {
  ensure(comm != nullptr, "NCCL made no communicator");
  int rank = 0, size = 0;
  real_check(real, real.comm_user_rank(comm, &rank));
  real_check(real, real.comm_count(comm, &size));
  child.place(rank, size, identity);
  child.take(real, comm);
}

void split_now(DropInRank& parent, DropInRank* child, int color, int key, const DropInConfig& config, const std::string& identity) {
  if (NcclComm* theirs = parent.real_comm_now()) {
    NcclComm* comm = nullptr;
    NcclConfig place;
    real_check(parent.real(), required(parent.real().comm_split, "ncclCommSplit")(theirs, color, key, &comm, config.for_real(place)));
    if (child != nullptr) adopt(*child, parent.real(), comm, identity);
    return;
  }
  auto made = parent.native().split(color, key, options_for(config));
  ensure(made.has_value() == (child != nullptr), "who has a color has a communicator");
  if (!child) return;
  child->place(made->rank(), made->size(), identity);
  child->take(std::move(*made));
}

/// Those who remain, by their old ranks.
std::vector<int> survivors(const DropInRank& parent, const int* excluded, int count) {
  require(excluded != nullptr && count > 0, "no ranks to exclude: expected at least one");
  std::vector<bool> stays(static_cast<std::size_t>(parent.size()), true);
  for (int i = 0; i < count; ++i) {
    require(excluded[i] >= 0 && excluded[i] < parent.size(), [&] { return fmt::format("rank {} to exclude: expected 0 to {}", excluded[i], parent.size() - 1); });
    require(excluded[i] != parent.rank(), [&] { return fmt::format("rank {} excludes itself: expected only those who stay to call", excluded[i]); });
    stays[static_cast<std::size_t>(excluded[i])] = false;
  }
  std::vector<int> ranks;
  for (int rank = 0; rank < parent.size(); ++rank)
    if (stays[static_cast<std::size_t>(rank)]) ranks.push_back(rank);
  return ranks;
}

/// Those who stay need nothing of the old communicator but its name: it may be dead, and the others do not take part.
void meet_again(DropInRank& child) {
  DropInId id{{}, this_host(), {}};
  std::optional<Notice> notice;
  if (child.rank() == 0) {
    id.meeting = make_unique_id();
    notice.emplace(child.identity(), std::span(reinterpret_cast<const std::uint8_t*>(id.meeting.bytes.data()), id.meeting.bytes.size()));
  } else {
    const auto bytes = read_notice(child.identity(), read_environment().timeout_ms);
    ensure(bytes.size() == id.meeting.bytes.size(), "a unique id has 128 bytes");
    std::copy(bytes.begin(), bytes.end(), id.meeting.bytes.begin());
  }
  child.take(Communicator::create(id.meeting, child.rank(), child.size(), options_for(child.config())));
}

std::string fresh_identity() {
  static std::atomic<unsigned> serial{0};
  return fmt::format("{:x}-{}-{}-{}", this_host(), ::getpid(), serial++, std::chrono::steady_clock::now().time_since_epoch().count());
}

}  // namespace

NcclId make_nccl_id() {
  DropInId id{make_unique_id(), this_host(), {}};
  // NCCL's id costs a listening port and a thread, so it comes along only where it may be needed.
  if ((on_several_hosts(read_launch()) || !read_environment().nccl_fallback.empty()) && has_real_nccl())
    real_check(real_nccl(), real_nccl().get_unique_id(&id.real.emplace()));
  return write_nccl_id(id);
}

NcclResult create_rank(NcclComm** comm, int ranks, const NcclId& id, int rank, const NcclConfig* config) {
  NcclComm*& handle = handle_place(comm);
  require(ranks >= 1, [&] { return fmt::format("{} ranks: expected at least 1", ranks); });
  require(rank >= 0 && rank < ranks, [&] { return fmt::format("rank {} of {}: expected 0 to {}", rank, ranks, ranks - 1); });
  const DropInConfig known = read_config(config);
  const DropInId meeting = read_nccl_id(id);
  const int device = current_device();
  auto made = std::make_shared<DropInRank>(rank, ranks, device, known, text_of(id));
  return begin({.made = made, .parent = {}, .device = device, .blocking = known.blocking, .make = [made, meeting] { connect(*made, meeting); }}, &handle);
}

NcclResult create_all_ranks(NcclComm** comms, int count, const int* devices) {
  require(comms != nullptr, "the array of communicators to fill is null");
  require(count >= 1, [&] { return fmt::format("{} devices: expected at least 1", count); });
  std::vector<int> places;
  for (int i = 0; i < count; ++i) places.push_back(devices != nullptr ? devices[i] : i);
  const std::string identity = fresh_identity();
  std::vector<std::shared_ptr<DropInRank>> made;
  for (int i = 0; i < count; ++i) made.push_back(std::make_shared<DropInRank>(i, count, places[static_cast<std::size_t>(i)], DropInConfig{}, identity));
  if (count > max_ranks) {
    const NcclFunctions& real = real_nccl();
    const std::string reason = fmt::format("{} ranks are more than {}", count, max_ranks);
    log(LogLevel::warn, "NCCL serves a communicator of {} ranks: {}", count, reason);
    if (auto* counts = DropInCounts::if_wanted()) counts->add_fallback(reason);
    std::vector<NcclComm*> theirs(static_cast<std::size_t>(count));
    real_check(real, required(real.comm_init_all, "ncclCommInitAll")(theirs.data(), count, devices));
    for (std::size_t i = 0; i < theirs.size(); ++i) made[i]->take(real, theirs[i]);
  } else {
    auto ranks = Communicator::create_local(places);
    for (std::size_t i = 0; i < ranks.size(); ++i) made[i]->take(std::move(ranks[i]));
  }
  for (auto& rank : made) *comms++ = make_handle(std::move(rank));
  return nccl_success;
}

NcclResult split_rank(const std::shared_ptr<DropInRank>& parent, int color, int key, NcclComm** made, const NcclConfig* config) {
  NcclComm*& handle = handle_place(made);
  require(color >= nccl_no_color, [&] { return fmt::format("color {}: expected 0 or more, or NCCL_SPLIT_NOCOLOR", color); });
  parent->expect_ready();
  const DropInConfig known = read_config(config, parent->config());
  const std::string identity = fmt::format("{}/split {} {}", parent->identity(), parent->next_generation(), color);
  std::shared_ptr<DropInRank> child;
  if (color != nccl_no_color) child = std::make_shared<DropInRank>(0, 1, parent->device(), known, identity);
  return begin({.made = child,
                .parent = parent,
                .device = parent->device(),
                .blocking = known.blocking,
                .make = [parent, child, color, key, known, identity] { split_now(*parent, child.get(), color, key, known, identity); }},
               &handle);
}

NcclResult shrink_rank(const std::shared_ptr<DropInRank>& parent, const int* excluded, int excluded_count, NcclComm** made, const NcclConfig* config, int flags) {
  NcclComm*& handle = handle_place(made);
  require(flags == nccl_shrink_default || flags == nccl_shrink_abort, [&] { return fmt::format("shrink flags {}: expected 0 or 1", flags); });
  parent->expect_made();
  const std::vector<int> ranks = survivors(*parent, excluded, excluded_count);
  const DropInConfig known = read_config(config, parent->config());
  if (flags == nccl_shrink_abort)
    parent->abort();
  else if (!parent->is_revoked())
    parent->expect_ready();
  std::string identity = fmt::format("{}/shrink {}", parent->identity(), parent->next_generation());
  for (const int stays : ranks) identity += fmt::format(" {}", stays);
  const int rank = static_cast<int>(std::find(ranks.begin(), ranks.end(), parent->rank()) - ranks.begin());
  auto child = std::make_shared<DropInRank>(rank, static_cast<int>(ranks.size()), parent->device(), known, identity);
  const std::vector<int> list(excluded, excluded + excluded_count);
  const auto make = [parent, child, list, flags, known, identity] {
    NcclComm* theirs = parent->real_comm_now();
    if (theirs == nullptr) return meet_again(*child);
    std::vector<int> ranks_to_exclude = list;
    NcclComm* comm = nullptr;
    NcclConfig place;
    real_check(parent->real(), required(parent->real().comm_shrink, "ncclCommShrink")(theirs, ranks_to_exclude.data(), static_cast<int>(list.size()), &comm, known.for_real(place), flags));
    adopt(*child, parent->real(), comm, identity);
  };
  return begin({.made = child, .parent = parent, .device = parent->device(), .blocking = known.blocking, .make = make}, &handle);
}

}  // namespace collectives
