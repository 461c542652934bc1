#pragma once

#include "base/direct_shape.hpp"
#include "kernels/streamed_call.cuh"

// All-reduces and reduce-scatters of every type and operation, bit for bit what a walker of the program gives, over the escaped wire. How
// packs lie over threads, slots and iterations is as in DirectStreamed, how their escapes travel as in MoveStreamed. The links set the pace, not
// the arithmetic: type and operation are looked up for each pack, so that one kernel for each number of ranks serves them all.
namespace collectives::kernels {

/// The first `ranks` of N operands. One of these loops is all the code that a type and its operations have: unrolled it would be N of each.
template <typename T, int N>
__device__ __forceinline__ Pack reduce_as(Pack (&operand)[N], int ranks, ReduceOp op) {
  using A = typename Element<T>::Accumulator;
  Accumulators<T> sum = unpack<T>(operand[0]);
#pragma unroll 1
  for (int left = ranks - 1; left > 0; --left) {
#pragma unroll
    for (int i = 1; i < N; ++i) operand[i - 1] = operand[i];
    accumulate<T>(sum, operand[0], AnyOp{op});
  }
  if (op == ReduceOp::avg) {
#pragma unroll
    for (int i = 0; i < elements_per_pack<T>; ++i) sum.value[i] = static_cast<A>(sum.value[i] / static_cast<A>(ranks));
  }
  return round<T>(sum, 1);
}

/// Calls with each word of the packs in turn, at the place of the first: of so many elements, code for a quarter.
template <int N, typename Body>
__device__ __forceinline__ Pack by_words(Pack (&operand)[N], Body body) {
  Pack result{};
#pragma unroll 1
  for (int turn = 0; turn < 4; ++turn) {
    Pack first[N];
#pragma unroll
    for (int i = 0; i < N; ++i) {
      auto& word = operand[i].word;
      first[i] = Pack{{word[0], 0, 0, 0}};
      word[0] = word[1], word[1] = word[2], word[2] = word[3];
    }
    result = Pack{{result.word[1], result.word[2], result.word[3], body(first).word[0]}};
  }
  return result;
}
template <typename T, int N>
__device__ __forceinline__ Pack reduce_bytes_as(Pack (&operand)[N], int ranks, ReduceOp op) {
  return by_words(operand, [=](Pack (&first)[N]) { return reduce_as<T>(first, ranks, op); });
}

/// In ascending order of rank.
template <int N>
__device__ __forceinline__ Pack reduce_in_order(DataType type, ReduceOp op, Pack (&operand)[N], int ranks) {
  switch (type) {
    case DataType::float64: return reduce_as<double>(operand, ranks, op);
    case DataType::float32: return reduce_as<float>(operand, ranks, op);
    case DataType::float16: return reduce_as<Half>(operand, ranks, op);
    case DataType::bfloat16: return reduce_as<BFloat16>(operand, ranks, op);
    case DataType::float8_e4m3: return reduce_bytes_as<Float8E4M3>(operand, ranks, op);
    case DataType::float8_e5m2: return reduce_bytes_as<Float8E5M2>(operand, ranks, op);
    case DataType::int8: return reduce_bytes_as<std::int8_t>(operand, ranks, op);
    case DataType::uint8: return reduce_bytes_as<std::uint8_t>(operand, ranks, op);
    case DataType::int32: return reduce_as<std::int32_t>(operand, ranks, op);
    case DataType::uint32: return reduce_as<std::uint32_t>(operand, ranks, op);
    case DataType::int64: return reduce_as<std::int64_t>(operand, ranks, op);
    default: return reduce_as<std::uint64_t>(operand, ranks, op);
  }
}

template <typename T>
__device__ __forceinline__ Pack scale_as(Pack pack, const void* factor) {
  Elements<T> factors;
#pragma unroll
  for (int i = 0; i < elements_per_pack<T>; ++i) factors.element[i] = *static_cast<const T*>(factor);
  Pack both[] = {pack, factors.pack};
  if constexpr (sizeof(T) > 1) {
    return reduce_as<T>(both, 2, ReduceOp::prod);
  } else {
    return reduce_bytes_as<T>(both, 2, ReduceOp::prod);
  }
}
/// A rank's own operand times its factor, as the walker has it.
__device__ __noinline__ inline Pack scale_any(DataType type, Pack pack, const void* factor) {
  switch (type) {
    case DataType::float64: return scale_as<double>(pack, factor);
    case DataType::float32: return scale_as<float>(pack, factor);
    case DataType::float16: return scale_as<Half>(pack, factor);
    case DataType::bfloat16: return scale_as<BFloat16>(pack, factor);
    case DataType::float8_e4m3: return scale_as<Float8E4M3>(pack, factor);
    case DataType::float8_e5m2: return scale_as<Float8E5M2>(pack, factor);
    case DataType::int8:
    case DataType::uint8: return scale_as<std::uint8_t>(pack, factor);
    case DataType::int32:
    case DataType::uint32: return scale_as<std::uint32_t>(pack, factor);
    default: return scale_as<std::uint64_t>(pack, factor);
  }
}

/// Calls with each pack and its index, at the place of the first: for what is rare, so that its code is there once.
template <int count, typename Body>
__device__ __forceinline__ void in_turn(Pack (&pack)[count], Body body) {
#pragma unroll 1
  for (int i = 0; i < count; ++i) {
    Pack first = pack[0];
    body(i, first);
#pragma unroll
    for (int j = 1; j < count; ++j) pack[j - 1] = pack[j];
    pack[count - 1] = first;
  }
}

/// At iteration i a block pushes tile i, reduces tile i-1 and gathers tile i-2. A load waits behind the stores to peers that its multiprocessor made
/// before it, so all that an iteration reads is asked for before it stores anything.
template <int N, bool exact>
class ReduceStreamed : StreamedCall<ReduceArgs, EscapedWire, N, true, exact> {
  using Wire = EscapedWire;
  using Base = StreamedCall<ReduceArgs, Wire, N, true, exact>;
  using Base::args_;

