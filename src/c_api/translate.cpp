#include "c_api/translate.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/require.hpp"

namespace collectives {
namespace {

// The C numbers are the C++ numbers: one place that fails to compile if they part.
static_assert(coll_invalid_argument == static_cast<int>(ErrorCode::invalid_argument) &&
              coll_invalid_usage == static_cast<int>(ErrorCode::invalid_usage) && coll_peer_lost == static_cast<int>(ErrorCode::peer_lost) &&
              coll_mismatch == static_cast<int>(ErrorCode::mismatch) && coll_timeout == static_cast<int>(ErrorCode::timeout) &&
              coll_aborted == static_cast<int>(ErrorCode::aborted) && coll_out_of_memory == static_cast<int>(ErrorCode::out_of_memory) &&
              coll_unsupported == static_cast<int>(ErrorCode::unsupported) && coll_system_error == static_cast<int>(ErrorCode::system) &&
              coll_device_error == static_cast<int>(ErrorCode::device) && coll_internal_error == static_cast<int>(ErrorCode::internal));
static_assert(coll_float32 == static_cast<int>(DataType::float32) && coll_float64 == static_cast<int>(DataType::float64) &&
              coll_float16 == static_cast<int>(DataType::float16) && coll_bfloat16 == static_cast<int>(DataType::bfloat16) &&
              coll_int8 == static_cast<int>(DataType::int8) && coll_uint8 == static_cast<int>(DataType::uint8) &&
              coll_int32 == static_cast<int>(DataType::int32) && coll_uint32 == static_cast<int>(DataType::uint32) &&
              coll_int64 == static_cast<int>(DataType::int64) && coll_uint64 == static_cast<int>(DataType::uint64) &&
              coll_float8_e4m3 == static_cast<int>(DataType::float8_e4m3) && coll_float8_e5m2 == static_cast<int>(DataType::float8_e5m2) &&
              data_type_count == 12);
static_assert(coll_sum == static_cast<int>(ReduceOp::sum) && coll_prod == static_cast<int>(ReduceOp::prod) &&
              coll_min == static_cast<int>(ReduceOp::min) && coll_max == static_cast<int>(ReduceOp::max) &&
              coll_avg == static_cast<int>(ReduceOp::avg) && reduce_op_count == 5);
static_assert(coll_kind_all_reduce == static_cast<int>(Collective::all_reduce) && coll_kind_reduce_scatter == static_cast<int>(Collective::reduce_scatter) &&
              coll_kind_all_gather == static_cast<int>(Collective::all_gather) && coll_kind_broadcast == static_cast<int>(Collective::broadcast) &&
              coll_kind_reduce == static_cast<int>(Collective::reduce) && coll_kind_all_to_all == static_cast<int>(Collective::all_to_all) &&
              coll_kind_gather == static_cast<int>(Collective::gather) && coll_kind_scatter == static_cast<int>(Collective::scatter) &&
              coll_kind_exchange == static_cast<int>(Collective::exchange) && collective_count == 9);
static_assert(coll_backend_automatic == static_cast<int>(Backend::automatic) && coll_backend_cuda == static_cast<int>(Backend::cuda) &&
              coll_backend_host == static_cast<int>(Backend::host));
static_assert(coll_one_shot == static_cast<int>(Algorithm::one_shot) && coll_two_shot == static_cast<int>(Algorithm::two_shot) &&
              coll_ring == static_cast<int>(Algorithm::ring) && coll_binary_tree == static_cast<int>(Algorithm::binary_tree) &&
              coll_kary_tree == static_cast<int>(Algorithm::kary_tree) &&
              coll_balanced_tree == static_cast<int>(Algorithm::balanced_tree) &&
              coll_double_tree == static_cast<int>(Algorithm::double_tree) &&
              coll_packed_trees == static_cast<int>(Algorithm::packed_trees) && coll_island == static_cast<int>(Algorithm::island) &&
              coll_copy_two_shot == static_cast<int>(Algorithm::copy_two_shot) && algorithm_count == 10);
static_assert(coll_wire_sentinel == static_cast<int>(Wire::sentinel) && coll_wire_flagged == static_cast<int>(Wire::flagged) &&
              coll_wire_escaped == static_cast<int>(Wire::escaped));
static_assert(coll_mode_auto == static_cast<int>(PeerMode::automatic) && coll_mode_p2p == static_cast<int>(PeerMode::p2p) &&
              coll_mode_host == static_cast<int>(PeerMode::host));
static_assert(COLL_MAX_RANKS == max_ranks && COLL_UNIQUE_ID_BYTES == sizeof(UniqueId));

// The structures as the first version had them: no caller's can be smaller.
constexpr std::size_t first_options_size = 48;
constexpr std::size_t first_pool_info_size = 56;
constexpr std::size_t first_plan_info_size = 56;
constexpr std::size_t first_plan_request_size = 32;
static_assert(sizeof(coll_options) >= first_options_size && sizeof(coll_pool_info) >= first_pool_info_size &&
              sizeof(coll_plan_info) >= first_plan_info_size);

/// `value` as the enumeration `Enum` of `count` names, checked as an int: a narrowing cast would let 256 pass for 0.
template <typename Enum>
Enum enum_of(int value, int count, const char* what) {
  if (value >= 0 && value < count) return static_cast<Enum>(value);
  std::string allowed;
  for (int index = 0; index < count; ++index) {
    allowed += fmt::format("{}{}", index == 0 ? "" : ", ", index);
    if constexpr (requires { name_of(Enum{}); }) allowed += fmt::format(" ({})", name_of(static_cast<Enum>(index)));
  }
  throw Error(ErrorCode::invalid_argument, fmt::format("{} is no {}: expected one of {}", value, what, allowed));
}

void check_size(std::size_t size, std::size_t first, const char* what) {
  require(size >= first, [&] { return fmt::format("{}.size is {}: expected sizeof({}), at least {}", what, size, what, first); });
}

template <typename Info>
void write_known(Info* info, const Info& known, std::size_t first, const char* what) {
  require(info != nullptr, [&] { return fmt::format("the {} to fill is null", what); });
  const std::size_t size = info->size;
  check_size(size, first, what);
  std::memcpy(info, &known, std::min(size, sizeof known));
  info->size = size;
}

constexpr coll_options defaults{.size = sizeof(coll_options),
                                .backend = coll_backend_automatic,
                                .algorithm = coll_algorithm_automatic,
                                .arity = AlgorithmChoice{}.arity,
                                .wire = coll_wire_automatic,
                                .invariant = 0,
                                .max_blocks = 0,
                                .timeout_ms = 0,
                                .first_epoch = 0,
                                .pool_bytes = 0,
                                .mode = coll_mode_environment,
                                .prove_links = 0,
                                .refused = nullptr,
                                .refused_count = 0,
                                .programmatic_launch = 0,
                                .tuned = -1};

}  // namespace

DataType data_type_of(coll_data_type type) { return enum_of<DataType>(type, data_type_count, "data type"); }
ReduceOp reduce_op_of(coll_reduce_op op) { return enum_of<ReduceOp>(op, reduce_op_count, "reduction operation"); }

PlanRequest request_of(const coll_plan_request* request) {
  require(request != nullptr, "the coll_plan_request is null");
  check_size(request->size, first_plan_request_size, "coll_plan_request");
  return {.collective = enum_of<Collective>(request->collective, collective_count, "collective"),
          .count = request->count,
          .type = data_type_of(request->type),
          .op = reduce_op_of(request->op),
          .root = request->root};
}

Options options_of(const coll_options* options) {
  if (options == nullptr) return {};
  check_size(options->size, first_options_size, "coll_options");
  coll_options known = defaults;
  std::memcpy(&known, options, std::min(options->size, sizeof known));
  const auto* bytes = reinterpret_cast<const unsigned char*>(options);
  require(options->size <= sizeof known || std::all_of(bytes + sizeof known, bytes + options->size, [](unsigned char b) { return b == 0; }),
          "coll_options has fields set that this version of the library does not know", ErrorCode::unsupported);

  Options result;
  result.backend = enum_of<Backend>(known.backend, 3, "backend");
  if (known.algorithm != coll_algorithm_automatic)
    result.algorithm = AlgorithmChoice{enum_of<Algorithm>(known.algorithm, algorithm_count, "algorithm"), known.arity};
  if (known.wire != coll_wire_automatic) result.wire = enum_of<Wire>(known.wire, 2, "wire");
  result.invariant = known.invariant != 0;
  result.max_blocks = known.max_blocks;
  if (known.timeout_ms != 0) result.timeout_ms = known.timeout_ms;
  result.first_epoch = known.first_epoch;
  if (known.pool_bytes != 0) result.pool_bytes = known.pool_bytes;
  if (known.mode != coll_mode_environment) result.mode = enum_of<PeerMode>(known.mode, 3, "mode");
  result.prove_links = known.prove_links != 0;
  result.programmatic_launch = known.programmatic_launch != 0;
  if (known.tuned != -1) result.tuned = enum_of<bool>(known.tuned, 2, "value of coll_options.tuned");
  require(known.refused != nullptr || known.refused_count == 0, "coll_options.refused is null and its count is not 0");
  for (std::size_t i = 0; i < known.refused_count; ++i) result.refused.emplace_back(known.refused[i].a, known.refused[i].b);
  return result;
}

void write_defaults(coll_options* options, std::size_t size) {
  require(options != nullptr, "the coll_options to fill is null");
  check_size(size, first_options_size, "coll_options");
  std::memset(static_cast<void*>(options), 0, size);
  std::memcpy(options, &defaults, std::min(size, sizeof defaults));
  options->size = size;
}

void write_info(coll_pool_info* info, const PoolStatistics& statistics) {
  const coll_pool_info known{.size = sizeof known,
                             .reserved = statistics.reserved,
                             .committed = statistics.committed,
                             .in_use = statistics.in_use,
                             .high_water = statistics.high_water,
                             .allocations = statistics.allocations,
                             .failures = statistics.failures};
  write_known(info, known, first_pool_info_size, "coll_pool_info");
}

void write_info(coll_plan_info* info, const Plan& plan) {
  const coll_plan_info known{.size = sizeof known,
                             .algorithm = static_cast<int>(plan.choice.algorithm),
                             .arity = plan.choice.arity,
                             .wire = static_cast<int>(plan.wire),
                             .blocks = plan.blocks * plan.crews,
                             .threads = plan.threads,
                             .stages = plan.stages,
                             .bytes = plan.bytes,
                             .tile_bytes = plan.tile_bytes,
                             .predicted_us = plan.predicted_us};
  write_known(info, known, first_plan_info_size, "coll_plan_info");
}

}  // namespace collectives
