#include "perf/host_team.hpp"

#include <algorithm>
#include <collectives/error.hpp>

#include "perf/statistics.hpp"

namespace perf {
namespace {

constexpr double deadline_s = 20;
constexpr std::size_t memory_bytes = std::size_t{64} << 20;  // of a rank, and of each of three buffers of its GPU
constexpr std::size_t words_bytes = std::size_t{64} << 10;
constexpr std::size_t pack_bytes = 16;
constexpr std::uint32_t most_polls = 2'000'000;

// Where the words of a rank are: those of crews, and those of meetings, each in a line of its own.
constexpr int crew_words = 0, start_word = 4096, scattered_word = 4096 + 64, gathered_word = 4096 + 128;

std::size_t rounded_down(std::size_t bytes) { return bytes / 512 * 512; }

void order(cudaStream_t first, cudaStream_t then, const OwnedEvent& event) {
  checked(cudaEventRecord(event.get(), first));
  checked(cudaStreamWaitEvent(then, event.get(), 0));
}

void copy(std::byte* to, const std::byte* from, std::size_t bytes, cudaStream_t stream) { checked(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream)); }

}  // namespace

/// A GPU, its memory on both sides of the bus, and a stream for each thing that goes on by itself.
struct HostTeam::Rank {
  explicit Rank(int device) : place(make_cuda_place(device, false)), memory(memory_bytes), words(words_bytes) {
    place->make_current();
    near = place->allocate(3 * memory_bytes);
    gave_up = reinterpret_cast<std::uint32_t*>(place->allocate(256));
    place->set(gave_up, 0, 256);
    gathered = reinterpret_cast<std::uint32_t*>(place->allocate(words_bytes));
    for (auto& stream : streams) stream = std::make_unique<OwnedStream>();
    for (auto* events : {&began, &ended})
      for (auto& event : *events) event = std::make_unique<OwnedEvent>();
    between = std::make_unique<OwnedEvent>();
  }
  ~Rank() {
    place->make_current();
    place->release(near);
    place->release(reinterpret_cast<std::byte*>(gave_up));
    place->release(reinterpret_cast<std::byte*>(gathered));
    // Streams and events go with the device that was current when they were made.
    for (auto& stream : streams) stream.reset();
    for (auto* events : {&began, &ended})
      for (auto& event : *events) event.reset();
    summed.clear();
    between.reset();
  }
  cudaStream_t stream(Lane lane) const { return streams[lane]->get(); }
  OwnedEvent& summed_at(int piece) {
    while (summed.size() <= static_cast<std::size_t>(piece)) summed.push_back(std::make_unique<OwnedEvent>());
    return *summed[static_cast<std::size_t>(piece)];
  }

  std::unique_ptr<Place> place;
  PinnedMemory memory, words;
  std::byte* near = nullptr;
  std::uint32_t *gave_up = nullptr, *gathered = nullptr;
  std::array<std::unique_ptr<OwnedStream>, lanes> streams;
  std::array<std::unique_ptr<OwnedEvent>, lanes> began, ended;
  std::vector<std::unique_ptr<OwnedEvent>> summed;
  std::unique_ptr<OwnedEvent> between;
};

HostTeam::HostTeam(int ranks, int repetitions) : repetitions_(repetitions) {
  for (int rank = 0; rank < ranks; ++rank) {
    use_device(rank);
    ranks_.push_back(std::make_unique<Rank>(rank));
  }
}

HostTeam::~HostTeam() = default;

HostWords HostTeam::words_of(int rank, int first_word) {
  HostWords words;
  for (int peer = 0; peer < size(); ++peer) words.of[peer] = reinterpret_cast<std::uint32_t*>(at(peer).words.base()) + first_word;
  words.rank = rank;
  words.ranks = size();
  words.max_polls = most_polls;
  words.gave_up = at(rank).gave_up;
  return words;
}

void HostTeam::expect_all_came() {
  for (auto& rank : ranks_) {
    rank->place->make_current();
    if (rank->place->altered(rank->gave_up, 256, 0) != 0) throw collectives::Error(collectives::ErrorCode::timeout, "what a GPU waited for did not come");
  }
}

