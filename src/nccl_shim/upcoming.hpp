#pragma once

#include <collectives/communicator.hpp>

namespace collectives {

// TODO(5): goes once these are Communicator's own.
struct ScaledSum {
  const void* factor = nullptr;
  bool on_device = false;
};

[[noreturn]] inline void refuse_upcoming() { throw Error(ErrorCode::unsupported, "not there yet"); }
inline void scaled_all_reduce(Communicator&, ConstBuffer, Buffer, ScaledSum, Stream) { refuse_upcoming(); }
inline void scaled_reduce_scatter(Communicator&, ConstBuffer, Buffer, ScaledSum, Stream) { refuse_upcoming(); }
inline void scaled_reduce(Communicator&, ConstBuffer, Buffer, ScaledSum, int, Stream) { refuse_upcoming(); }
inline std::optional<Communicator> split(Communicator&, int, int, const Options&) { refuse_upcoming(); }

}  // namespace collectives
