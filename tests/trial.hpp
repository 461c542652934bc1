#pragma once

#include <collectives/communicator.hpp>
#include <cstddef>
#include <memory>
#include <numeric>
#include <vector>

namespace collectives {

/// Memory of one rank for tests: host memory, or memory of a GPU, copied to and from as bytes.
class RankMemory {
 public:
  RankMemory(Backend backend, int device, std::size_t bytes);
  RankMemory(RankMemory&&) = default;

  std::byte* data() const { return data_.get(); }
  void write(const std::vector<std::byte>& bytes);
  std::vector<std::byte> read(std::size_t bytes) const;

 private:
  struct Free {
    Backend backend;
    void operator()(std::byte* data) const;
  };
  Backend backend_;
  [[maybe_unused]] int device_;
  std::unique_ptr<std::byte, Free> data_;
};

/// 0 .. ranks-1: a device each, or on the host only their number.
inline std::vector<int> counted(int ranks) {
  std::vector<int> devices(static_cast<std::size_t>(ranks));
  std::iota(devices.begin(), devices.end(), 0);
  return devices;
}

/// All ranks of a communicator in this process, each with an input, an output and a stream.
class Ranks {
 public:
  Ranks(const std::vector<int>& devices, const Options& options, std::size_t bytes);
  ~Ranks();

  int size() const { return static_cast<int>(communicators.size()); }
  Stream stream(int rank) const { return streams_[static_cast<std::size_t>(rank)]; }

  std::vector<Communicator> communicators;
  std::vector<RankMemory> in, out;

 private:
  std::vector<Stream> streams_;
};

/// One call to be tried.
struct Trial {
  DataType type = DataType::float32;
  ReduceOp op = ReduceOp::sum;
  std::size_t count = 1;  ///< of the message, or of every block
  bool in_place = false;
  int offset = 0;          ///< elements by which the buffers miss their alignment to 16 bytes
  std::uint64_t seed = 0;  ///< the call: data differ per rank, element and call
  Collective collective = Collective::all_reduce;
  int root = 0;
  bool uneven = false;     ///< blocks of random sizes up to `count`; an exchange's always are
};

/// Runs the trial with integer-valued data whose result is exact in every type, and returns how many bytes of all ranks
/// are wrong, canaries and inputs among them.
std::size_t mismatches(Ranks& ranks, const Trial& trial);

/// The steps of that for calls that are made in other ways, of all-reduces out of place: every rank's input, and then how many ranks have
/// another output than they must.
void put(Ranks& ranks, const Trial& trial);
std::size_t wrong_ranks(Ranks& ranks, const Trial& trial);

/// This rank's part of a trial on the host backend, for ranks that are driven apart: how many of its bytes are wrong. Every
/// rank of the communicator makes the same trial.
std::size_t own_mismatches(Communicator& communicator, const Trial& trial);

/// A block's elements in an uneven trial, and what an exchange sends; empty ones among them.
std::size_t uneven_count(const Trial& trial, int from, int to);

/// The value as the type holds it; integers keep their low bits.
void write_element(std::byte* at, DataType type, long long value);
/// The operand of a rank, as every type can hold it.
int operand(const Trial& trial, int rank, std::size_t element);
/// What a rank gives and what every rank must get of an all-reduce, in the bytes of the type.
std::vector<std::byte> operand_bytes(const Trial& trial, int rank, std::size_t count);
std::vector<std::byte> expected_bytes(const Trial& trial, int ranks, std::size_t count);

}  // namespace collectives
