#include "reduced.hpp"

#include <algorithm>
#include <cstring>

#include "kernels/dispatch.hpp"
#include "kernels/operand.hpp"

namespace collectives {
namespace {

template <typename T>
std::vector<std::byte> reduced_as(ReduceOp op, const std::vector<std::vector<std::byte>>& inputs, const std::vector<std::vector<std::byte>>& factors) {
  std::vector<std::byte> result(inputs[0].size());
  for (std::size_t at = 0; at < result.size(); at += sizeof(Pack)) {
    const std::size_t bytes = std::min(sizeof(Pack), result.size() - at);
    const auto operand = [&](std::size_t rank) {
      Pack pack{};
      std::memcpy(&pack, inputs[rank].data() + at, bytes);
      return factors.empty() ? pack : kernels::scale_pack<T>(pack, factors[rank].data());
    };
    auto sum = kernels::unpack<T>(operand(0));
    for (std::size_t rank = 1; rank < inputs.size(); ++rank) kernels::accumulate<T>(sum, operand(rank), kernels::AnyOp{op});
    const Pack pack = kernels::round<T>(sum, op == ReduceOp::avg ? static_cast<int>(inputs.size()) : 1);
    std::memcpy(result.data() + at, &pack, bytes);
  }
  return result;
}

}  // namespace

std::vector<std::byte> reduced(DataType type, ReduceOp op, const std::vector<std::vector<std::byte>>& inputs, const std::vector<std::vector<std::byte>>& factors) {
  std::vector<std::byte> result;
  kernels::dispatch(type, false, [&]<typename T, typename Op>() { result = reduced_as<T>(op, inputs, factors); });
  return result;
}

}  // namespace collectives