 public:
  using Base::Base;

  __device__ void run() {
    Base::run(tiles() + (args_.gathers ? 2 : 1), [&](int i) { step(i); });
  }

 private:
  static constexpr int packs = reduced_packs(N);
  using Lanes = Pack[(N - 1) * packs];  ///< what a thread has of a tile from each peer, or for each: lane by lane

  __device__ int tiles() const { return static_cast<int>(args_.tiles); }

  /// A thread's packs of a tile.
  struct Share {
    std::uint32_t in_tile, in_chunk, in_lane, step, length;
    std::uint32_t words;  ///< in a lane, where the words beside the packs of its tile are
    int peers;
    __device__ bool has(int u) const { return in_tile + u * step < length; }
    /// Of a lane, of which there are as many as peers.
    __device__ bool has(int lane, int u) const { return (exact || lane < peers) && has(u); }
    __device__ std::uint32_t chunk(int u) const { return in_chunk + u * step; }
    __device__ std::uint32_t slot(int u) const { return in_lane + u * step; }
    __device__ std::uint32_t* word(Pack* lane) const { return reinterpret_cast<std::uint32_t*>(lane + words) + in_tile; }
  };
  __device__ Share share_of(int t) const {
    const std::uint32_t tile = static_cast<std::uint32_t>(t);
    const std::uint32_t first = (tile * gridDim.x + blockIdx.x) * args_.tile_packs;
    const std::uint32_t row = (blockIdx.x * args_.stages + tile % args_.stages) * escaped_row_packs(args_.tile_packs, this->workers());
    const std::uint32_t left = first < args_.longest_chunk ? args_.longest_chunk - first : 0;
    const std::uint32_t length = left < args_.tile_packs ? left : args_.tile_packs;
    return {threadIdx.x, first + threadIdx.x, row + threadIdx.x, this->workers(), length, row + args_.tile_packs, this->ranks() - 1};
  }

