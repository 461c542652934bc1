#include "exec/arguments.hpp"

#include <algorithm>

#include "base/require.hpp"
#include "exec/regions.hpp"
#include "planner/shape.hpp"

namespace collectives {
namespace {

bool is_aligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % sizeof(Pack) == 0; }

/// FNV-1a over words.
class Hash {
 public:
  Hash& mix(std::uint64_t value) {
    for (int byte = 0; byte < 8; ++byte) hash_ = (hash_ ^ (value >> 8 * byte & 0xffu)) * 0x100000001b3u;
    return *this;
  }
  std::uint32_t low() const { return static_cast<std::uint32_t>(hash_ ^ hash_ >> 32); }

 private:
  std::uint64_t hash_ = 0xcbf29ce484222325u;
};

/// What ranks must agree on, in 32 bits: two different calls are told apart but for one chance in 2^32.
std::uint32_t fingerprint_of(const Call& call, const Plan& plan, int ranks) {
  Hash hash;
  hash.mix(call.count);
  hash.mix(call.plans);
  hash.mix(static_cast<std::uint64_t>(call.collective) << 24 | static_cast<std::uint64_t>(call.root) << 16);
  hash.mix(static_cast<std::uint64_t>(call.type) << 8 | static_cast<std::uint64_t>(call.op));
  hash.mix(static_cast<std::uint64_t>(plan.choice.algorithm) << 16 | static_cast<std::uint64_t>(plan.choice.arity) << 8 | static_cast<std::uint64_t>(plan.wire));
  hash.mix(static_cast<std::uint64_t>(plan.crews) << 48 | static_cast<std::uint64_t>(plan.blocks) << 32 | static_cast<std::uint64_t>(plan.threads));
  hash.mix(static_cast<std::uint64_t>(plan.tile_bytes) << 16 | static_cast<std::uint64_t>(plan.stages) << 3 | plan.copies << 2 | plan.direct << 1 | plan.wide);
  hash.mix(static_cast<std::uint64_t>(call.factor.given != Factor::none) << 1 | call.carried);
  if (is_cut_by_part(call.collective))
    for (int rank = 0; rank < ranks; ++rank) hash.mix(call.parts[static_cast<std::size_t>(rank)].in_count);
  return hash.low();
}

/// What a block moves at a time of a chunk that has as many tiles as the longest: no more than a slot, whole lines of the cache
/// where it is longer than one.
std::uint32_t tile_packs_for(std::size_t packs, const kernels::CallArgs& args, int blocks) {
  constexpr std::size_t line = 8;
  const std::size_t tile = divide_up(packs, std::size_t{args.tiles} * static_cast<std::size_t>(blocks));
  return static_cast<std::uint32_t>(tile < line ? tile : std::min<std::size_t>(divide_up(tile, line) * line, args.tile_packs));
}

}  // namespace

void Arguments::fill_program(const Program& program) {
  ensure(program.steps.size() <= kernels::max_steps && program.lanes <= max_lanes && program.credits <= max_lanes,
         "a program is longer than the kernel's arguments");
  program_ = {};
  regions_ = 0;
  const auto region_for = [&](std::uint8_t chunk) {
    const auto end = chunks_.begin() + regions_;
    const auto found = std::find(chunks_.begin(), end, chunk);
    if (found != end) return static_cast<std::uint8_t>(found - chunks_.begin());
    ensure(regions_ < kernels::max_regions, "a program has more regions than the kernel's arguments");
    chunks_[static_cast<std::size_t>(regions_)] = chunk;
    return static_cast<std::uint8_t>(regions_++);
  };
  std::size_t edges = 0;
  const auto copy = [&](const Edge& edge, bool repeats) {
    ensure(edges < kernels::max_edges, "a program has more edges than the kernel's arguments");
    ensure(edge.tells_in_common() || (context_->out_of_reach >> edge.peer & 1u) == 0, "a program writes into the pool of a rank that is out of reach");
    program_.edge[edges++] = {edge.peer, edge.lane, edge.credit, edge.row, edge.common, edge.offered, repeats};
  };
  for (std::size_t s = 0; s < program.steps.size(); ++s) {
    const Step& step = program.steps[s];
    program_.step[s] = {.region = region_for(step.chunk),
                     .own = static_cast<std::uint8_t>(step.own),
                     .store = step.store,
                     .complete = step.complete,
                     .delay = step.delay,
                     .first_edge = static_cast<std::uint8_t>(edges),
                     .receives = static_cast<std::uint8_t>(step.receives.size()),
                     .sends = static_cast<std::uint8_t>(step.sends.size())};
    for (const Edge& edge : step.receives) copy(edge, false);
    for (std::size_t send = 0; send < step.sends.size(); ++send) copy(step.sends[send], repeats(step, send));
  }
  program_.steps = static_cast<std::uint8_t>(program.steps.size());
  program_.max_delay = static_cast<std::uint8_t>(program.max_delay);
  std::copy(context_->pools.begin(), context_->pools.end(), program_.pools);
  std::copy(context_->common.begin(), context_->common.end(), program_.common);
  filled_ = &program;
}

