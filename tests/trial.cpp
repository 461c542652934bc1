#include "trial.hpp"

#include <cstring>

#include "base/require.hpp"
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
}

/// The value as the type holds it; integers keep their low bits.
void put(DataType type, long long value, std::byte* at) {
  const auto whole = static_cast<double>(value);
  if (type == DataType::float64) return static_cast<void>(std::memcpy(at, &whole, 8));
  if (is_floating(type)) return put_float(type, static_cast<float>(value), at);
  std::memcpy(at, &value, size_of(type));
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

int operand(const Trial& trial, int rank, std::size_t element) {
  const std::uint64_t random = mix(mix(trial.seed * 64 + static_cast<std::uint64_t>(rank)) + element);
  if (trial.op == ReduceOp::prod) {
    // Few twos: 2^4 of 16 ranks fits every type exactly.
    if (random % 3 == 0 && rank % 4 == 0) return 2;
    return !is_unsigned(trial.type) && random % 5 == 0 ? -1 : 1;
  }
  const int value = static_cast<int>(random % 17);
  return is_unsigned(trial.type) ? value : value - 8;
}

std::vector<std::byte> operand_bytes(const Trial& trial, int rank, std::size_t count) {
  const std::size_t size = size_of(trial.type);
  std::vector<std::byte> bytes(count * size);
  for (std::size_t i = 0; i < count; ++i) put(trial.type, operand(trial, rank, i), bytes.data() + i * size);
  return bytes;
}

std::vector<std::byte> expected_bytes(const Trial& trial, int ranks, std::size_t count) {
  const std::size_t size = size_of(trial.type);
  std::vector<std::byte> bytes(count * size);
  for (std::size_t i = 0; i < count; ++i) {
    long long result = operand(trial, 0, i);
    for (int rank = 1; rank < ranks; ++rank) {
      const long long value = operand(trial, rank, i);
      if (trial.op == ReduceOp::sum || trial.op == ReduceOp::avg) result += value;
      if (trial.op == ReduceOp::prod) result *= value;
      if (trial.op == ReduceOp::min) result = std::min(result, value);
      if (trial.op == ReduceOp::max) result = std::max(result, value);
    }
    std::byte* at = bytes.data() + i * size;
    if (trial.op != ReduceOp::avg) {
      put(trial.type, result, at);
    } else if (trial.type == DataType::float64) {
      const double average = static_cast<double>(result) / ranks;
      std::memcpy(at, &average, 8);
    } else if (is_floating(trial.type)) {
      put_float(trial.type, static_cast<float>(result) / static_cast<float>(ranks), at);
    } else {
      put(trial.type, wrap(trial.type, result) / ranks, at);
    }
  }
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

std::size_t mismatches(Ranks& ranks, const Trial& trial) {
  const std::size_t size = size_of(trial.type), bytes = trial.count * size;
  const std::size_t begin = guard + static_cast<std::size_t>(trial.offset) * size;
  const std::size_t room = begin + bytes + guard;
  for (int rank = 0; rank < ranks.size(); ++rank) {
    const auto r = static_cast<std::size_t>(rank);
    std::vector<std::byte> image(room, canary);
    if (trial.in_place) {
      const auto data = operand_bytes(trial, rank, trial.count);
      std::copy(data.begin(), data.end(), image.begin() + static_cast<std::ptrdiff_t>(begin));
      ranks.out[r].write(image);
    } else {
      ranks.out[r].write(image);
      const auto data = operand_bytes(trial, rank, trial.count);
      std::copy(data.begin(), data.end(), image.begin() + static_cast<std::ptrdiff_t>(begin));
      ranks.in[r].write(image);
    }
  }
  for (int rank = 0; rank < ranks.size(); ++rank) {
    const auto r = static_cast<std::size_t>(rank);
    std::byte* to = ranks.out[r].data() + begin;
    const std::byte* from = trial.in_place ? to : ranks.in[r].data() + begin;
    ranks.communicators[r].all_reduce({from, trial.count, trial.type}, {to, trial.count, trial.type}, trial.op, ranks.stream(rank));
  }
  for (int rank = 0; rank < ranks.size(); ++rank) ranks.communicators[static_cast<std::size_t>(rank)].synchronize(ranks.stream(rank));

  std::vector<std::byte> expected(room, canary);
  const auto result = expected_bytes(trial, ranks.size(), trial.count);
  std::copy(result.begin(), result.end(), expected.begin() + static_cast<std::ptrdiff_t>(begin));
  std::size_t wrong = 0;
  for (int rank = 0; rank < ranks.size(); ++rank) {
    const auto r = static_cast<std::size_t>(rank);
    const auto image = ranks.out[r].read(room);
    if (image != expected) {
      wrong += std::memcmp(image.data(), expected.data(), begin) != 0;
      wrong += std::memcmp(image.data() + begin + bytes, expected.data() + begin + bytes, guard) != 0;
      for (std::size_t i = 0; i < trial.count; ++i) wrong += std::memcmp(image.data() + begin + i * size, expected.data() + begin + i * size, size) != 0;
    }
    if (!trial.in_place) {
      const auto data = operand_bytes(trial, rank, trial.count);
      const auto input = ranks.in[r].read(room);
      wrong += !std::equal(data.begin(), data.end(), input.begin() + static_cast<std::ptrdiff_t>(begin));
    }
  }
  return wrong;
}

std::size_t own_mismatches(Communicator& communicator, const Trial& trial) {
  const std::size_t size = size_of(trial.type), bytes = trial.count * size;
  const std::size_t begin = guard + static_cast<std::size_t>(trial.offset) * size;
  std::vector<std::byte> in(begin + bytes + guard, canary), out = in;
  const auto data = operand_bytes(trial, communicator.rank(), trial.count);
  const auto result = expected_bytes(trial, communicator.size(), trial.count);
  std::vector<std::byte> expected = out;
  std::copy(result.begin(), result.end(), expected.begin() + static_cast<std::ptrdiff_t>(begin));
  std::copy(data.begin(), data.end(), (trial.in_place ? out : in).begin() + static_cast<std::ptrdiff_t>(begin));
  const auto input = in;
  communicator.all_reduce({(trial.in_place ? out : in).data() + begin, trial.count, trial.type}, {out.data() + begin, trial.count, trial.type}, trial.op);
  communicator.synchronize();
  std::size_t wrong = in != input;
  if (out == expected) return wrong;
  wrong += !std::equal(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(begin), expected.begin());
  wrong += std::memcmp(out.data() + begin + bytes, expected.data() + begin + bytes, guard) != 0;
  for (std::size_t i = 0; i < trial.count; ++i) wrong += std::memcmp(out.data() + begin + i * size, expected.data() + begin + i * size, size) != 0;
  return wrong;
}

}  // namespace collectives
