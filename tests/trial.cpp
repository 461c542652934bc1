#include "trial.hpp"

#include <algorithm>
#include <cstring>

#include "base/require.hpp"
#include "in_parts.hpp"
#include "kernels/number.hpp"

#if COLLECTIVES_HAS_CUDA
#include "base/cuda.hpp"
#endif

namespace collectives {
namespace {

constexpr std::size_t guard = 64;  // canaries before and after a buffer
constexpr std::byte canary{0xa5};

std::uint64_t mix(std::uint64_t x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

void put_float(DataType type, float value, std::byte* at) {
  if (type == DataType::float32) std::memcpy(at, &value, 4);
  if (type == DataType::float16) {
    const auto half = kernels::to_half(value);
    std::memcpy(at, &half, 2);
  }
  if (type == DataType::bfloat16) {
    const auto narrow = kernels::to_bfloat16(value);
    std::memcpy(at, &narrow, 2);
  }
  if (type == DataType::float8_e4m3) *at = std::byte{kernels::to_e4m3(value).bits};
  if (type == DataType::float8_e5m2) *at = std::byte{kernels::to_e5m2(value).bits};
}

/// An integer of the type from its low bits.
long long wrap(DataType type, long long value) {
  switch (type) {
    case DataType::int8: return static_cast<std::int8_t>(value);
    case DataType::uint8: return static_cast<std::uint8_t>(value);
    case DataType::int32: return static_cast<std::int32_t>(value);
    case DataType::uint32: return static_cast<std::uint32_t>(value);
    default: return value;
  }
}

bool is_unsigned(DataType type) { return type == DataType::uint8 || type == DataType::uint32 || type == DataType::uint64; }

}  // namespace

void write_element(std::byte* at, DataType type, long long value) {
  const auto whole = static_cast<double>(value);
  if (type == DataType::float64) return static_cast<void>(std::memcpy(at, &whole, 8));
  if (is_floating(type)) return put_float(type, static_cast<float>(value), at);
  std::memcpy(at, &value, size_of(type));
}

namespace {

/// What all of a rank's operands begin with.
std::uint64_t rank_seed(const Trial& trial, int rank) { return mix(trial.seed * 64 + static_cast<std::uint64_t>(rank)); }

int operand(const Trial& trial, int rank, std::uint64_t seed, std::size_t element) {
  const std::uint64_t random = mix(seed + element);
  if (trial.op == ReduceOp::prod) {
    // Few twos: 2^4 of 16 ranks fits every type exactly.
    if (random % 3 == 0 && rank % 4 == 0) return 2;
    return !is_unsigned(trial.type) && random % 5 == 0 ? -1 : 1;
  }
  // Sums of more than eight ones are not exact in 8 bits.
  if (is_float8(trial.type)) return rank < 8 ? static_cast<int>(random % 3) - 1 : 0;
  const int value = static_cast<int>(random % 17);
  return is_unsigned(trial.type) ? value : value - 8;
}

}  // namespace

int operand(const Trial& trial, int rank, std::size_t element) { return operand(trial, rank, rank_seed(trial, rank), element); }

std::vector<std::byte> operand_bytes(const Trial& trial, int rank, std::size_t count) {
  const std::size_t size = size_of(trial.type);
  std::vector<std::byte> bytes(count * size);
  const std::uint64_t seed = rank_seed(trial, rank);
  in_parts(count, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) write_element(bytes.data() + i * size, trial.type, operand(trial, rank, seed, i));
  });
  return bytes;
}