void Arguments::fill_ranks(kernels::CallArgs& args, const Call& call, const Plan& plan) const {
  args.fingerprint = fingerprint_of(call, plan, context_->ranks);
  args.rank = static_cast<std::uint8_t>(context_->rank);
  args.ranks = static_cast<std::uint8_t>(context_->ranks);
  args.divisor = static_cast<std::uint16_t>(call.op == ReduceOp::avg ? context_->ranks : 1);
  args.op = call.op;
  args.timeout_ns = context_->timeout_ns;
  args.fault = fault_;
  args.layout = context_->layout;
}

void Arguments::fill_call(kernels::CallArgs& args, const Call& call, const Plan& plan, const Program& program, std::size_t longest) const {
  args.tile_packs = static_cast<std::uint32_t>(plan.tile_bytes / sizeof(Pack));
  args.tiles = static_cast<std::uint32_t>(divide_up(longest, std::size_t{args.tile_packs} * static_cast<std::size_t>(plan.blocks)));
  args.stages = static_cast<std::uint32_t>(plan.stages);
  fill_ranks(args, call, plan);
  args.epoch_share = kernels::share_of_epoch(plan.blocks * plan.crews);
  const std::size_t used = static_cast<std::size_t>(program.rows) * static_cast<std::size_t>(plan.blocks * plan.stages) * slot_bytes_of(plan);
  args.wide = plan.wide;
  const std::size_t half = plan.wire == Wire::flagged ? context_->layout.flagged_bytes : context_->layout.sentinel_bytes;
  const bool flows = args.tiles <= args.stages || plan.stages >= program.min_stages;
  ensure(!program.offers || plan.wire == Wire::flagged, "what is offered needs flags");
  ensure(flows && used <= half * (plan.wide ? 2 : 1) && plan.blocks <= kernels::max_blocks && plan.crews <= max_crews && plan.tile_bytes % sizeof(Pack) == 0,
         "a plan does not fit the pool it was made for");
}

void Arguments::fill_regions(const Call& call, const Plan& plan, const Program& program) {
  for (int r = 0; r < regions_; ++r) {
    kernels::Region& region = program_.region[r];
    region = region_of(call, program, context_->rank, chunks_[static_cast<std::size_t>(r)]);
    const std::size_t packs = divide_up(region.count * size_of(call.type), sizeof(Pack));
    region.tile_packs = tile_packs_for(packs, program_, plan.blocks);
    region.in_aligned = is_aligned(region.in);
    region.out_aligned = is_aligned(region.out);
  }
  for (std::size_t s = 0; s < program.steps.size(); ++s) {
    const Step& step = program.steps[s];
    const kernels::Region& region = program_.region[program_.step[s].region];
    // In place, a rank's own block is already where it belongs.
    program_.step[s].store = step.store && !(step.receives.empty() && region.in == region.out && call.factor.given == Factor::none);
  }
}

