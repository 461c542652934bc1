#pragma once

#include "kernels/direct_call.cuh"

// What the kernels share that are for aligned buffers and a whole number of packs.
namespace collectives::kernels {

/// Do chunks of a power of two of ranks have one length? Those of 3, 5, 6 or 7 ranks seldom would: their kernels take any.
constexpr bool takes_uneven_chunks(int ranks) { return (ranks & (ranks - 1)) != 0; }

template <typename T, int N, bool two_shot>
class PlainCall : protected DirectCall<DirectArgs, SentinelWire<T>, N> {
  using Base = DirectCall<DirectArgs, SentinelWire<T>, N>;

 public:
  __device__ explicit PlainCall(const DirectArgs& args) : Base(args) {}

 protected:
  using Base::args_;

  /// Pack p of chunk k. What a shorter chunk lacks is some other pack, which is sent and combined like the others and kept by nobody.
  __device__ Pack input(int k, std::uint32_t p) const {
    p += args_.chunk[k].first;
    if constexpr (uneven) p = p < args_.whole_in ? p : args_.whole_in - 1;
    return static_cast<const Pack*>(args_.in)[p];
  }
  __device__ void keep(int k, std::uint32_t p, const Pack& pack) {
    if constexpr (uneven)
      if (p >= args_.chunk[k].packs) return;
    static_cast<Pack*>(args_.out)[args_.chunk[k].first + p] = pack;
  }

 private:
  static constexpr bool uneven = two_shot && takes_uneven_chunks(N);
};

}  // namespace collectives::kernels
