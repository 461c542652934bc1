#include "kernels.hpp"

#include <cuda_runtime.h>

#include <algorithm>
#include <collectives/error.hpp>
#include <string>
#include <type_traits>

namespace transformer {
namespace {

constexpr int block_threads = 256, warp_threads = 32;
constexpr unsigned whole_warp = 0xffffffffu;

void check_launch(const char* kernel) {
  const cudaError_t result = cudaGetLastError();
  if (result != cudaSuccess)
    throw collectives::Error(collectives::ErrorCode::device, std::string(kernel) + ": " + cudaGetErrorString(result));
}

int blocks_for(std::size_t items) {
  return static_cast<int>(std::clamp<std::size_t>((items + block_threads - 1) / block_threads, 1, 1 << 14));
}

// --- bf16 in packs of n, one load or store each ---

template <int n>
using Pack = std::conditional_t<n == 2, uint1, std::conditional_t<n == 4, uint2, uint4>>;

template <int n>
__device__ void load(const Bf16* from, float (&to)[n]) {
  if constexpr (n == 1) {
    to[0] = widen(*from);
  } else {
    const Pack<n> pack = *reinterpret_cast<const Pack<n>*>(from);
    std::uint32_t words[n / 2];
    memcpy(words, &pack, sizeof pack);
#pragma unroll
    for (int i = 0; i < n / 2; ++i) {
      to[2 * i] = __uint_as_float(words[i] << 16);
      to[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
  }
}

__device__ void store(Bf16* to, const float (&from)[8]) {
  std::uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) words[i] = narrow(from[2 * i]).bits | static_cast<std::uint32_t>(narrow(from[2 * i + 1]).bits) << 16;
  *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
}

// --- over a block ---

struct Add {
  __device__ float operator()(float a, float b) const { return a + b; }
};
struct Max {
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

/// Of all threads' values, in an order that depends on nothing else. To be called by the whole block.
template <typename Op>
__device__ float over_block(float value, Op op) {
  __shared__ float of_warp[block_threads / warp_threads];
  for (int offset = warp_threads / 2; offset > 0; offset /= 2) value = op(value, __shfl_xor_sync(whole_warp, value, offset));
  __syncthreads();  // what the call before left there has been read
  if (threadIdx.x % warp_threads == 0) of_warp[threadIdx.x / warp_threads] = value;
  __syncthreads();
  value = of_warp[0];
  for (int warp = 1; warp < block_threads / warp_threads; ++warp) value = op(value, of_warp[warp]);
  return value;
}

__device__ int position_of(const Attention& a, int each, int token) { return a.positions[token / each] + token % each; }

__device__ std::size_t first_index() { return static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ std::size_t all_threads() { return static_cast<std::size_t>(gridDim.x) * blockDim.x; }

// --- small ones ---

__global__ void fill(Bf16* to, const Piece piece) {
  const std::size_t columns = piece.columns.count, count = piece.rows.count * columns;
  for (std::size_t i = first_index(); i < count; i += all_threads())
    to[i] = value_of(piece, static_cast<int>(i / columns), static_cast<int>(i % columns));
}

__global__ void set_positions(int* positions, int sequences, int position) {
  for (int i = threadIdx.x; i < sequences; i += blockDim.x) positions[i] = position;
}

__global__ void advance(int* positions, int sequences) {
  for (int i = threadIdx.x; i < sequences; i += blockDim.x) ++positions[i];
}

/// A block a token.
__global__ void rms_norm(const Bf16* x, const Bf16* gain, Bf16* out, int hidden) {
  const std::size_t row = static_cast<std::size_t>(blockIdx.x) * hidden;
  float squares = 0, values[8], gains[8];
  for (int i = threadIdx.x * 8; i < hidden; i += block_threads * 8) {
    load(x + row + i, values);
    for (float value : values) squares += value * value;
  }
  const float scale = rsqrtf(over_block(squares, Add{}) / hidden + 1e-5f);
  for (int i = threadIdx.x * 8; i < hidden; i += block_threads * 8) {
    load(x + row + i, values);
    load(gain + i, gains);
    for (int j = 0; j < 8; ++j) values[j] *= scale * gains[j];
    store(out + row + i, values);
  }
}

/// A block a token.
__global__ void rotate(const Attention a, int each, const float* turns) {
  const int half = a.shape.head_dim / 2, pairs = (a.shard.heads.count + a.shard.kv_heads.count) * half;
  const float* turn = turns + static_cast<std::size_t>(position_of(a, each, blockIdx.x)) * a.shape.head_dim;
  for (int pair = threadIdx.x; pair < pairs; pair += blockDim.x) {
    const int i = pair % half;
    Bf16* low = a.qkv + static_cast<std::size_t>(blockIdx.x) * a.row() + pair / half * a.shape.head_dim + i;
    const float x = widen(low[0]), y = widen(low[half]), cosine = turn[2 * i], sine = turn[2 * i + 1];
    low[0] = narrow(x * cosine - y * sine);
    low[half] = narrow(y * cosine + x * sine);
  }
}

/// A block a token.
__global__ void store_fresh(const Attention a, int each) {
  const int token = blockIdx.x, width = a.cache_row();
  const Bf16* fresh = a.qkv + static_cast<std::size_t>(token) * a.row() + a.shard.heads.count * a.shape.head_dim;
  const std::size_t place = (static_cast<std::size_t>(token / each) * a.capacity + position_of(a, each, token)) * width;
  for (int i = threadIdx.x * 8; i < width; i += blockDim.x * 8) {
    *reinterpret_cast<uint4*>(a.keys + place + i) = *reinterpret_cast<const uint4*>(fresh + i);
    *reinterpret_cast<uint4*>(a.values + place + i) = *reinterpret_cast<const uint4*>(fresh + width + i);
  }
}

__global__ void swiglu(const Bf16* gate_up, Bf16* out, std::size_t packs, int width) {
  const std::size_t packs_a_row = width / 8;
  for (std::size_t pack = first_index(); pack < packs; pack += all_threads()) {
    const Bf16* gates = gate_up + pack / packs_a_row * 2 * width + pack % packs_a_row * 8;
    float gate[8], up[8];
    load(gates, gate);
    load(gates + width, up);
    for (int i = 0; i < 8; ++i) gate[i] = gate[i] / (1 + expf(-gate[i])) * up[i];
    store(out + pack * 8, gate);
  }
}

__global__ void add(Bf16* x, const Bf16* y, std::size_t packs) {
  for (std::size_t pack = first_index(); pack < packs; pack += all_threads()) {
    float sum[8], addend[8];
    load(x + pack * 8, sum);
    load(y + pack * 8, addend);
    for (int i = 0; i < 8; ++i) sum[i] += addend[i];
    store(x + pack * 8, sum);
  }
}

/// A block a row of a head.
__global__ void causal_softmax(const float* scores, Bf16* weights) {
  const int token = blockIdx.x, tokens = gridDim.x;
  const std::size_t row = (static_cast<std::size_t>(blockIdx.y) * tokens + token) * tokens;
  float top = -INFINITY, total = 0;
  for (int i = threadIdx.x; i <= token; i += block_threads) top = fmaxf(top, scores[row + i]);
  top = over_block(top, Max{});
  for (int i = threadIdx.x; i <= token; i += block_threads) total += expf(scores[row + i] - top);
  total = over_block(total, Add{});
  for (int i = threadIdx.x; i < tokens; i += block_threads)
    weights[row + i] = i <= token ? narrow(expf(scores[row + i] - top) / total) : Bf16{0};
}

// --- decode: the cache in splits of positions ---
//
// A block takes one query head and one split; its warps take turns at positions, `together` at a time so that as many loads are under
// way, each with a running softmax of its own. They are merged by block, then by head over all splits. Splits are cut by position alone:
// a head's bits do not depend on the other heads or sequences.

constexpr int split_positions = 128, decode_warps = 4, together = 4;

/// A split's largest score, its weights' sum, then the weighted sum of values.
COLLECTIVES_EXAMPLE_HOST_DEVICE constexpr int partial_floats(int head_dim) { return head_dim + 2; }

template <int per_lane>
__global__ void decode_split(const Attention a, float* partials) {
  constexpr int head_dim = per_lane * warp_threads;
  const int head = blockIdx.y, sequence = blockIdx.z, lane = threadIdx.x % warp_threads, warp = threadIdx.x / warp_threads;
  const int begin = blockIdx.x * split_positions, end = min(begin + split_positions, a.positions[sequence] + 1);
  if (begin >= end) return;
  float query[per_lane], sum[per_lane] = {}, top = -INFINITY, total = 0;
  load(a.qkv + static_cast<std::size_t>(sequence) * a.row() + head * head_dim + lane * per_lane, query);
  for (float& element : query) element *= rsqrtf(head_dim);
  const std::size_t stride = a.cache_row(),
                    first = static_cast<std::size_t>(sequence) * a.capacity * stride + a.kv_of(head) * head_dim + lane * per_lane;
  for (int next = begin + warp * together; next < end; next += decode_warps * together) {
    float score[together], value[together][per_lane], higher = top;
#pragma unroll
    for (int i = 0; i < together; ++i) {
      const std::size_t place = first + min(next + i, end - 1) * stride;
      float key[per_lane];
      load(a.keys + place, key);
      load(a.values + place, value[i]);
      score[i] = 0;
      for (int j = 0; j < per_lane; ++j) score[i] += query[j] * key[j];
    }
#pragma unroll
    for (int i = 0; i < together; ++i) {
      for (int offset = warp_threads / 2; offset > 0; offset /= 2) score[i] += __shfl_xor_sync(whole_warp, score[i], offset);
      if (next + i >= end) score[i] = -INFINITY;
      higher = fmaxf(higher, score[i]);
    }
    const float shrink = expf(top - higher);
    total *= shrink;
    for (float& element : sum) element *= shrink;
#pragma unroll
    for (int i = 0; i < together; ++i) {
      const float weight = expf(score[i] - higher);
      total += weight;
      for (int j = 0; j < per_lane; ++j) sum[j] += weight * value[i][j];
    }
    top = higher;
  }
  __shared__ float tops[decode_warps], totals[decode_warps], sums[decode_warps][head_dim];
  if (lane == 0) tops[warp] = top, totals[warp] = total;
  for (int j = 0; j < per_lane; ++j) sums[warp][lane * per_lane + j] = sum[j];
  __syncthreads();
  float highest = tops[0], merged = 0;
  for (int i = 1; i < decode_warps; ++i) highest = fmaxf(highest, tops[i]);
  float* out = partials + ((static_cast<std::size_t>(sequence) * gridDim.y + head) * gridDim.x + blockIdx.x) * partial_floats(head_dim);
  // A warp that had no position has -infinity for its top, and its weight is 0.
  for (int i = 0; i < decode_warps; ++i) merged += expf(tops[i] - highest) * totals[i];
  if (threadIdx.x == 0) out[0] = highest, out[1] = merged;
  for (int element = threadIdx.x; element < head_dim; element += blockDim.x) {
    merged = 0;
    for (int i = 0; i < decode_warps; ++i) merged += expf(tops[i] - highest) * sums[i][element];
    out[2 + element] = merged;
  }
}

/// A block a head of a sequence, a thread an element.
__global__ void merge_splits(const Attention a, const float* partials, int splits) {
  const int head_dim = a.shape.head_dim, used = a.positions[blockIdx.y] / split_positions + 1;
  const std::size_t head = static_cast<std::size_t>(blockIdx.y) * gridDim.x + blockIdx.x;
  const float* of_split = partials + head * splits * partial_floats(head_dim);
  float top = -INFINITY, total = 0, sum = 0;
  for (int split = 0; split < used; ++split) top = fmaxf(top, of_split[split * partial_floats(head_dim)]);
  for (int split = 0; split < used; ++split) {
    const float* partial = of_split + split * partial_floats(head_dim);
    const float weight = expf(partial[0] - top);
    total += weight * partial[1];
    sum += weight * partial[2 + threadIdx.x];
  }
  a.context[head * head_dim + threadIdx.x] = narrow(sum / total);
}

int splits_of(int capacity) { return (capacity + split_positions - 1) / split_positions; }

}  // namespace

void launch_fill(Bf16* to, const Piece& piece, collectives::Stream stream) {
  const std::size_t count = std::size_t(piece.rows.count) * piece.columns.count;
  if (count == 0) return;
  fill<<<blocks_for(count), block_threads, 0, stream>>>(to, piece);
  check_launch("fill");
}

void launch_set_positions(int* positions, int sequences, int position, collectives::Stream stream) {
  set_positions<<<1, block_threads, 0, stream>>>(positions, sequences, position);
  check_launch("set_positions");
}

void launch_advance(int* positions, int sequences, collectives::Stream stream) {
  advance<<<1, block_threads, 0, stream>>>(positions, sequences);
  check_launch("advance");
}

void launch_rms_norm(const Bf16* x, const Bf16* gain, Bf16* out, const Product& rows, collectives::Stream stream) {
  rms_norm<<<rows.tokens, block_threads, 0, stream>>>(x, gain, out, rows.in);
  check_launch("rms_norm");
}

void launch_rotate(const Attention& attention, const Batch& batch, const float* turns, collectives::Stream stream) {
  rotate<<<batch.tokens(), block_threads, 0, stream>>>(attention, batch.each, turns);
  check_launch("rotate");
}

void launch_store(const Attention& attention, const Batch& batch, collectives::Stream stream) {
  store_fresh<<<batch.tokens(), block_threads, 0, stream>>>(attention, batch.each);
  check_launch("store_fresh");
}

void launch_swiglu(const Bf16* gate_up, Bf16* out, const Product& rows, collectives::Stream stream) {
  const std::size_t packs = std::size_t(rows.tokens) * rows.out / 8;
  swiglu<<<blocks_for(packs), block_threads, 0, stream>>>(gate_up, out, packs, rows.out);
  check_launch("swiglu");
}

void launch_add(Bf16* x, const Bf16* y, std::size_t count, collectives::Stream stream) {
  add<<<blocks_for(count / 8), block_threads, 0, stream>>>(x, y, count / 8);
  check_launch("add");
}

void launch_causal_softmax(const float* scores, Bf16* weights, int heads, int tokens, collectives::Stream stream) {
  causal_softmax<<<dim3(tokens, heads), block_threads, 0, stream>>>(scores, weights);
  check_launch("causal_softmax");
}

bool decodes(int head_dim) { return head_dim == 32 || head_dim == 64 || head_dim == 128 || head_dim == 256; }

std::size_t decode_floats(const Shape& shape, const Shard& shard, const Limits& limits) {
  return std::size_t(limits.sequences) * shard.heads.count * splits_of(limits.capacity) * partial_floats(shape.head_dim);
}

void launch_decode(const Attention& attention, int sequences, float* partials, collectives::Stream stream) {
  const int splits = splits_of(attention.capacity), heads = attention.shard.heads.count, threads = decode_warps * warp_threads;
  const dim3 grid(splits, heads, sequences);
  switch (attention.shape.head_dim) {
    case 32:
      decode_split<1><<<grid, threads, 0, stream>>>(attention, partials);
      break;
    case 64:
      decode_split<2><<<grid, threads, 0, stream>>>(attention, partials);
      break;
    case 128:
      decode_split<4><<<grid, threads, 0, stream>>>(attention, partials);
      break;
    default:
      decode_split<8><<<grid, threads, 0, stream>>>(attention, partials);
  }
  check_launch("decode_split");
  merge_splits<<<dim3(heads, sequences), attention.shape.head_dim, 0, stream>>>(attention, partials, splits);
  check_launch("merge_splits");
}

}  // namespace transformer