const kernels::ProgramArgs& Arguments::program(const Call& call, const Plan& plan, const Program& program) {
  if (filled_ != &program) fill_program(program);
  fill_call(program_, call, plan, program, longest_region(call, program));
  fill_regions(call, plan, program);
  program_.crews = static_cast<std::uint8_t>(plan.crews);
  program_.carried = call.carried;
  program_.factor_given = call.factor.given != Factor::none;
  program_.factor_at = call.factor.address;
  program_.factor = call.factor.bits;
  return program_;
}

const kernels::DirectArgs& Arguments::direct(const Call& call, const Plan& plan, const Program& program) {
  fill_direct(direct_, call, plan, program);
  return direct_;
}

const kernels::ReduceArgs& Arguments::reduce(const Call& call, const Plan& plan, const Program& program) {
  fill_direct(reduce_, call, plan, program);
  const bool sends_all = call.collective == Collective::all_reduce && program.chunks == 1;
  for (int k = 1; k < context_->ranks && sends_all; ++k) reduce_.chunk[k] = reduce_.chunk[0];
  reduce_.gathers = reduce_.gathers && !sends_all;
  reduce_.type = call.type;
  reduce_.bytes = reduce_.count * size_of(call.type);
  reduce_.factor_given = call.factor.given != Factor::none;
  reduce_.factor_at = call.factor.address;
  reduce_.factor = call.factor.bits;
  return reduce_;
}

void Arguments::fill_direct(kernels::DirectArgs& args, const Call& call, const Plan& plan, const Program& program) const {
  const auto ranks = static_cast<std::size_t>(context_->ranks), own = static_cast<std::size_t>(context_->rank);
  const bool scatters = call.collective == Collective::reduce_scatter;
  Call whole = call;
  if (scatters) {
    // All ranks' blocks are one message, of which this rank keeps its own where the caller wants it.
    const std::size_t block = call.parts[own].in_count;
    whole.count = ranks * block;
    whole.in = call.parts[0].in;
    whole.out = reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(call.parts[own].out) - own * block * size_of(call.type));
  }
  const auto chunks = static_cast<std::uint32_t>(scatters ? ranks : static_cast<std::size_t>(program.chunks));
  fill_call(args, call, plan, program, divide_up(packs_of(whole.count, call.type), chunks));
  fill_chunks(args, whole, chunks);
  fill_places(args, slot_bytes_of(plan) / sizeof(Pack) * static_cast<std::size_t>(plan.blocks) * args.stages, context_->ranks - 1);
  args.gathers = !scatters;
}

const kernels::MoveArgs& Arguments::move(const Call& call, const Plan& plan, const Program& program) {
  const std::size_t longest = longest_region(call, program);
  fill_call(move_, call, plan, program, longest);
  fill_parts(call, program);
  move_.relays = plan.choice.algorithm == Algorithm::two_shot;
  move_.root = static_cast<std::uint8_t>(call.root);
  fill_places(move_, slot_bytes_of(plan) / sizeof(Pack) * static_cast<std::size_t>(plan.blocks) * move_.stages, 0);
  ensure(longest < UINT32_MAX, "a block for the direct kernels is less than 64 GB");
  return move_;
}

/// What the program takes from here to each peer, and what it brings. A rank that only passes a block on gives nothing itself.
void Arguments::fill_parts(const Call& call, const Program& program) {
  const std::size_t size = size_of(call.type);
  const auto part_of = [&](int rank) -> kernels::MoveArgs::Part& { return move_.part[(rank - context_->rank + context_->ranks) % context_->ranks]; };
  std::fill(std::begin(move_.part), std::end(move_.part), kernels::MoveArgs::Part{});
  const auto sends = [&](kernels::MoveArgs::Part& part, const kernels::Region& region) {
    part.in = region.in;
    part.in_bytes = region.count * size;
    part.whole_in = is_aligned(region.in) ? static_cast<std::uint32_t>(part.in_bytes / sizeof(Pack)) : 0;
  };
  const auto receives = [&](kernels::MoveArgs::Part& part, const kernels::Region& region) {
    part.out = region.out;
    part.out_bytes = region.count * size;
    part.whole_out = is_aligned(region.out) ? static_cast<std::uint32_t>(part.out_bytes / sizeof(Pack)) : 0;
  };
  for (const Step& step : program.steps) {
    const kernels::Region region = region_of(call, program, context_->rank, step.chunk);
    for (const Edge& edge : step.receives) receives(part_of(edge.peer), region);
    if (!step.receives.empty()) continue;
    for (const Edge& edge : step.sends) sends(part_of(edge.peer), region);
    if (!step.store || region.in == region.out) continue;
    // One block for all is copied once; parts of one message as they go, see BroadcastStreamed.
    if (program.chunks > 1 && !is_cut_by_part(call.collective)) {
      for (const Edge& edge : step.sends) receives(part_of(edge.peer), region);
    } else {
      sends(move_.part[0], region);
      receives(move_.part[0], region);
    }
  }
}