HostRates HostTeam::stream(const HostStreams& streams) {
  std::vector<double> out, in;
  for (int repetition = 0; repetition <= repetitions_; ++repetition) {
    for (int r = 0; r < size(); ++r) {
      Rank& rank = at(r);
      rank.place->make_current();
      for (const Lane lane : {out_lane, in_lane}) checked(cudaEventRecord(rank.began[lane]->get(), rank.stream(lane)));
      enqueue_stream(r, streams, false);
      enqueue_stream(r, streams, true);
      for (const Lane lane : {out_lane, in_lane}) checked(cudaEventRecord(rank.ended[lane]->get(), rank.stream(lane)));
    }
    double us[2] = {0, 0};
    for (auto& rank : ranks_) {
      rank->place->make_current();
      for (const Lane lane : {out_lane, in_lane}) {
        wait_for(rank->stream(lane), deadline_s);
        us[lane] = std::max(us[lane], elapsed_us(*rank->began[lane], *rank->ended[lane]));
      }
    }
    if (repetition == 0) continue;
    out.push_back(static_cast<double>(streams.out_bytes) / us[out_lane] / 1e3);
    in.push_back(static_cast<double>(streams.in_bytes) / us[in_lane] / 1e3);
  }
  return {streams.out == Mover::none ? 0 : summarize(out).median, streams.in == Mover::none ? 0 : summarize(in).median};
}

/// What goes out, into this rank's own memory; what comes in, from its peers' in turn.
void HostTeam::enqueue_stream(int rank, const HostStreams& streams, bool in) {
  const cudaStream_t stream = at(rank).stream(in ? in_lane : out_lane);
  const std::size_t bytes = in ? streams.in_bytes : streams.out_bytes;
  const int peers = std::max(size() - 1, 1);
  const auto memory = [&](int k) { return at(in ? (rank + 1 + k % peers) % size() : rank).memory.base(); };
  const Mover mover = in ? streams.in : streams.out;
  if (mover == Mover::multiprocessors) {
    HostFlow flow;
    flow.memories = in ? peers : 1;
    for (int k = 0; k < flow.memories; ++k) flow.memory[k] = memory(k);
    flow.loads = in;
    flow.packs = bytes / pack_bytes;
    flow.ring_packs = streams.ring_bytes / pack_bytes;
    flow.sink = at(rank).gave_up;
    launch_flow(flow, streams.blocks, 512, stream);
  }
  if (mover != Mover::engines) return;
  int k = 0;
  for (std::size_t done = 0; done < bytes; done += streams.piece_bytes, ++k) {
    std::byte* near = at(rank).near + (in ? memory_bytes : 0) + done % streams.ring_bytes;
    std::byte* far = memory(k) + done % streams.ring_bytes;
    in ? copy(near, far, streams.piece_bytes, stream) : copy(far, near, streams.piece_bytes, stream);
  }
}

double HostTeam::by_crews(std::size_t bytes, const CrewGrid& grid) {
  const std::size_t chunk_packs = std::max<std::size_t>(bytes / static_cast<std::size_t>(size()) / pack_bytes, 1), wave = std::size_t{grid.tile_packs} * static_cast<std::size_t>(grid.blocks);
  HostTwoShot args;
  args.tiles = static_cast<std::uint32_t>((chunk_packs + wave - 1) / wave);
  args.stages = grid.stages;
  args.tile_packs = static_cast<std::uint32_t>((chunk_packs + args.tiles * static_cast<std::size_t>(grid.blocks) - 1) / (args.tiles * static_cast<std::size_t>(grid.blocks)));
  for (int rank = 0; rank < size(); ++rank) args.memory[rank] = at(rank).memory.base();
  const int calls = bytes >= std::size_t{16} << 20 ? 4 : 20;
  std::vector<double> times;
  for (int repetition = 0; repetition <= repetitions_; ++repetition) {
    const double us = slowest([&](int rank) {
      args.words = words_of(rank, crew_words);
      args.gathered = at(rank).gathered;
      for (int call = 0; call < calls; ++call) {
        args.before = static_cast<std::uint32_t>(call) * args.tiles;
        launch_host_two_shot(args, grid.blocks, grid.tile_packs >= 1024 ? 1024 : 512, at(rank).place->stream());
      }
    });
    if (repetition > 0) times.push_back(us / calls);
  }
  expect_all_came();
  return summarize(times).median;
}

double HostTeam::by_engines(std::size_t bytes, const PieceGrid& grid) {
  const int calls = bytes >= std::size_t{16} << 20 ? 2 : 5;
  std::vector<int> graphs;
  for (int rank = 0; rank < size(); ++rank) {
    Place& place = *at(rank).place;
    place.make_current();
    place.begin_capture();
    for (int call = 0; call < calls; ++call) enqueue_engines(rank, bytes, grid, static_cast<std::uint32_t>(call * grid.pieces));
    graphs.push_back(place.end_capture());
  }
  std::vector<double> times;
  for (int repetition = 0; repetition <= repetitions_; ++repetition) {
    const double us = slowest([&](int rank) { at(rank).place->replay(graphs[static_cast<std::size_t>(rank)]); });
    if (repetition > 0) times.push_back(us / calls);
  }
  expect_all_came();
  for (auto& rank : ranks_) {
    rank->place->make_current();
    rank->place->forget_graphs();
  }
  return summarize(times).median;
}

