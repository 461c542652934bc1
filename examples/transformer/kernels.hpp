#pragma once

#include "engine.hpp"

// What of the block cuBLAS does not do, enqueued on a stream of the current device. Rows are as wide as engine.hpp says and begin at
// multiples of 16 bytes. All of it is deterministic, and what belongs to one token or head has the same bits whatever is beside it.
// Each throws Error(device) if its launch is refused.
namespace transformer {

void launch_fill(Bf16* to, const Piece& piece, collectives::Stream stream);
void launch_set_positions(int* positions, int sequences, int position, collectives::Stream stream);
void launch_advance(int* positions, int sequences, collectives::Stream stream);
void launch_rms_norm(const Bf16* x, const Bf16* gain, Bf16* out, const Product& rows, collectives::Stream stream);  ///< rows.in wide
void launch_rotate(const Attention& attention, const Batch& batch, const float* turns, collectives::Stream stream);
/// The batch's keys and values into the cache.
void launch_store(const Attention& attention, const Batch& batch, collectives::Stream stream);
void launch_swiglu(const Bf16* gate_up, Bf16* out, const Product& rows, collectives::Stream stream);  ///< rows.out wide
void launch_add(Bf16* x, const Bf16* y, std::size_t count, collectives::Stream stream);

/// Attention of a decode step, one query a sequence. `partials` has decode_floats floats.
void launch_decode(const Attention& attention, int sequences, float* partials, collectives::Stream stream);
std::size_t decode_floats(const Shape& shape, const Shard& shard, const Limits& limits);
bool decodes(int head_dim);

/// Row t of a head's scores, tokens by tokens, into weights that add up to 1 over its first t + 1 columns and are 0 beyond.
void launch_causal_softmax(const float* scores, Bf16* weights, int heads, int tokens, collectives::Stream stream);

}  // namespace transformer