namespace {

/// What the reduction of all ranks' operands at an element is, in the bytes of the type. `seeds` are those of all ranks.
void put_reduced(const Trial& trial, const std::vector<std::uint64_t>& seeds, std::size_t element, std::byte* at) {
  const int ranks = static_cast<int>(seeds.size());
  long long result = operand(trial, 0, seeds[0], element);
  for (int rank = 1; rank < ranks; ++rank) {
    const long long value = operand(trial, rank, seeds[static_cast<std::size_t>(rank)], element);
    if (trial.op == ReduceOp::sum || trial.op == ReduceOp::avg) result += value;
    if (trial.op == ReduceOp::prod) result *= value;
    if (trial.op == ReduceOp::min) result = std::min(result, value);
    if (trial.op == ReduceOp::max) result = std::max(result, value);
  }
  if (trial.op != ReduceOp::avg) {
    write_element(at, trial.type, result);
  } else if (trial.type == DataType::float64) {
    const double average = static_cast<double>(result) / ranks;
    std::memcpy(at, &average, 8);
  } else if (is_floating(trial.type)) {
    put_float(trial.type, static_cast<float>(result) / static_cast<float>(ranks), at);
  } else {
    write_element(at, trial.type, wrap(trial.type, result) / ranks);
  }
}

/// The elements of every rank's block, and where they begin.
struct Cut {
  std::vector<std::size_t> counts, begins;
  std::size_t total = 0;
};

Cut cut_of(const Trial& trial, int ranks, int from) {
  Cut cut{};
  for (int rank = 0; rank < ranks; ++rank) {
    cut.counts.push_back(trial.collective == Collective::exchange ? uneven_count(trial, from, rank) : trial.uneven ? uneven_count(trial, 0, rank) : trial.count);
    cut.begins.push_back(cut.total);
    cut.total += cut.counts.back();
  }
  return cut;
}

/// What one rank brings to a trial and must hold after it: the whole of its memory, canaries and all.
struct Side {
  std::vector<std::byte> in{}, out{};      ///< before
  std::vector<std::byte> out_expected{};  ///< after; `in` must not change
  std::size_t in_at = 0, out_at = 0;     ///< bytes
  std::size_t in_count = 0, out_count = 0;
  bool in_place = false;                 ///< the input lies in `out`
  Cut cut{};
};

class SideMaker {
 public:
  SideMaker(const Trial& trial, int ranks) : trial_(trial), ranks_(ranks), size_(size_of(trial.type)) {
    for (int from = 0; from < ranks; ++from) cuts_.push_back(cut_of(trial, ranks, from));
  }

  Side make(int rank) {
    rank_ = rank;
    const auto own = static_cast<std::size_t>(rank_);
    const bool is_root = rank_ == trial_.root;
    const Cut& cut = cuts_[own];
    const std::size_t block = cut.counts[own], begin = cut.begins[own];
    switch (trial_.collective) {
      case Collective::all_reduce: return side(trial_.count, trial_.count, 0, 0, true);
      case Collective::reduce_scatter: return side(cut.total, block, 0, begin, true);
      case Collective::all_gather: return side(block, cut.total, begin, 0, true);
      case Collective::broadcast: return side(is_root ? trial_.count : 0, trial_.count, 0, 0, is_root);
      case Collective::reduce: return side(trial_.count, is_root ? trial_.count : 0, 0, 0, is_root);
      case Collective::gather: return side(block, is_root ? cut.total : 0, begin, 0, is_root);
      case Collective::scatter: return side(is_root ? cut.total : 0, block, 0, begin, is_root);
      case Collective::all_to_all: return side(cut.total, cut.total, 0, 0, false);
      case Collective::exchange: break;
    }
    std::size_t received = 0;
    for (int from = 0; from < ranks_; ++from) received += uneven_count(trial_, from, rank_);
    return side(cut.total, received, 0, 0, false);
  }

 private:
  /// `in_begins` and `out_begins`: where they lie, in elements, in the buffer that they share in place.
  Side side(std::size_t in_count, std::size_t out_count, std::size_t in_begins, std::size_t out_begins, bool may_share) {
    Side side{.in_count = in_count, .out_count = out_count, .in_place = trial_.in_place && may_share, .cut = cuts_[static_cast<std::size_t>(rank_)]};
    const std::size_t at = guard + static_cast<std::size_t>(trial_.offset) * size_;
    const auto image = [&](std::size_t count) { return std::vector<std::byte>(at + count * size_ + guard, canary); };
    side.in_at = at + (side.in_place ? in_begins * size_ : 0);
    side.out_at = at + (side.in_place ? out_begins * size_ : 0);
    side.in = image(in_count);
    side.out = image(side.in_place ? std::max(in_count, out_count) : out_count);
    const auto data = operand_bytes(trial_, rank_, in_count);
    std::copy(data.begin(), data.end(), (side.in_place ? side.out : side.in).begin() + static_cast<std::ptrdiff_t>(side.in_at));
    side.out_expected = side.out;
    // What is reduced is the same for every rank, and takes longer to make than to move: it is made once.
    if (reduces(trial_.collective) && total_.empty())
      total_ = expected_bytes(trial_, ranks_, trial_.collective == Collective::reduce_scatter ? cuts_[0].total : trial_.count);
    in_parts(out_count, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) put_expected(i, side.out_expected.data() + side.out_at + i * size_);
    });
    return side;
  }

  void put_total(std::size_t element, std::byte* at) const { std::memcpy(at, total_.data() + element * size_, size_); }

  void put_operand(int rank, std::size_t element, std::byte* at) const { write_element(at, trial_.type, operand(trial_, rank, element)); }

  void put_expected(std::size_t i, std::byte* at) const {
    const auto own = static_cast<std::size_t>(rank_);
    const std::size_t own_begin = cuts_[own].begins[own];
    switch (trial_.collective) {
      case Collective::all_reduce:
      case Collective::reduce: return put_total(i, at);
      case Collective::reduce_scatter: return put_total(own_begin + i, at);
      case Collective::broadcast: return put_operand(trial_.root, i, at);
      case Collective::scatter: return put_operand(trial_.root, own_begin + i, at);
      default: break;
    }
    // The others put what each rank has one behind the other.
    for (int from = 0; from < ranks_; ++from) {
      const Cut& theirs = cuts_[static_cast<std::size_t>(from)];
      const bool by_pairs = trial_.collective == Collective::all_to_all || trial_.collective == Collective::exchange;
      const std::size_t length = by_pairs ? theirs.counts[own] : cuts_[own].counts[static_cast<std::size_t>(from)];
      if (i < length) return put_operand(from, i + (by_pairs ? theirs.begins[own] : 0), at);
      i -= length;
    }
  }

  const Trial& trial_;
  const int ranks_;
  int rank_ = 0;
  const std::size_t size_;
  std::vector<Cut> cuts_;  ///< as each rank sees it
  std::vector<std::byte> total_;
};

