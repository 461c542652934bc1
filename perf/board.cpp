#include "perf/board.hpp"

#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <collectives/communicator.hpp>
#include <cstring>
#include <new>
#include <thread>

namespace perf {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t text_bytes = 1024;
constexpr std::size_t label_bytes = 192;

void put_text(char* to, std::size_t room, std::string_view text) {
  const std::size_t length = std::min(room - 1, text.size());
  std::memcpy(to, text.data(), length);
  to[length] = '\0';
}

}  // namespace

struct alignas(64) Board::Shared {
  std::atomic<std::uint32_t> arrived{0};
  std::atomic<std::uint32_t> generation{0};
  std::atomic<std::uint32_t> failed{0};  ///< 1: the message is being written, 2: it is there
  char failure[text_bytes] = {};
  char labels[collectives::max_ranks][label_bytes] = {};
  Bytes bytes = {};
};
static_assert(std::atomic<std::uint32_t>::is_always_lock_free, "the board is shared by processes");

Board::Board(int workers, int ranks, std::size_t figures_per_rank, double deadline_s)
    : row_(figures_per_rank + 1), workers_(workers), ranks_(ranks), deadline_s_(deadline_s) {
  mapped_bytes_ = sizeof(Shared) + row_ * static_cast<std::size_t>(ranks) * sizeof(double);
  void* memory = mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    throw collectives::Error(collectives::ErrorCode::system,
                             "cannot map " + std::to_string(mapped_bytes_) + " bytes for the workers' results");
  shared_ = new (memory) Shared;
}

Board::~Board() { munmap(shared_, mapped_bytes_); }

double* Board::figures(int rank) const {
  static_assert(sizeof(Shared) % alignof(double) == 0);
  return reinterpret_cast<double*>(shared_ + 1) + row_ * static_cast<std::size_t>(rank);
}

void Board::barrier() {
  const std::uint32_t generation = shared_->generation.load();
  if (shared_->arrived.fetch_add(1) + 1 == static_cast<std::uint32_t>(workers_)) {
    shared_->arrived = 0;
    shared_->generation.fetch_add(1);
    return;
  }
  const auto began = Clock::now();
  while (shared_->generation.load() == generation) {
    if (failed()) throw collectives::Error(collectives::ErrorCode::aborted, "another worker failed: " + failure());
    const double waited_s = std::chrono::duration<double>(Clock::now() - began).count();
    if (waited_s > deadline_s_) throw collectives::Error(collectives::ErrorCode::timeout, "a worker did not come to a barrier in time");
    // Timed batches begin here, so short waits stay awake; long ones (creation, checks) leave the CPU to others.
    if (waited_s < 0.005)
      sched_yield();
    else
      std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}

void Board::fail(std::string_view message) {
  std::uint32_t none = 0;
  if (!shared_->failed.compare_exchange_strong(none, 1)) return;
  put_text(shared_->failure, text_bytes, message);
  shared_->failed = 2;
}

bool Board::failed() const { return shared_->failed.load() != 0; }

std::string Board::failure() const { return shared_->failed.load() == 2 ? shared_->failure : ""; }

std::vector<std::vector<double>> Board::gather(int first_rank, const std::vector<std::vector<double>>& mine) {
  for (std::size_t i = 0; i < mine.size(); ++i) {
    if (mine[i].size() >= row_) throw collectives::Error(collectives::ErrorCode::internal, "more figures than the board has room for");
    double* row = figures(first_rank + static_cast<int>(i));
    row[0] = static_cast<double>(mine[i].size());
    std::copy(mine[i].begin(), mine[i].end(), row + 1);
  }
  barrier();
  std::vector<std::vector<double>> all;
  for (int rank = 0; rank < ranks_; ++rank) {
    const double* row = figures(rank);
    all.emplace_back(row + 1, row + 1 + static_cast<std::size_t>(row[0]));
  }
  barrier();
  return all;
}

Board::Bytes Board::broadcast(int worker, const Bytes& mine) {
  if (worker == 0) shared_->bytes = mine;
  barrier();
  const Bytes bytes = shared_->bytes;
  barrier();
  return bytes;
}

std::vector<std::string> Board::gather_labels(int first_rank, const std::vector<std::string>& mine) {
  for (std::size_t i = 0; i < mine.size(); ++i) put_text(shared_->labels[first_rank + static_cast<int>(i)], label_bytes, mine[i]);
  barrier();
  std::vector<std::string> all(shared_->labels, shared_->labels + ranks_);
  barrier();
  return all;
}

}  // namespace perf
