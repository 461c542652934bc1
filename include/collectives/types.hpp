#pragma once

#include <cstddef>
#include <cstdint>

#if defined(COLLECTIVES_BUILD)
#define COLLECTIVES_EXPORT __attribute__((visibility("default")))
#else
#define COLLECTIVES_EXPORT
#endif

struct CUstream_st;

namespace collectives {

/// What `cudaStream_t` is, without its header. Null is the legacy default stream; the host backend ignores it.
using Stream = CUstream_st*;

/// Element types. The numbers are part of the C interface. Those of 8 bits are reduced in fp32 like the other small ones, and
/// saturate: what is beyond their largest finite value becomes that value.
enum class DataType : std::uint8_t { float32, float64, float16, bfloat16, int8, uint8, int32, uint32, int64, uint64, float8_e4m3, float8_e5m2 };
inline constexpr int data_type_count = 12;

/// Element-wise operations. `avg` is the sum divided by the number of ranks: floating types divide before their one
/// rounding, integers truncate toward zero. Integer sums and products wrap. `min` and `max` propagate NaN and hold -0 < +0.
enum class ReduceOp : std::uint8_t { sum, prod, min, max, avg };
inline constexpr int reduce_op_count = 5;

/// What ranks do together. The numbers are part of the C interface.
enum class Collective : std::uint8_t { all_reduce, reduce_scatter, all_gather, broadcast, reduce, all_to_all, gather, scatter, exchange };
inline constexpr int collective_count = 9;

/// Where ranks live: GPUs, or threads and processes of this machine's CPUs.
enum class Backend : std::uint8_t { automatic, cuda, host };

/// How ranks reach each other's memory: by peer access where there is any and through host memory elsewhere; by peer access alone, or
/// an error that names the pairs without it; or through host memory alone.
enum class PeerMode : std::uint8_t { automatic, p2p, host };
constexpr const char* name_of(PeerMode mode) {
  constexpr const char* names[] = {"auto", "p2p", "host"};
  return names[static_cast<int>(mode)];
}

constexpr bool is_valid(DataType type) { return static_cast<int>(type) < data_type_count; }
constexpr bool is_valid(Collective collective) { return static_cast<int>(collective) < collective_count; }
constexpr bool is_valid(ReduceOp op) { return static_cast<int>(op) < reduce_op_count; }

/// Bytes of one element.
constexpr std::size_t size_of(DataType type) {
  switch (type) {
    case DataType::int8:
    case DataType::uint8:
    case DataType::float8_e4m3:
    case DataType::float8_e5m2: return 1;
    case DataType::float16:
    case DataType::bfloat16: return 2;
    case DataType::float32:
    case DataType::int32:
    case DataType::uint32: return 4;
    case DataType::float64:
    case DataType::int64:
    case DataType::uint64: return 8;
  }
  return 0;
}

constexpr bool is_float8(DataType type) { return type == DataType::float8_e4m3 || type == DataType::float8_e5m2; }
constexpr bool is_floating(DataType type) { return static_cast<int>(type) <= static_cast<int>(DataType::bfloat16) || is_float8(type); }

constexpr const char* name_of(DataType type) {
  constexpr const char* names[] = {"float", "double", "half", "bfloat16", "int8", "uint8", "int32", "uint32", "int64", "uint64", "f8e4m3", "f8e5m2"};
  return is_valid(type) ? names[static_cast<int>(type)] : "unknown";
}

constexpr const char* name_of(ReduceOp op) {
  constexpr const char* names[] = {"sum", "prod", "min", "max", "avg"};
  return is_valid(op) ? names[static_cast<int>(op)] : "unknown";
}

constexpr const char* name_of(Collective collective) {
  constexpr const char* names[] = {"all_reduce", "reduce_scatter", "all_gather", "broadcast", "reduce", "all_to_all", "gather", "scatter", "exchange"};
  return is_valid(collective) ? names[static_cast<int>(collective)] : "unknown";
}

/// How one rank hands another what it has for it: writes it into the other's memory, lets the other read it out of its own, or leaves it
/// in host memory.
enum class Handover : std::uint8_t { push, pull, host };

constexpr const char* name_of(Handover handover) {
  constexpr const char* names[] = {"push", "pull", "host"};
  const int index = static_cast<int>(handover);
  return index < 3 ? names[index] : "unknown";
}

/// Does it combine what it moves? Bits of the others arrive as they were.
constexpr bool reduces(Collective collective) {
  return collective == Collective::all_reduce || collective == Collective::reduce_scatter || collective == Collective::reduce;
}
/// Does its message begin or end at one rank?
constexpr bool has_root(Collective collective) {
  return collective == Collective::broadcast || collective == Collective::reduce || collective == Collective::gather || collective == Collective::scatter;
}

/// A sum of every rank's operand times a factor of that rank's own. Operands are rounded to their type once more, after the product.
struct ScaledSum {
  const void* factor = nullptr;  ///< one element of the operands' type
  bool on_device = false;        ///< in memory that the kernels reach, and read when the call runs; else host memory, read at once
};

/// `count` elements of `type` that are read. Any alignment of the element type will do.
struct ConstBuffer {
  const void* data = nullptr;
  std::size_t count = 0;
  DataType type = DataType::float32;
};

/// `count` elements of `type` that are written.
struct Buffer {
  void* data = nullptr;
  std::size_t count = 0;
  DataType type = DataType::float32;
};

}  // namespace collectives
