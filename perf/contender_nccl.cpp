#include <algorithm>
#include <collectives/error.hpp>
#include <cstring>

#include "perf/contender.hpp"
#include "perf/stopwatch.hpp"

namespace perf {
namespace {

using collectives::Error;
using collectives::ErrorCode;
using collectives::ReduceOp;

constexpr double default_deadline_s = 300;

/// Closes a group on every way out, so that an exception does not leave NCCL waiting for the end of one.
class Group {
 public:
  explicit Group(const NcclApi& nccl) : nccl_(nccl) { nccl_.check(nccl_.group_start(), "ncclGroupStart"); }
  void close() {
    open_ = false;
    nccl_.check(nccl_.group_end(), "ncclGroupEnd");
  }
  ~Group() {
    if (open_) nccl_.group_end();
  }
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

 private:
  const NcclApi& nccl_;
  bool open_ = true;
};

class Nccl final : public Contender {
 public:
  Nccl(Worker& worker, const Collective& collective, const Contender& ours, std::size_t capacity, bool symmetric)
      : worker_(worker), collective_(collective), nccl_(open_nccl(worker.settings->nccl_library)), symmetric_(symmetric) {
    comms_.resize(static_cast<std::size_t>(worker.local_ranks()));
    form();
    if (symmetric)
      register_windows(capacity);
    else
      for (int local = 0; local < worker.local_ranks(); ++local) buffers_.push_back(ours.buffers(local));
  }

  ~Nccl() override {
    // Leaving in good order is collective; after a failure the others do not come.
    const bool orderly = !worker_.board->failed();
    for (std::size_t local = 0; orderly && local < windows_.size(); ++local) nccl_.window_deregister(comms_[local / 2], windows_[local]);
    for (NcclComm comm : comms_)
      if (comm != nullptr) orderly ? nccl_.comm_destroy(comm) : nccl_.comm_abort(comm);
    for (std::byte* memory : owned_) nccl_.mem_free(memory);
  }

  std::string name() const override { return symmetric_ ? "nccl-symmetric" : "nccl"; }

  void begin_call() override {
    if (comms_.size() > 1) nccl_.check(nccl_.group_start(), "ncclGroupStart");
  }
  void end_call() override {
    if (comms_.size() > 1) nccl_.check(nccl_.group_end(), "ncclGroupEnd");
  }

  void enqueue(int local, const Call& call) override {
    worker_.places[static_cast<std::size_t>(local)]->make_current();
    nccl_.check(collective_.enqueue_nccl(nccl_, comms_[static_cast<std::size_t>(local)], call), "NCCL call");
  }

  void wait(int local) override {
    const auto& timeout_ms = worker_.settings->library.timeout_ms;
    worker_.places[static_cast<std::size_t>(local)]->wait(timeout_ms ? *timeout_ms / 1000.0 : default_deadline_s);
  }

  /// NCCL scales operands by 1/n before it adds them, which is exact for powers of two alone.
  bool exact(ReduceOp op) const override { return op != ReduceOp::avg; }

 private:
  void form() {
    Board::Bytes bytes{};
    if (worker_.leads()) {
      NcclId id{};
      nccl_.check(nccl_.get_unique_id(&id), "ncclGetUniqueId");
      std::memcpy(bytes.data(), id.internal, bytes.size());
    }
    bytes = worker_.board->broadcast(worker_.index, bytes);
    NcclId id{};
    std::memcpy(id.internal, bytes.data(), bytes.size());
    const Stopwatch creation;
    Group group(nccl_);
    for (std::size_t local = 0; local < comms_.size(); ++local) {
      worker_.places[local]->make_current();
      nccl_.check(init_rank(&comms_[local], id, worker_.first_rank + static_cast<int>(local)), "ncclCommInitRank");
    }
    group.close();
    creation_ms_ = creation.ms();
  }

  int init_rank(NcclComm* comm, const NcclId& id, int rank) const {
    const int ranks = worker_.layout->ranks(), most = worker_.settings->nccl_max_ctas;
    if (most == 0) return nccl_.comm_init_rank(comm, ranks, id, rank);
    if (nccl_.comm_init_rank_config == nullptr)
      throw Error(ErrorCode::unsupported, "this NCCL's communicators cannot be configured: expected 2.18 or newer");
    NcclConfig config;
    config.max_ctas = most;
    return nccl_.comm_init_rank_config(comm, ranks, id, rank, &config);
  }

  std::byte* allocate_window(std::size_t local, std::size_t bytes) {
    worker_.places[local]->make_current();
    void* memory = nullptr;
    nccl_.check(nccl_.mem_alloc(&memory, bytes), "ncclMemAlloc");
    return owned_.emplace_back(static_cast<std::byte*>(memory));
  }

  void register_windows(std::size_t capacity) {
    if (nccl_.mem_alloc == nullptr || nccl_.mem_free == nullptr || nccl_.window_register == nullptr || nccl_.window_deregister == nullptr)
      throw Error(ErrorCode::unsupported, "this NCCL has no symmetric windows: expected 2.27 or newer");
    const std::size_t wanted = capacity + 2 * guard_bytes;
    const std::size_t bytes = (wanted + nccl_window_alignment - 1) / nccl_window_alignment * nccl_window_alignment;
    for (std::size_t local = 0; local < comms_.size(); ++local) {
      RankBuffers& buffers = buffers_.emplace_back();
      buffers.in = allocate_window(local, bytes) + guard_bytes;
      buffers.out = allocate_window(local, bytes) + guard_bytes;
    }
    // Registration is collective, input by input and output by output, in the same order on every rank.
    windows_.resize(owned_.size());
    for (std::size_t side = 0; side < 2; ++side) {
      Group group(nccl_);
      for (std::size_t local = 0; local < comms_.size(); ++local) {
        worker_.places[local]->make_current();
        nccl_.check(
            nccl_.window_register(comms_[local], owned_[2 * local + side], bytes, &windows_[2 * local + side], nccl_window_symmetric),
            "ncclCommWindowRegister");
      }
      group.close();
    }
  }

  Worker& worker_;
  const Collective& collective_;
  NcclApi nccl_;
  bool symmetric_ = false;
  std::vector<NcclComm> comms_;
  std::vector<std::byte*> owned_;
  std::vector<NcclWindow> windows_;
};

}  // namespace

std::unique_ptr<Contender> make_nccl(Worker& worker, const Collective& collective, const Contender& ours, std::size_t capacity,
                                     bool symmetric) {
  return std::make_unique<Nccl>(worker, collective, ours, capacity, symmetric);
}

std::string compared_nccl_version(const Settings& settings) {
  const NcclApi nccl = open_nccl(settings.nccl_library);
  int version = 0;
  nccl.check(nccl.get_version(&version), "ncclGetVersion");
  return nccl_version_text(version);
}

}  // namespace perf
