#include "exec/arguments.hpp"

#include <algorithm>

#include "base/require.hpp"

namespace collectives {
namespace {

/// What ranks must agree on, in 32 bits: two different calls are told apart but for one chance in 2^32.
std::uint32_t fingerprint_of(const Call& call, const Plan& plan) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  const auto mix = [&](std::uint64_t value) {
    for (int byte = 0; byte < 8; ++byte) hash = (hash ^ (value >> 8 * byte & 0xffu)) * 0x100000001b3u;
  };
  mix(call.count);
  mix(static_cast<std::uint64_t>(call.type) << 8 | static_cast<std::uint64_t>(call.op));
  mix(static_cast<std::uint64_t>(plan.choice.algorithm) << 16 | static_cast<std::uint64_t>(plan.choice.arity) << 8 | static_cast<std::uint64_t>(plan.wire));
  mix(static_cast<std::uint64_t>(plan.blocks) << 32 | static_cast<std::uint64_t>(plan.threads));
  mix(static_cast<std::uint64_t>(plan.tile_bytes) << 16 | static_cast<std::uint64_t>(plan.stages) << 2 | plan.direct << 1 | plan.wide);
  return static_cast<std::uint32_t>(hash ^ hash >> 32);
}

bool is_aligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % sizeof(Pack) == 0; }

}  // namespace

void Arguments::fill_program(AlgorithmChoice choice, const Program& program) {
  ensure(program.steps.size() <= kernels::max_steps && program.lanes <= kernels::max_lanes && program.credits <= kernels::max_lanes,
         "a program is longer than the kernel's arguments");
  program_ = {};
  std::size_t edges = 0;
  const auto copy = [&](const std::vector<Edge>& from) {
    for (const Edge& edge : from) {
      ensure(edges < kernels::max_edges, "a program has more edges than the kernel's arguments");
      program_.edge[edges++] = {edge.peer, edge.lane, edge.credit, 0};
    }
  };
  for (std::size_t s = 0; s < program.steps.size(); ++s) {
    const Step& step = program.steps[s];
    program_.step[s] = {.chunk = step.chunk,
                     .own = static_cast<std::uint8_t>(step.own),
                     .store = step.store,
                     .complete = step.complete,
                     .delay = step.delay,
                     .first_edge = static_cast<std::uint8_t>(edges),
                     .receives = static_cast<std::uint8_t>(step.receives.size()),
                     .sends = static_cast<std::uint8_t>(step.sends.size())};
    copy(step.receives);
    copy(step.sends);
  }
  program_.steps = static_cast<std::uint8_t>(program.steps.size());
  program_.max_delay = static_cast<std::uint8_t>(program.max_delay);
  for (std::size_t rank = 0; rank < context_->pools.size(); ++rank) program_.pools[rank] = context_->pools[rank];
  filled_ = choice;
}

void Arguments::fill_call(kernels::CallArgs& args, const Call& call, const Plan& plan, const Program& program) const {
  const std::uint64_t packs = (call.count * size_of(call.type) + sizeof(Pack) - 1) / sizeof(Pack);
  const auto chunks = static_cast<std::uint64_t>(program.chunks);
  const std::uint64_t longest = (packs + chunks - 1) / chunks;
  args.in = call.in;
  args.out = call.out;
  args.count = call.count;
  args.chunk_packs = packs / chunks;
  args.long_chunks = static_cast<std::uint32_t>(packs % chunks);
  args.tile_packs = static_cast<std::uint32_t>(plan.tile_bytes / sizeof(Pack));
  const std::uint64_t wave = static_cast<std::uint64_t>(args.tile_packs) * static_cast<std::uint64_t>(plan.blocks);
  args.tiles = static_cast<std::uint32_t>((longest + wave - 1) / wave);
  args.stages = static_cast<std::uint32_t>(plan.stages);
  args.fingerprint = fingerprint_of(call, plan);
  args.rank = static_cast<std::uint8_t>(context_->rank);
  args.ranks = static_cast<std::uint8_t>(context_->ranks);
  args.in_aligned = is_aligned(call.in);
  args.out_aligned = is_aligned(call.out);
  args.divisor = static_cast<std::uint16_t>(call.op == ReduceOp::avg ? context_->ranks : 1);
  args.op = call.op;
  args.timeout_ns = context_->timeout_ns;
  args.fault = fault_;
  args.layout = context_->layout;
  const std::size_t used = static_cast<std::size_t>(program.lanes) * static_cast<std::size_t>(plan.blocks * plan.stages) * plan.tile_bytes;
  args.wide = plan.wide;
  const std::size_t half = plan.wire == Wire::sentinel ? context_->layout.sentinel_bytes : context_->layout.flagged_bytes;
  ensure(used <= half * (plan.wide ? 2 : 1) && plan.blocks <= kernels::max_blocks && plan.tile_bytes % sizeof(Pack) == 0,
         "a plan does not fit the pool it was made for");
}

