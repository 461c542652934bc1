#include "nccl_shim/config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "base/require.hpp"

namespace collectives {
namespace {

constexpr std::size_t first_size = 24, largest_size = 4096;  // NCCL 2.14's, and more than any since has had
constexpr unsigned version_with_ctas = 21700, version_with_split_share = 21800;

constexpr NcclConfig undefined{.size = sizeof(NcclConfig),
                               .magic = nccl_config_magic,
                               .version = nccl_version,
                               .blocking = nccl_undefined,
                               .cga_cluster_size = nccl_undefined,
                               .min_ctas = nccl_undefined,
                               .max_ctas = nccl_undefined,
                               .net_name = nullptr,
                               .split_share = nccl_undefined,
                               .traffic_class = nccl_undefined,
                               .comm_name = nullptr,
                               .collnet_enable = nccl_undefined,
                               .cta_policy = nccl_undefined,
                               .shrink_share = nccl_undefined,
                               .nvls_ctas = nccl_undefined,
                               .channels_per_net_peer = nccl_undefined,
                               .nvlink_centric_sched = nccl_undefined};

void check_range(int value, int least, int most, const char* what) {
  require(value == nccl_undefined || (value >= least && value <= most), [&] { return fmt::format("the configuration's {} is {}: expected {} to {}", what, value, least, most); });
}

}  // namespace

NcclConfig* DropInConfig::for_real(NcclConfig& place) const {
  if (!given) return nullptr;
  place = *given;
  place.blocking = 1;
  return &place;
}

DropInConfig read_config(const NcclConfig* config, const DropInConfig& otherwise) {
  if (config == nullptr) return otherwise;
  std::size_t size = 0;
  std::memcpy(&size, config, sizeof size);
  require(size >= first_size && size <= largest_size,
          [&] { return fmt::format("the configuration's size is {}: expected {} to {}, as NCCL_CONFIG_INITIALIZER sets it", size, first_size, largest_size); });
  NcclConfig known = undefined;
  std::memcpy(&known, config, std::min(size, sizeof known));
  known.size = std::min(size, sizeof known);
  require(known.magic == nccl_config_magic, [&] { return fmt::format("the configuration's magic is {:#x}: expected what NCCL_CONFIG_INITIALIZER sets", known.magic); });
  // What was padding in the structure that the caller was compiled with is nothing he has set.
  if (known.version < version_with_ctas) known.cga_cluster_size = known.min_ctas = known.max_ctas = nccl_undefined;
  if (known.version < version_with_split_share) known.split_share = nccl_undefined;
  check_range(known.blocking, 0, 1, "blocking");
  check_range(known.cga_cluster_size, 0, 8, "cgaClusterSize");
  check_range(known.min_ctas, 1, INT_MAX, "minCTAs");
  check_range(known.max_ctas, 1, INT_MAX, "maxCTAs");
  require(known.min_ctas == nccl_undefined || known.max_ctas == nccl_undefined || known.min_ctas <= known.max_ctas,
          [&] { return fmt::format("the configuration's minCTAs is {} and its maxCTAs {}: expected no more than that", known.min_ctas, known.max_ctas); });
  check_range(known.split_share, 0, 1, "splitShare");
  return {.blocking = known.blocking != 0, .max_ctas = known.max_ctas == nccl_undefined ? 0 : known.max_ctas, .given = known};
}

}  // namespace collectives