const kernels::CopyCallArgs& Arguments::copies(const Call& call, const Plan& plan) {
  fill_ranks(copies_, call, plan);
  std::copy(context_->common.begin(), context_->common.end(), copies_.pools);
  copies_.own = context_->pools[static_cast<std::size_t>(context_->rank)];
  return copies_;
}

void Arguments::fill_chunks(kernels::DirectArgs& args, const Call& call, std::uint32_t chunks) const {
  const std::size_t elements = sizeof(Pack) / size_of(call.type);
  const std::size_t all = packs_of(call.count, call.type);
  ensure(all < UINT32_MAX, "a message for the direct kernels is less than 64 GB");
  const auto packs = static_cast<std::uint32_t>(all), whole = static_cast<std::uint32_t>(call.count / elements);
  const std::uint32_t least = packs / chunks, longer = packs % chunks;  // the first `longer` chunks have one pack more
  for (std::uint32_t k = 0; k < chunks; ++k) {
    const std::uint32_t c = (static_cast<std::uint32_t>(context_->rank) + k) % chunks;
    args.chunk[k] = {c * least + std::min(c, longer), least + (c < longer)};
  }
  args.in = call.in;
  args.out = call.out;
  args.count = call.count;
  args.longest_chunk = least + (longer != 0);
  args.whole_in = is_aligned(call.in) ? whole : 0;
  args.whole_out = is_aligned(call.out) ? whole : 0;
  args.plain = args.whole_in == packs && args.whole_out == packs;
  args.even = longer == 0;
}

/// `lanes_before` are a rank's lanes of operands.
void Arguments::fill_places(kernels::DirectPlaces& args, std::size_t lane_packs, int lanes_before) const {
  const int ranks = context_->ranks, own = context_->rank;
  ensure(ranks <= kernels::max_direct_ranks && context_->out_of_reach == 0, "the direct kernels serve few ranks that all reach each other");
  const kernels::Layout& layout = context_->layout;
  ensure(layout.bytes() / sizeof(Pack) < UINT32_MAX, "a pool for the direct kernels is less than 64 GB");
  args.lane_packs = static_cast<std::uint32_t>(lane_packs);
  args.half_packs = static_cast<std::uint32_t>(layout.sentinel_bytes / sizeof(Pack));
  args.own = reinterpret_cast<kernels::Control*>(context_->pools[static_cast<std::size_t>(own)] + kernels::Layout::control);
  const auto lane = [&](int rank, int index) {
    return reinterpret_cast<Pack*>(context_->pools[static_cast<std::size_t>(rank)] + layout.half(false, 0)) + static_cast<std::size_t>(index) * lane_packs;
  };
  for (int k = 1; k < ranks; ++k) {
    const int peer = (own + k) % ranks;
    args.operands[k - 1] = lane(peer, own < peer ? own : own - 1);
    args.chunks[k - 1] = lane(peer, lanes_before + ranks - 1 - k);  // this rank is the peer's peer ranks - k
  }
  args.slots = lane(own, 0);
  for (int rank = 0; rank < ranks; ++rank) args.pools[rank] = context_->pools[static_cast<std::size_t>(rank)];
  args.in_device_memory = context_->pools_in_device_memory;
  args.early = context_->early_launch;
}

}  // namespace collectives