  __device__ void step(int i) {
    const bool pushes = i < tiles(), reduces = i >= 1 && i - 1 < tiles(), gathers = args_.gathers && i >= 2;
    Pack own[packs];
    Lanes operands, chunks;
    if (reduces) {
      look(share_of(i - 1), operands, 0);
      load(share_of(i - 1), own, 0);
    }
    if (gathers) look(share_of(i - 2), chunks, this->ranks() - 1);
    if (pushes) push(i);
    // One piece of code waits for both.
#pragma unroll 1
    for (int phase = reduces ? 0 : 1; phase <= gathers; ++phase) {
      if (phase == 1) {
#pragma unroll
        for (int j = 0; j < (N - 1) * packs; ++j) operands[j] = chunks[j];
      }
      const Share share = share_of(i - 1 - phase);
      receive(share, operands, phase * (this->ranks() - 1));
      phase == 0 ? reduce(i, share, own, operands) : keep(share, operands, 1);
    }
  }

  /// A pack is of a chunk, and so is one beyond the end of a chunk that is shorter than the longest: it is sent and combined like the others, and kept by
  /// nobody. Beyond the message are zeros. `first` is the chunk of the first of the packs.
  template <int count>
  __device__ void load(const Share& share, Pack (&pack)[count], int first) const {
    bool odd = false;
#pragma unroll
    for (int j = 0; j < count; ++j) {
      const std::uint32_t p = args_.chunk[first + j / packs].first + share.chunk(j % packs);
      if (!share.has(j / packs, j % packs)) continue;
      if (p < args_.whole_in) {
        pack[j] = static_cast<const Pack*>(args_.in)[p];
      } else {
        odd = true;
      }
    }
    if (!odd) return;
    in_turn(pack, [&](int j, Pack& value) {
      const std::uint32_t p = args_.chunk[first + j / packs].first + share.chunk(j % packs);
      if (share.has(j / packs, j % packs) && p >= args_.whole_in) value = load_bytes(args_.in, args_.bytes, p);
    });
  }
  template <int count>
  __device__ void keep(const Share& share, Pack (&pack)[count], int first) const {
    bool odd = false;
#pragma unroll
    for (int j = 0; j < count; ++j) {
      const std::uint32_t p = share.chunk(j % packs), in_message = args_.chunk[first + j / packs].first + p;
      if (!share.has(j / packs, j % packs) || p >= args_.chunk[first + j / packs].packs) continue;
      if (in_message < args_.whole_out) {
        static_cast<Pack*>(args_.out)[in_message] = pack[j];
      } else {
        odd = true;
      }
    }
    if (!odd) return;
    in_turn(pack, [&](int j, const Pack& value) {
      const std::uint32_t p = share.chunk(j % packs), in_message = args_.chunk[first + j / packs].first + p;
      if (share.has(j / packs, j % packs) && p < args_.chunk[first + j / packs].packs && in_message >= args_.whole_out) store_bytes(args_.out, args_.bytes, in_message, value);
    });
  }
  template <int count>
  __device__ void scale(Pack (&pack)[count]) const {
    if (!args_.factor_given) return;
    const void* factor = args_.factor_at != nullptr ? args_.factor_at : &args_.factor;
    in_turn(pack, [&](int, Pack& value) { value = scale_any(args_.type, value, factor); });
  }

  /// Of the packs that this thread sends together: how they look escaped, and the word to be sent beside them; an empty one if they need none.
  __device__ std::uint32_t escape(const Share& share, Pack* pack) const {
    std::uint32_t escaped = 0;
    bool told = false;
#pragma unroll
    for (int u = 0; u < packs; ++u) {
      const std::uint32_t bits = Wire::escape(pack[u]);
      if (!share.has(u)) continue;
      escaped |= bits << 4 * u;
      told = told || Wire::is_marked(pack[u]);
    }
    return told ? escaped : Wire::empty;
  }
  __device__ void send(const Share& share, Pack* lane, const Pack* pack, std::uint32_t word) const {
    if (Wire::arrived(word)) signal_relaxed(share.word(lane), word);
#pragma unroll
    for (int u = 0; u < packs; ++u)
      if (share.has(u)) Wire::store(lane + share.slot(u), pack[u]);
  }

