#include <collectives/communicator.hpp>

#include "base/require.hpp"
#include "topology/fabric.hpp"

namespace collectives {
namespace {

// "CFB" and the number of the layout.
constexpr std::uint32_t layout_mark = 0x03424643;

constexpr std::uint32_t last_kind = static_cast<std::uint32_t>(ResourceKind::core_in);

// The longest way there is: slots, switches, roots, sockets and memory, and some more.
constexpr std::uint32_t most_resources = 0xffff, longest_route = 64;

class Writer {
 public:
  void word(std::uint32_t value) {
    for (int shift = 0; shift < 32; shift += 8) bytes_.push_back(static_cast<std::uint8_t>(value >> shift));
  }
  std::vector<std::uint8_t> take() { return std::move(bytes_); }

 private:
  std::vector<std::uint8_t> bytes_;
};

class FabricReader {
 public:
  explicit FabricReader(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

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

void write(Writer& out, const FabricLink& link) {
  out.word(link.direct | static_cast<std::uint32_t>(link.root) << 1 | static_cast<std::uint32_t>(link.unproved) << 2 |
           static_cast<std::uint32_t>(link.pulled) << 3);
  out.word(link.mb_per_s);
  out.word(link.latency_ns);
  out.word(static_cast<std::uint32_t>(link.route.size()));
  for (const std::uint16_t resource : link.route) out.word(resource);
}

FabricLink read_link(FabricReader& in, const Fabric& fabric) {
  FabricLink link;
  const std::uint32_t ways = in.word_between(0, 15, "expected a link that is direct or not, through a root or not, proved or not, pulled or not");
  link.direct = (ways & 1) != 0;
  link.root = (ways & 2) != 0;
  link.unproved = (ways & 4) != 0;
  link.pulled = (ways & 8) != 0;
  link.mb_per_s = in.word_between(1, 0xffffffff, "expected a link with a rate");
  link.latency_ns = in.word();
  const std::uint32_t length = in.word_between(0, longest_route, "expected a route of at most 64 resources");
  for (std::uint32_t i = 0; i < length; ++i) {
    const std::uint32_t index = in.word();
    require(index < fabric.resources.size(), "expected a route over the fabric's resources");
    link.route.push_back(static_cast<std::uint16_t>(index));
  }
  return link;
}

Resource read_resource(FabricReader& in, const Fabric& fabric) {
  const auto last = static_cast<std::uint32_t>(fabric.ranks - 1);
  Resource resource;
  resource.kind = static_cast<ResourceKind>(in.word_between(0, last_kind, "expected a kind of resource"));
  resource.from = static_cast<int>(in.word_between(0, last, "expected a resource of the fabric's ranks"));
  resource.to = static_cast<int>(in.word_between(0, last, "expected a resource of the fabric's ranks"));
  resource.mb_per_s = in.word_between(1, 0xffffffff, "expected a resource with a rate");
  return resource;
}

}  // namespace

std::vector<std::uint8_t> to_bytes(const Fabric& fabric) {
  Writer out;
  out.word(layout_mark);
  out.word(static_cast<std::uint32_t>(fabric.backend));
  out.word(static_cast<std::uint32_t>(fabric.ranks));
  out.word(fabric.launch_ns);
  out.word(fabric.ranks_per_device);
  out.word(fabric.multiprocessors);
  out.word(static_cast<std::uint32_t>(fabric.resources.size()));
  for (const Resource& resource : fabric.resources) {
    out.word(static_cast<std::uint32_t>(resource.kind));
    out.word(static_cast<std::uint32_t>(resource.from));
    out.word(static_cast<std::uint32_t>(resource.to));
    out.word(resource.mb_per_s);
  }
  for (const auto* links : {&fabric.links, &fabric.staged})
    for (const FabricLink& link : *links) write(out, link);
  return out.take();
}

Fabric fabric_from_bytes(std::span<const std::uint8_t> bytes) {
  FabricReader in(bytes);
  in.word_between(layout_mark, layout_mark, "expected the bytes of a fabric of this build");
  Fabric fabric;
  constexpr auto cuda = static_cast<std::uint32_t>(Backend::cuda);
  constexpr auto host = static_cast<std::uint32_t>(Backend::host);
  fabric.backend = static_cast<Backend>(in.word_between(cuda, host, "expected a fabric of GPUs or of the host"));
  fabric.ranks = static_cast<int>(in.word_between(1, max_ranks, "expected a fabric of 1 to 16 ranks"));
  fabric.launch_ns = in.word();
  fabric.ranks_per_device = in.word_between(1, static_cast<std::uint32_t>(fabric.ranks), "expected 1 to all ranks on a device");
  fabric.multiprocessors = in.word();
  const std::uint32_t resources = in.word_between(0, most_resources, "expected at most 65535 resources");
  for (std::uint32_t i = 0; i < resources; ++i) fabric.resources.push_back(read_resource(in, fabric));
  for (auto* links : {&fabric.links, &fabric.staged})
    for (int i = 0; i < fabric.ranks * fabric.ranks; ++i) links->push_back(read_link(in, fabric));
  require(in.empty(), "expected the bytes of a fabric, found more");
  return fabric;
}

}  // namespace collectives