const kernels::ProgramArgs& Arguments::program(const Call& call, const Plan& plan, const Program& program) {
  if (filled_ != plan.choice) fill_program(plan.choice, program);
  fill_call(program_, call, plan, program);
  return program_;
}

const kernels::DirectArgs& Arguments::direct(const Call& call, const Plan& plan, const Program& program) {
  ensure(context_->ranks <= kernels::max_direct_ranks, "the direct kernels do not serve so many ranks");
  fill_call(direct_, call, plan, program);
  fill_chunks(call, program.chunks);
  fill_lanes(static_cast<std::uint32_t>(plan.blocks));
  return direct_;
}

void Arguments::fill_chunks(const Call& call, int chunks) {
  const auto elements = static_cast<std::uint32_t>(sizeof(Pack) / size_of(call.type));
  ensure(direct_.count / elements < UINT32_MAX - 1u, "a message for the direct kernels is less than 64 GB");
  for (int k = 0; k < chunks; ++k) {
    const auto c = static_cast<std::uint32_t>(chunks == 1 ? 0 : (context_->rank + k) % chunks);
    const auto packs = static_cast<std::uint32_t>(direct_.chunk_packs);
    direct_.chunk[k] = {c * packs + std::min(c, direct_.long_chunks), packs + (c < direct_.long_chunks)};
  }
  direct_.longest_chunk = static_cast<std::uint32_t>(direct_.chunk_packs) + (direct_.long_chunks != 0);
  const auto whole = static_cast<std::uint32_t>(direct_.count / elements);
  direct_.whole_in = direct_.in_aligned ? whole : 0;
  direct_.whole_out = direct_.out_aligned ? whole : 0;
  direct_.plain = direct_.in_aligned && direct_.out_aligned && direct_.count % elements == 0 && direct_.long_chunks == 0;
}

void Arguments::fill_lanes(std::uint32_t blocks) {
  const int ranks = context_->ranks, own = context_->rank;
  direct_.lane_packs = blocks * direct_.stages * direct_.tile_packs;
  const auto lane = [&](int rank, int index) {
    return reinterpret_cast<Pack*>(context_->pools[static_cast<std::size_t>(rank)]) + static_cast<std::size_t>(index) * direct_.lane_packs;
  };
  for (int k = 1; k < ranks; ++k) {
    const int peer = (own + k) % ranks;
    direct_.operands[k - 1] = lane(peer, own < peer ? own : own - 1);
    direct_.chunks[k - 1] = lane(peer, 2 * (ranks - 1) - k);  // peer's peer ranks - k, behind the ranks - 1 lanes of operands
  }
  direct_.slots = lane(own, 0);
  for (int rank = 0; rank < ranks; ++rank) direct_.pools[rank] = context_->pools[static_cast<std::size_t>(rank)];
  direct_.in_device_memory = context_->pools_in_device_memory;
}

}  // namespace collectives