void enqueue_exchange(Communicator& communicator, const Trial& trial, const Side& side, const std::byte* in, std::byte* out, Stream stream) {
  std::vector<Send> sends;
  std::vector<Receive> receives;
  const std::size_t size = size_of(trial.type);
  for (int peer = 0; peer < communicator.size(); ++peer) {
    const auto p = static_cast<std::size_t>(peer);
    // Nothing may be said, or be said to be nothing.
    if (side.cut.counts[p] > 0 || trial.seed % 2 == 0) sends.push_back({{in + side.cut.begins[p] * size, side.cut.counts[p], trial.type}, peer});
    const std::size_t count = uneven_count(trial, peer, communicator.rank());
    if (count > 0 || trial.seed % 3 == 0) receives.push_back({{out, count, trial.type}, peer});
    out += count * size;
  }
  communicator.exchange(sends, receives, stream);
}

void enqueue(Communicator& communicator, const Trial& trial, const Side& side, const std::byte* in, std::byte* out, Stream stream) {
  const ConstBuffer from{in, side.in_count, trial.type};
  const Buffer to{out, side.out_count, trial.type};
  switch (trial.collective) {
    case Collective::all_reduce: return communicator.all_reduce(from, to, trial.op, stream);
    case Collective::reduce_scatter:
      return trial.uneven ? communicator.reduce_scatter(from, to, side.cut.counts, trial.op, stream) : communicator.reduce_scatter(from, to, trial.op, stream);
    case Collective::all_gather: return trial.uneven ? communicator.all_gather(from, to, side.cut.counts, stream) : communicator.all_gather(from, to, stream);
    case Collective::broadcast: return communicator.broadcast(from, to, trial.root, stream);
    case Collective::reduce: return communicator.reduce(from, to, trial.op, trial.root, stream);
    case Collective::all_to_all: return communicator.all_to_all(from, to, stream);
    case Collective::gather: return communicator.gather(from, to, trial.root, stream);
    case Collective::scatter: return communicator.scatter(from, to, trial.root, stream);
    case Collective::exchange: return enqueue_exchange(communicator, trial, side, in, out, stream);
  }
}

std::size_t difference(const std::vector<std::byte>& found, const std::vector<std::byte>& expected) {
  if (found == expected) return 0;
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) wrong += found[i] != expected[i];
  return wrong;
}

}  // namespace

std::size_t uneven_count(const Trial& trial, int from, int to) {
  const std::uint64_t random = mix(mix(trial.seed * 1024 + static_cast<std::uint64_t>(from * 16 + to)));
  return random % 4 == 0 ? 0 : random / 4 % (trial.count + 1);
}

std::vector<std::byte> expected_bytes(const Trial& trial, int ranks, std::size_t count) {
  const std::size_t size = size_of(trial.type);
  std::vector<std::byte> bytes(count * size);
  std::vector<std::uint64_t> seeds;
  for (int rank = 0; rank < ranks; ++rank) seeds.push_back(rank_seed(trial, rank));
  in_parts(count, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) put_reduced(trial, seeds, i, bytes.data() + i * size);
  });
  return bytes;
}

RankMemory::RankMemory(Backend backend, int device, std::size_t bytes) : backend_(backend), device_(device), data_(nullptr, Free{backend}) {
  if (backend == Backend::host) {
    data_.reset(new (std::align_val_t{256}) std::byte[bytes]);
    return;
  }
#if COLLECTIVES_HAS_CUDA
  const DeviceScope scope(device);
  void* memory = nullptr;
  cuda_check(cudaMalloc(&memory, bytes));
  data_.reset(static_cast<std::byte*>(memory));
#endif
}