  /// Asks for what all peers sent, whether it has come or not.
  __device__ void look(const Share& share, Lanes& in, int first_lane) const {
#pragma unroll
    for (int j = 0; j < (N - 1) * packs; ++j)
      if (share.has(j / packs, j % packs)) in[j] = Wire::load(this->operand_slot(first_lane + j / packs, share.slot(j % packs)));
  }
  /// Waits for what was asked for, restores it and empties its slots.
  __device__ void receive(const Share& share, Lanes& in, int first_lane) {
    std::uint32_t word[N - 1];
#pragma unroll
    for (int l = 0; l < N - 1; ++l) word[l] = Wire::empty;
    while (!look_again(share, in, word, first_lane))
      if (!this->watch_.keep_waiting()) break;
#pragma unroll
    for (int l = 0; l < N - 1; ++l) {
      if (!share.has(l, 0)) continue;
      const std::uint32_t escaped = Wire::arrived(word[l]) ? word[l] : 0;
#pragma unroll
      for (int u = 0; u < packs; ++u) {
        Wire::restore(in[l * packs + u], escaped >> 4 * u);
        if (share.has(u)) Wire::clear(this->operand_slot(first_lane + l, share.slot(u)));
      }
      if (Wire::arrived(word[l])) signal_relaxed(share.word(this->operand_slot(first_lane + l, 0)), Wire::empty);
    }
  }
  /// Asks for what is missing: packs, and the words beside those that cannot be read without. True if nothing was.
  __device__ bool look_again(const Share& share, Lanes& in, std::uint32_t (&word)[N - 1], int first_lane) const {
    bool all = true;
#pragma unroll
    for (int l = 0; l < N - 1; ++l) {
      if (!share.has(l, 0)) continue;
      bool marked = false;
#pragma unroll
      for (int u = 0; u < packs; ++u) {
        Pack& pack = in[l * packs + u];
        if (!share.has(u)) continue;
        marked = marked || Wire::is_marked(pack);
        if (Wire::arrived(pack)) continue;
        pack = Wire::load(this->operand_slot(first_lane + l, share.slot(u)));
        all = false;
      }
      if (!marked || Wire::arrived(word[l])) continue;
      word[l] = observe_relaxed(share.word(this->operand_slot(first_lane + l, 0)));
      all = false;
    }
    return all;
  }

  __device__ void push(int t) {
    const Share share = share_of(t);
    Lanes pack;
    load(share, pack, 1);
    scale(pack);
    this->await_credit(t);
#pragma unroll
    for (int k = 1; k < N; ++k) {
      if (!exact && k > share.peers) break;
      const std::uint32_t word = escape(share, pack + (k - 1) * packs);
      send(share, this->operands_at(k, 0), pack + (k - 1) * packs, word);
    }
  }

  __device__ void reduce(int i, const Share& share, Pack (&own)[packs], Lanes& operands) {
    scale(own);
    // The packs take turns at the place of the first: the code of all types is there once.
    in_turn(own, [&](int u, Pack& mine) {
      Pack ordered[N];
#pragma unroll
      for (int from = 0; from < N; ++from) {
        const Pack below = operands[(from < N - 1 ? from : N - 2) * packs], above = operands[(from > 0 ? from - 1 : 0) * packs];
        ordered[from] = choose(from == args_.rank, mine, choose(from < args_.rank, below, above));
      }
      if (share.has(u)) mine = reduce_in_order(args_.type, args_.op, ordered, this->ranks());
#pragma unroll
      for (int j = 1; j < (N - 1) * packs; ++j) operands[j - 1] = operands[j];
    });
    keep(share, own, 0);
    if (!args_.gathers) return;
    const std::uint32_t word = escape(share, own);
    this->await_credit(i);
#pragma unroll
    for (int k = 1; k < N; ++k)
      if (exact || k <= share.peers) send(share, this->chunks_at(k, 0), own, word);
  }
};

}  // namespace collectives::kernels
