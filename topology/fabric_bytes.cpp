#include <collectives/communicator.hpp>

#include "base/require.hpp"
#include "topology/fabric.hpp"

namespace collectives {
namespace {

// "CFB" and the number of the layout.
constexpr std::uint32_t layout_mark = 0x01424643;

class Writer {
 public:
  void word(std::uint32_t value) {
    for (int shift = 0; shift < 32; shift += 8) bytes_.push_back(static_cast<std::uint8_t>(value >> shift));
  }
  std::vector<std::uint8_t> take() { return std::move(bytes_); }

 private:
  std::vector<std::uint8_t> bytes_;
};

class Reader {
 public:
  explicit Reader(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

  std::uint32_t word() {
    require(bytes_.size() >= 4, "expected the bytes of a fabric, found fewer");
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < 4; ++i) value |= static_cast<std::uint32_t>(bytes_[i]) << (8 * i);
    bytes_ = bytes_.subspan(4);
    return value;
  }

  std::uint32_t word_between(std::uint32_t least, std::uint32_t most, std::string_view what) {
    const std::uint32_t value = word();
    require(value >= least && value <= most, what);
    return value;
  }

  bool empty() const { return bytes_.empty(); }

 private:
  std::span<const std::uint8_t> bytes_;
};

}  // namespace

std::vector<std::uint8_t> to_bytes(const Fabric& fabric) {
  Writer out;
  out.word(layout_mark);
  out.word(static_cast<std::uint32_t>(fabric.backend));
  out.word(static_cast<std::uint32_t>(fabric.ranks));
  out.word(fabric.port_mb_per_s);
  out.word(fabric.launch_ns);
  out.word(fabric.ranks_per_device);
  out.word(fabric.multiprocessors);
  for (const FabricLink& link : fabric.links) {
    out.word(link.direct);
    out.word(link.mb_per_s);
    out.word(link.latency_ns);
  }
  return out.take();
}

Fabric fabric_from_bytes(std::span<const std::uint8_t> bytes) {
  Reader in(bytes);
  in.word_between(layout_mark, layout_mark, "expected the bytes of a fabric of this build");
  Fabric fabric;
  constexpr auto cuda = static_cast<std::uint32_t>(Backend::cuda);
  constexpr auto host = static_cast<std::uint32_t>(Backend::host);
  fabric.backend = static_cast<Backend>(in.word_between(cuda, host, "expected a fabric of GPUs or of the host"));
  fabric.ranks = static_cast<int>(in.word_between(1, max_ranks, "expected a fabric of 1 to 16 ranks"));
  fabric.port_mb_per_s = in.word();
  fabric.launch_ns = in.word();
  fabric.ranks_per_device = in.word_between(1, static_cast<std::uint32_t>(fabric.ranks), "expected 1 to all ranks on a device");
  fabric.multiprocessors = in.word();
  for (int i = 0; i < fabric.ranks * fabric.ranks; ++i) {
    const bool direct = in.word_between(0, 1, "expected a link that is direct or not") == 1;
    const std::uint32_t mb_per_s = in.word_between(1, 0xffffffff, "expected a link with a rate");
    fabric.links.push_back({direct, mb_per_s, in.word()});
  }
  require(in.empty(), "expected the bytes of a fabric, found more");
  return fabric;
}

}  // namespace collectives