/// What is enqueued counts from 0: words are emptied before it, and a meeting lets all begin together.
double HostTeam::slowest(const std::function<void(int)>& enqueue) {
  for (auto& rank : ranks_) {
    std::fill_n(rank->words.base(), words_bytes, std::byte{});
    rank->place->make_current();
    rank->place->set(rank->gathered, 0, words_bytes);
  }
  for (int rank = 0; rank < size(); ++rank) {
    Place& place = *at(rank).place;
    place.make_current();
    launch_meeting(words_of(rank, start_word), 1, place.stream());
    place.start();
    enqueue(rank);
    place.stop();
  }
  double us = 0;
  for (auto& rank : ranks_) {
    rank->place->make_current();
    rank->place->wait(deadline_s);
    us = std::max(us, rank->place->elapsed_us());
  }
  return us;
}

// Copies out, copies in, meetings about operands, meetings about totals and sums have a stream each: nothing waits but for what it needs. No slot's
// reader is waited for, as in the other floors.
void HostTeam::enqueue_engines(int rank, std::size_t bytes, const PieceGrid& grid, std::uint32_t before) {
  Rank& own = at(rank);
  const std::size_t chunk = rounded_down(bytes / static_cast<std::size_t>(size())), piece = rounded_down(chunk / static_cast<std::size_t>(grid.pieces));
  std::byte *const input = own.near, *const output = own.near + memory_bytes, *const rows = own.near + 2 * memory_bytes;
  const auto then = [&](Lane first, Lane second) { order(own.stream(first), own.stream(second), *own.between); };
  const auto near = [&](int owner, int p) { return static_cast<std::size_t>(owner) * chunk + static_cast<std::size_t>(p) * piece; };
  const auto far = [&](int of, int row, int p) { return at(of).memory.base() + static_cast<std::size_t>(row * grid.buffers + p % grid.buffers) * piece; };
  const auto scatter = [&](int p) {
    for (int k = 1; k < size(); ++k) copy(far(rank, (rank + k) % size(), p), input + near((rank + k) % size(), p), piece, own.stream(out_lane));
    then(out_lane, scattered_lane);
    launch_meeting(words_of(rank, scattered_word), before + static_cast<std::uint32_t>(p) + 1, own.stream(scattered_lane));
    then(scattered_lane, in_lane);
    std::byte* const row = rows + static_cast<std::size_t>(p % grid.buffers * (size() - 1)) * piece;
    for (int k = 1; k < size(); ++k) copy(row + static_cast<std::size_t>(k - 1) * piece, far((rank + k) % size(), rank, p), piece, own.stream(in_lane));
    then(in_lane, sum_lane);
    launch_row_sum(row, size() - 1, piece / pack_bytes, output + near(rank, p), own.stream(sum_lane));
    checked(cudaEventRecord(own.summed_at(p).get(), own.stream(sum_lane)));
  };
  const auto gather = [&](int p) {
    checked(cudaStreamWaitEvent(own.stream(out_lane), own.summed_at(p).get(), 0));
    copy(far(rank, size(), p), output + near(rank, p), piece, own.stream(out_lane));
    then(out_lane, gathered_lane);
    launch_meeting(words_of(rank, gathered_word), before + static_cast<std::uint32_t>(p) + 1, own.stream(gathered_lane));
    then(gathered_lane, in_lane);
    for (int k = 1; k < size(); ++k) copy(output + near((rank + k) % size(), p), far((rank + k) % size(), size(), p), piece, own.stream(in_lane));
  };
  const cudaStream_t caller = own.place->stream();
  for (int lane = 0; lane < lanes; ++lane) order(caller, own.stream(static_cast<Lane>(lane)), *own.between);
  for (int p = 0; p < grid.pieces + grid.lag; ++p) {
    if (p < grid.pieces) scatter(p);
    if (p >= grid.lag) gather(p - grid.lag);
  }
  for (int lane = 0; lane < lanes; ++lane) order(own.stream(static_cast<Lane>(lane)), caller, *own.between);
}

}  // namespace perf
