// An id as libcollectives makes it fills 128 bytes, and so does NCCL's, but most of either is zeros. The longest run of zeros is
// left out of each, which makes room for both and for the host.
#include "nccl_shim/nccl_id.hpp"

#include <unistd.h>

#include <cstring>
#include <fstream>
#include <span>
#include <string>

#include "base/require.hpp"

namespace collectives {
namespace {

constexpr std::size_t id_bytes = sizeof(NcclId);
using IdBytes = std::array<char, id_bytes>;

struct Head {
  static constexpr std::uint32_t expected_magic = 0x4e434f4c;
  std::uint32_t magic = expected_magic;
  std::uint32_t has_real = 0;
  std::uint64_t host = 0;
};

/// Zeros from `begin` to `end`, and what is before and after.
struct ZeroRun {
  std::uint8_t begin = 0;
  std::uint8_t end = 0;
  std::size_t packed_bytes() const { return 2 + id_bytes - (end - begin); }
};

ZeroRun longest_zeros(const IdBytes& bytes) {
  ZeroRun best;
  for (std::size_t begin = 0; begin < id_bytes; ++begin) {
    std::size_t end = begin;
    while (end < id_bytes && bytes[end] == 0) ++end;
    if (end - begin > static_cast<std::size_t>(best.end - best.begin)) best = {static_cast<std::uint8_t>(begin), static_cast<std::uint8_t>(end)};
  }
  return best;
}

/// Appends `bytes` behind the first `used` of `into`. False if there is no room.
bool pack(const IdBytes& bytes, IdBytes& into, std::size_t& used) {
  const ZeroRun zeros = longest_zeros(bytes);
  if (used + zeros.packed_bytes() > id_bytes) return false;
  into[used++] = static_cast<char>(zeros.begin);
  into[used++] = static_cast<char>(zeros.end);
  for (std::size_t i = 0; i < id_bytes; ++i)
    if (i < zeros.begin || i >= zeros.end) into[used++] = bytes[i];
  return true;
}

IdBytes unpack(const IdBytes& from, std::size_t& used) {
  ZeroRun zeros;
  if (used + 2 <= id_bytes) zeros = {static_cast<std::uint8_t>(from[used]), static_cast<std::uint8_t>(from[used + 1])};
  require(used + 2 <= id_bytes && zeros.begin <= zeros.end && zeros.end <= id_bytes && used + zeros.packed_bytes() <= id_bytes,
          "this unique id is damaged: expected the 128 bytes of ncclGetUniqueId unchanged");
  used += 2;
  IdBytes bytes{};
  for (std::size_t i = 0; i < id_bytes; ++i)
    if (i < zeros.begin || i >= zeros.end) bytes[i] = from[used++];
  return bytes;
}

template <typename Id>
IdBytes bytes_of_id(const Id& id) {
  static_assert(sizeof(Id) == id_bytes);
  IdBytes bytes;
  std::memcpy(bytes.data(), &id, id_bytes);
  return bytes;
}

}  // namespace

NcclId write_nccl_id(const DropInId& id) {
  IdBytes bytes{};
  Head head{.host = id.host};
  std::size_t used = sizeof head;
  NcclId result;
  if (!pack(bytes_of_id(id.meeting), bytes, used)) {
    std::memcpy(&result, &id.meeting, sizeof result);
    return result;
  }
  head.has_real = id.real && pack(bytes_of_id(*id.real), bytes, used);
  std::memcpy(bytes.data(), &head, sizeof head);
  std::memcpy(&result, bytes.data(), sizeof result);
  return result;
}

DropInId read_nccl_id(const NcclId& id) {
  const IdBytes bytes = bytes_of_id(id);
  Head head;
  std::memcpy(&head, bytes.data(), sizeof head);
  DropInId result;
  if (head.magic != Head::expected_magic) {
    // An id that left no room for more; whoever meets by it finds out whether it is one.
    result.meeting = {bytes};
    return result;
  }
  std::size_t used = sizeof head;
  result.host = head.host;
  result.meeting = {unpack(bytes, used)};
  if (head.has_real != 0) {
    const IdBytes real = unpack(bytes, used);
    std::memcpy(&result.real.emplace(), real.data(), sizeof real);
  }
  return result;
}

std::uint64_t this_host() {
  static const std::uint64_t host = [] {
    std::string words;
    std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), words);
    char name[256] = "";
    (void)::gethostname(name, sizeof name - 1);
    std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
    for (const char c : words + name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    return hash | 1u;
  }();
  return host;
}

}  // namespace collectives
