// Programs make a communicator for each group of their ranks: dozens share a device's bound.
#include <algorithm>
#include <tuple>
#include <vector>

#include "comm/impl.hpp"
#include "machines.hpp"
#include "planner/planner.hpp"
#include "test.hpp"
#include "trial.hpp"

using namespace collectives;

namespace {

constexpr std::size_t mib = std::size_t{1} << 20;

/// How many communicators with `pools` pools on a device find room within a bound of `bound` bytes; `first` gets the layout of the first.
std::size_t communicators_within(std::size_t bound, std::size_t pools, Backend backend, kernels::Layout& first) {
  const std::size_t granule = backend == Backend::cuda ? 2 * mib : 64u << 10;
  std::size_t left = bound;
  for (std::size_t made = 0;; ++made) {
    try {
      const kernels::Layout layout = layout_for(share_of(room_of(bound, left), pools, backend), backend, 0);
      if (made == 0) first = layout;
      const std::size_t taken = pools * ((layout.bytes() + 256 + granule - 1) / granule * granule);
      if (taken > left) throw Error(ErrorCode::internal, "a layout takes more than there is");
      left -= taken;
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::out_of_memory);
      CHECK_THAT(error.what(), ContainsSubstring("COLLECTIVES_POOL_BYTES raises the bound"));
      return made;
    }
  }
}

}  // namespace

TEST_CASE("64 communicators of a device find room within the default bound, the first ones with all they can use", "[comm][host][many]") {
  kernels::Layout first;
  CHECK(communicators_within(512 * mib, 1, Backend::cuda, first) >= 64);
  CHECK(first.sentinel_bytes == 93 * 8 * mib / 32);
  CHECK(communicators_within(512 * mib, 2, Backend::host, first) >= 64);
  // Where little memory is free, every granule is used.
  CHECK(communicators_within(32 * mib, 1, Backend::cuda, first) >= 8);
  CHECK(communicators_within(2 * mib, 1, Backend::cuda, first) == 1);
  CHECK(communicators_within(1 * mib, 1, Backend::cuda, first) == 0);
}

TEST_CASE("few ranks that all reach each other have more slots for messages in as much memory, and no other grids or tiles for that", "[comm][host][many]") {
  const int ranks = GENERATE(2, 3, 4);
  CAPTURE(ranks);
  const std::size_t share = 66 * mib;
  const auto meshed_fabric = [](int count) {
    Fabric fabric = fabric_of(machine_of(count), counted(count));
    fabric.multiprocessors = 132;
    return fabric;
  };
  const kernels::Layout others = layout_for(share, Backend::cuda, 0), meshed = layout_for(share, Backend::cuda, 0, slot_shares(meshed_fabric(ranks)));
  CHECK(meshed.bytes() == others.bytes());
  CHECK(layout_for(share, Backend::cuda, 0, slot_shares(meshed_fabric(5))).mail_bytes == others.mail_bytes);
  CHECK(meshed.mail_bytes / static_cast<std::size_t>(ranks - 1) >= 7 * mib / 2);
  const auto planner_with = [&](const kernels::Layout& layout) {
    PlannerOptions options;
    options.sentinel_slot_bytes = layout.sentinel_bytes;
    options.flagged_slot_bytes = layout.flagged_bytes;
    return Planner(meshed_fabric(ranks), options);
  };
  const Planner before = planner_with(others), after = planner_with(meshed);
  for (const Collective collective : {Collective::all_reduce, Collective::reduce_scatter, Collective::all_gather, Collective::all_to_all, Collective::broadcast})
    for (std::size_t bytes = 1024; bytes <= 512 * mib; bytes += bytes / 2) {
      const PlanRequest request{.collective = collective, .count = bytes / 2, .type = DataType::bfloat16};
      const Plan a = before.plan(request), b = after.plan(request);
      CAPTURE(name_of(collective), bytes, to_string(a.choice), a.stages, b.stages);
      CHECK(a.choice == b.choice);
      CHECK(std::tuple(a.blocks, a.threads, a.tile_bytes) == std::tuple(b.blocks, b.threads, b.tile_bytes));
      CHECK(b.stages >= std::min(a.stages, 4));
    }
}

TEST_CASE("what is printed of a machine is what its ranks run where nothing bounds their pools", "[comm][host][many][plans]") {
  Machine pulled = machine_of(4);
  for (Peer& peer : pulled.peers) peer.pulled = peer.from + peer.to == 1;
  for (const Machine& machine : {machine_of(2), machine_of(3), machine_of(4), machine_of(6), pulled, test_machine("pcie_no_peers_8x.json"), test_machine("mixed_islands_7x.json")}) {
    const auto devices = counted(static_cast<int>(machine.gpus().size()));
    const Fabric fabric = fabric_of(machine, devices);
    const Planner run(fabric, planner_options({}, layout_for(512 * mib, Backend::cuda, 0, slot_shares(fabric)))), printed = planner_on(machine, devices);
    for (const DataType type : {DataType::bfloat16, DataType::int32})
      for (std::size_t count = 1024; count <= 64 * mib; count *= 4) {
        const PlanRequest request{.count = count, .type = type};
        const Plan a = run.plan(request), b = printed.plan(request);
        CAPTURE(machine.name, devices.size(), name_of(type), count, a.stages, b.stages, a.tile_bytes, b.tile_bytes);
        CHECK(a.choice == b.choice);
        CHECK(std::tuple(a.wire, a.blocks, a.threads, a.tile_bytes, a.stages, a.wide) == std::tuple(b.wire, b.blocks, b.threads, b.tile_bytes, b.stages, b.wide));
      }
  }
}

TEST_CASE("64 communicators of one process work side by side", "[comm][host][many]") {
  Options options;
  options.backend = Backend::host;
  options.pool_bytes = 512 * mib;
  std::vector<std::vector<Communicator>> all;
  for (int i = 0; i < 64; ++i) all.push_back(Communicator::create_local({0, 1}, options));
  std::vector<float> values(2 * all.size(), 0);
  for (std::size_t i = 0; i < all.size(); ++i)
    for (std::size_t rank = 0; rank < 2; ++rank) {
      float& mine = values[2 * i + rank] = static_cast<float>(i * (rank + 1));
      all[i][rank].all_reduce({&mine, 1, DataType::float32}, {&mine, 1, DataType::float32}, ReduceOp::sum);
    }
  for (auto& ranks : all)
    for (auto& rank : ranks) rank.finish();
  for (std::size_t i = 0; i < values.size(); ++i) CHECK(values[i] == static_cast<float>(i / 2 * 3));
}
