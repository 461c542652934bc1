#include "nccl_drop_in.hpp"

#include <dlfcn.h>

#include "base/require.hpp"
#if COLLECTIVES_HAS_CUDA
#include "base/cuda.hpp"
#endif

namespace collectives {

const NcclFunctions& drop_in() {
  static const NcclFunctions functions = [] {
    void* library = ::dlopen(TEST_NCCL_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    require(library != nullptr, [] { return std::string(::dlerror()); });
    return load_nccl_functions(library);
  }();
  return functions;
}

void nccl_ok(NcclResult result) {
  require(result == nccl_success, [&] { return std::to_string(result) + ": " + nccl_words(); }, ErrorCode::internal);
}

std::string nccl_words() { return drop_in().get_last_error(nullptr); }

NcclConfig nccl_defaults() {
  constexpr int open = nccl_undefined;
  return {sizeof(NcclConfig), nccl_config_magic, nccl_version, open, open, open, open, nullptr, open, open, nullptr, open, open, open, open, open, open};
}

DropInRanks::DropInRanks(int count) : comms(static_cast<std::size_t>(count)) { nccl_ok(drop_in().comm_init_all(comms.data(), count, nullptr)); }

DropInRanks::~DropInRanks() {
  for (NcclComm* comm : comms) (void)drop_in().comm_destroy(comm);
}

int nccl_type_of(DataType type) {
  constexpr int numbers[data_type_count] = {7, 8, 6, 9, 0, 1, 2, 3, 4, 5, 10, 11};
  return numbers[static_cast<int>(type)];
}

int nccl_op_of(ReduceOp op) {
  constexpr int numbers[reduce_op_count] = {0, 1, 3, 2, 4};
  return numbers[static_cast<int>(op)];
}

namespace {

std::size_t blocks_of_output(Collective collective, int ranks) {
  const bool all = collective == Collective::all_gather || collective == Collective::gather || collective == Collective::all_to_all;
  return all ? static_cast<std::size_t>(ranks) : 1;
}

}  // namespace

DropInTrial::DropInTrial(const Trial& trial, int rank, int ranks, Backend backend)
    : trial_(trial),
      rank_(rank),
      ranks_(ranks),
      backend_(backend),
      out_blocks_(blocks_of_output(trial.collective, ranks)),
      in_(backend, rank, in_blocks() * block()),
      out_(backend, rank, out_blocks_ * block()) {
  std::vector<std::byte> in = input_of(rank), out(out_blocks_ * block(), std::byte{0xa5});
  const std::size_t own = static_cast<std::size_t>(rank) * block();
  from_ = in_.data();
  to_ = out_.data();
  if (trial.in_place && in.size() > out.size()) {
    to_ = in_.data() + own;  // this rank's block of its input
  } else if (trial.in_place) {
    const std::size_t at = out.size() > in.size() ? own : 0;
    from_ = to_ + at;
    std::copy(in.begin(), in.end(), out.begin() + static_cast<std::ptrdiff_t>(at));
  }
  in_.write(in);
  out_.write(out);
}

std::size_t DropInTrial::in_blocks() const {
  const Collective kind = trial_.collective;
  return kind == Collective::reduce_scatter || kind == Collective::all_to_all || kind == Collective::scatter ? static_cast<std::size_t>(ranks_) : 1;
}

std::vector<std::byte> DropInTrial::input_of(int rank) const { return operand_bytes(trial_, rank, in_blocks() * trial_.count); }

bool DropInTrial::has_output() const {
  return rank_ == trial_.root || (trial_.collective != Collective::reduce && trial_.collective != Collective::gather);
}

void DropInTrial::start(NcclComm* comm) {
  const int type = nccl_type_of(trial_.type), op = nccl_op_of(trial_.op), root = trial_.root;
  const std::size_t count = trial_.count;
  void* out = has_output() ? to_ : nullptr;
  switch (trial_.collective) {
    case Collective::all_reduce: return nccl_ok(drop_in().all_reduce(from_, out, count, type, op, comm, nullptr));
    case Collective::reduce_scatter: return nccl_ok(drop_in().reduce_scatter(from_, out, count, type, op, comm, nullptr));
    case Collective::all_gather: return nccl_ok(drop_in().all_gather(from_, out, count, type, comm, nullptr));
    case Collective::broadcast:
      if (trial_.in_place) return nccl_ok(drop_in().bcast(out, count, type, root, comm, nullptr));
      return nccl_ok(drop_in().broadcast(rank_ == root ? from_ : nullptr, out, count, type, root, comm, nullptr));
    case Collective::reduce: return nccl_ok(drop_in().reduce(from_, out, count, type, op, root, comm, nullptr));
    case Collective::all_to_all: return nccl_ok(drop_in().all_to_all(from_, out, count, type, comm, nullptr));
    case Collective::gather: return nccl_ok(drop_in().gather(from_, out, count, type, root, comm, nullptr));
    case Collective::scatter: return nccl_ok(drop_in().scatter(rank_ == root ? from_ : nullptr, out, count, type, root, comm, nullptr));
    case Collective::exchange:
      nccl_ok(drop_in().group_start());
      nccl_ok(drop_in().send(from_, count, type, (rank_ + 1) % ranks_, comm, nullptr));
      nccl_ok(drop_in().recv(out, count, type, (rank_ + ranks_ - 1) % ranks_, comm, nullptr));
      return nccl_ok(drop_in().group_end());
  }
}

std::vector<std::byte> DropInTrial::expected() const {
  const auto part = [&](const std::vector<std::byte>& bytes, int index) {
    const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(index) * block());
    return std::vector<std::byte>(begin, begin + static_cast<std::ptrdiff_t>(block()));
  };
  std::vector<std::byte> all;
  const auto append = [&](const std::vector<std::byte>& bytes) { all.insert(all.end(), bytes.begin(), bytes.end()); };
  switch (trial_.collective) {
    case Collective::all_reduce:
    case Collective::reduce: return expected_bytes(trial_, ranks_, trial_.count);
    case Collective::reduce_scatter: return part(expected_bytes(trial_, ranks_, in_blocks() * trial_.count), rank_);
    case Collective::all_gather:
    case Collective::gather:
      for (int rank = 0; rank < ranks_; ++rank) append(input_of(rank));
      return all;
    case Collective::all_to_all:
      for (int rank = 0; rank < ranks_; ++rank) append(part(input_of(rank), rank_));
      return all;
    case Collective::broadcast: return input_of(trial_.root);
    case Collective::scatter: return part(input_of(trial_.root), rank_);
    case Collective::exchange: return input_of((rank_ + ranks_ - 1) % ranks_);
  }
  return all;
}

std::vector<std::byte> DropInTrial::found() const {
#if COLLECTIVES_HAS_CUDA
  if (backend_ == Backend::cuda) {
    const DeviceScope scope(rank_);
    cuda_check(cudaStreamSynchronize(nullptr));
  }
#endif
  if (!trial_.in_place || to_ == out_.data()) return out_.read(out_blocks_ * block());
  const auto all = in_.read(in_blocks() * block());
  const auto begin = all.begin() + (to_ - in_.data());
  return {begin, begin + static_cast<std::ptrdiff_t>(block())};
}

std::size_t DropInTrial::wrong() const {
  if (!has_output()) return 0;
  const std::vector<std::byte> right = expected(), got = found();
  std::size_t wrong = got.size() != right.size();
  for (std::size_t i = 0; i < right.size() && i < got.size(); ++i) wrong += got[i] != right[i];
  return wrong;
}

}  // namespace collectives