void RankMemory::Free::operator()(std::byte* data) const {
  if (backend == Backend::host) return ::operator delete[](data, std::align_val_t{256});
#if COLLECTIVES_HAS_CUDA
  (void)cudaFree(data);
#endif
}

void RankMemory::write(const std::vector<std::byte>& bytes) {
  if (backend_ == Backend::host) return static_cast<void>(std::memcpy(data(), bytes.data(), bytes.size()));
#if COLLECTIVES_HAS_CUDA
  const DeviceScope scope(device_);
  cuda_check(cudaMemcpy(data(), bytes.data(), bytes.size(), cudaMemcpyHostToDevice));
  // From pageable memory it may return before all has arrived, and the ranks' streams do not wait for the null stream.
  cuda_check(cudaStreamSynchronize(nullptr));
#endif
}

std::vector<std::byte> RankMemory::read(std::size_t bytes) const {
  std::vector<std::byte> copy(bytes);
  if (backend_ == Backend::host) std::memcpy(copy.data(), data(), bytes);
#if COLLECTIVES_HAS_CUDA
  if (backend_ == Backend::cuda) cuda_check(cudaMemcpy(copy.data(), data(), bytes, cudaMemcpyDeviceToHost));
#endif
  return copy;
}

Ranks::Ranks(const std::vector<int>& devices, const Options& options, std::size_t bytes)
    : communicators(Communicator::create_local(devices, options)) {
  const std::size_t room = bytes + 3 * guard;
  for (const Communicator& communicator : communicators) {
    in.emplace_back(communicator.backend(), communicator.device(), room);
    out.emplace_back(communicator.backend(), communicator.device(), room);
    Stream stream = nullptr;
#if COLLECTIVES_HAS_CUDA
    if (communicator.backend() == Backend::cuda) {
      const DeviceScope scope(communicator.device());
      stream = make_stream().release();
    }
#endif
    streams_.push_back(stream);
  }
}

Ranks::~Ranks() {
#if COLLECTIVES_HAS_CUDA
  for (const Stream stream : streams_)
    if (stream != nullptr) (void)cudaStreamDestroy(stream);
#endif
}

void put(Ranks& ranks, const Trial& trial) {
  for (int rank = 0; rank < ranks.size(); ++rank) ranks.in[static_cast<std::size_t>(rank)].write(operand_bytes(trial, rank, trial.count));
}

std::size_t wrong_ranks(Ranks& ranks, const Trial& trial) {
  const auto expected = expected_bytes(trial, ranks.size(), trial.count);
  std::size_t wrong = 0;
  for (const RankMemory& out : ranks.out) wrong += out.read(expected.size()) != expected;
  return wrong;
}

std::size_t mismatches(Ranks& ranks, const Trial& trial) {
  SideMaker maker(trial, ranks.size());
  std::vector<Side> sides;
  for (int rank = 0; rank < ranks.size(); ++rank) {
    const Side& side = sides.emplace_back(maker.make(rank));
    ranks.in[static_cast<std::size_t>(rank)].write(side.in);
    ranks.out[static_cast<std::size_t>(rank)].write(side.out);
  }
  for (int rank = 0; rank < ranks.size(); ++rank) {
    const auto r = static_cast<std::size_t>(rank);
    const Side& side = sides[r];
    const std::byte* in = (side.in_place ? ranks.out : ranks.in)[r].data() + side.in_at;
    enqueue(ranks.communicators[r], trial, side, in, ranks.out[r].data() + side.out_at, ranks.stream(rank));
  }
  for (int rank = 0; rank < ranks.size(); ++rank) ranks.communicators[static_cast<std::size_t>(rank)].synchronize(ranks.stream(rank));
  std::size_t wrong = 0;
  for (std::size_t r = 0; r < sides.size(); ++r) {
    wrong += difference(ranks.out[r].read(sides[r].out.size()), sides[r].out_expected);
    wrong += difference(ranks.in[r].read(sides[r].in.size()), sides[r].in);
  }
  return wrong;
}

std::size_t own_mismatches(Communicator& communicator, const Trial& trial) {
  const Side side = SideMaker(trial, communicator.size()).make(communicator.rank());
  auto in = side.in, out = side.out;
  enqueue(communicator, trial, side, (side.in_place ? out : in).data() + side.in_at, out.data() + side.out_at, nullptr);
  communicator.synchronize();
  return difference(out, side.out_expected) + difference(in, side.in);
}

}  // namespace collectives
