#include "team.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>

namespace transformer {
namespace {

constexpr int rounds = 5;

std::vector<int> devices_of(const Team::Setting& setting) {
  std::vector<int> devices;
  for (int rank = 0; rank < setting.ranks; ++rank) devices.push_back(setting.gpus > 0 ? rank % setting.gpus : 0);
  return devices;
}

}  // namespace

Team::Team(const Setting& setting) : setting_(setting) {
  require_valid(setting.shape, setting.ranks);
  const std::vector<int> devices = devices_of(setting);
  for (int rank = 0; rank < setting.ranks; ++rank) {
    const Shard shard = shard_of(setting.shape, setting.ranks, rank);
    engines_.push_back(setting.gpus > 0 ? make_cuda_engine(setting.shape, shard, setting.limits, devices[static_cast<std::size_t>(rank)])
                                        : make_host_engine(setting.shape, setting.limits));
    engines_.back()->make_current();
    blocks_.emplace_back(*engines_.back(),
                         Block::Setting{setting.shape, shard, setting.limits, setting.seed, rank == 1 ? setting.fault : Fault::none});
    engines_.back()->wait();
  }
  if (setting.ranks == 1) return;
  collectives::Options options;
  options.backend = setting.gpus > 0 ? collectives::Backend::cuda : collectives::Backend::host;
  communicators_ = collectives::Communicator::create_local(devices, options);
  for (auto& communicator : communicators_) ours_.push_back(join_by(communicator));
}

void Team::open_nccl(const std::string& library) { nccl_ = join_by_nccl(library, devices_of(setting_)); }

void Team::each(const std::function<void(int rank)>& work) {
  std::mutex mutex;
  std::exception_ptr first;
  const auto run = [&](int rank) {
    try {
      engine(rank).make_current();
      work(rank);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (first) return;
      first = std::current_exception();
      for (auto& join : ours_) join->abort();
      for (auto& join : nccl_) join->abort();
    }
  };
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks(); ++rank) threads.emplace_back(run, rank);
  for (auto& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
}

Join* Team::join(int rank, Joining joining) {
  if (joining == Joining::none || ranks() == 1) return nullptr;
  return (joining == Joining::ours ? ours_ : nccl_).at(static_cast<std::size_t>(rank)).get();
}

void Team::wait(int rank, Joining joining) {
  if (Join* waited = join(rank, joining)) return waited->wait(engine(rank).stream());
  engine(rank).wait();
}

/// Returns on all ranks at about the same time.
void Team::meet(int rank) {
  if (communicators_.empty()) return;
  auto& communicator = communicators_[static_cast<std::size_t>(rank)];
  communicator.barrier(engine(rank).stream());
  communicator.synchronize(engine(rank).stream());
}

std::vector<Trace> Team::record(const Batch& batch) {
  // CUDA loads a kernel when it is first launched, and may wait for the device to be idle: never while a rank that shares it waits.
  each([&](int rank) {
    block(rank).begin(batch, setting_.context);
    block(rank).forward(batch, nullptr);
    engine(rank).wait();
  });
  std::vector<Trace> traces(static_cast<std::size_t>(ranks()), Trace(static_cast<std::size_t>(setting_.shape.layers)));
  each([&](int rank) {
    Trace& trace = traces[static_cast<std::size_t>(rank)];
    block(rank).begin(batch, setting_.context);
    block(rank).forward(batch, join(rank, Joining::ours), [&](int layer, Stage stage) {
      wait(rank, Joining::ours);
      trace[static_cast<std::size_t>(layer)][static_cast<std::size_t>(stage)] = block(rank).read(stage, batch);
    });
    wait(rank, Joining::ours);
  });
  return traces;
}

std::vector<std::function<void()>> Team::capture(const Batch& batch, Joining joining) {
  std::vector<std::function<void()>> steps(static_cast<std::size_t>(ranks()));
  // Once before: NCCL connects its peers in its first calls. All captured before any is replayed: instantiating a graph may wait for a
  // device on which another rank's step waits for this one.
  each([&](int rank) {
    block(rank).begin(batch, setting_.context);
    block(rank).forward(batch, join(rank, joining));
    wait(rank, joining);
  });
  each([&](int rank) {
    steps[static_cast<std::size_t>(rank)] =
        engine(rank).capture([this, rank, batch, joining] { block(rank).forward(batch, join(rank, joining)); });
  });
  return steps;
}

bool Team::replays_alike(const Batch& batch, const std::vector<Trace>& traces) {
  const auto steps = capture(batch, Joining::ours);
  std::vector<int> differs(static_cast<std::size_t>(ranks()));
  each([&](int rank) {
    const auto index = static_cast<std::size_t>(rank);
    block(rank).begin(batch, setting_.context);
    steps[index]();
    wait(rank, Joining::ours);
    const std::vector<Bf16> replayed = block(rank).read(Stage::output, batch);
    const std::vector<Bf16>& eager = traces[index].back()[static_cast<std::size_t>(Stage::output)];
    differs[index] = std::memcmp(replayed.data(), eager.data(), eager.size() * sizeof(Bf16)) != 0;
  });
  return std::count(differs.begin(), differs.end(), 0) == ranks();
}

double Team::time_step(const Batch& batch, Joining joining, int repeats) {
  using clock = std::chrono::steady_clock;
  const auto steps = capture(batch, joining);
  std::vector<std::array<double, rounds>> ms(static_cast<std::size_t>(ranks()));
  each([&](int rank) {
    const auto& step = steps[static_cast<std::size_t>(rank)];
    for (double& round : ms[static_cast<std::size_t>(rank)]) {
      block(rank).rewind(batch, setting_.context);
      step();
      wait(rank, joining);
      meet(rank);
      const auto began = clock::now();
      for (int i = 0; i < repeats; ++i) step();
      wait(rank, joining);
      round = std::chrono::duration<double, std::milli>(clock::now() - began).count() / repeats;
    }
  });
  std::array<double, rounds> slowest{};
  for (const auto& of_rank : ms)
    for (int round = 0; round < rounds; ++round) slowest[round] = std::max(slowest[round], of_rank[round]);
  std::sort(slowest.begin(), slowest.end());
  return slowest[rounds / 2];
}

bool Team::adds_at_once(const Batch& batch) const {
  if (communicators_.empty()) return true;
  const std::size_t count = std::size_t(batch.tokens()) * setting_.shape.hidden;
  const auto plan = communicators_.front().plan_for(count, collectives::DataType::bfloat16, collectives::ReduceOp::sum);
  return plan.choice.algorithm == collectives::Algorithm::one_shot || plan.choice.algorithm == collectives::Algorithm::two_shot;
}

}  // namespace transformer
