#include <collectives/collectives.h>

#include <span>
#include <vector>

#include "c_api/guard.hpp"
#include "c_api/handle.hpp"
#include "c_api/translate.hpp"

// The collectives of the C interface.
using namespace collectives;

namespace {

/// `count` elements for every rank, which must be a number that memory has addresses for.
std::size_t times(std::size_t count, int ranks) {
  require(count <= SIZE_MAX / 16 / max_ranks, [&] { return "a count of " + std::to_string(count) + " is larger than any memory"; });
  return count * static_cast<std::size_t>(ranks);
}

ScaledSum scaled(const void* factor, int on_device) { return {.factor = factor, .on_device = on_device != 0}; }

/// A count for each rank, and their sum.
struct Counts {
  Counts(const size_t* counts, const Communicator& communicator)
      : list(&given(counts, "the array of counts"), static_cast<std::size_t>(communicator.size())), own(list[static_cast<std::size_t>(communicator.rank())]) {
    for (const std::size_t count : list) total += times(count, 1);
  }
  std::span<const std::size_t> list;
  std::size_t own;
  std::size_t total = 0;
};

template <typename To, typename From>
std::vector<To> list_of(const From* from, std::size_t count, const char* what, auto convert) {
  require(from != nullptr || count == 0, [&] { return std::string(what) + " is null and its count is not 0"; });
  std::vector<To> list;
  for (std::size_t i = 0; i < count; ++i) list.push_back(convert(from[i]));
  return list;
}

}  // namespace

extern "C" {

coll_error coll_all_reduce(const void* in, void* out, size_t count, coll_data_type type, coll_reduce_op op, coll_comm* comm, coll_stream stream) {
  return guard([&] {
    const DataType element = data_type_of(type);
    communicator_of(comm).all_reduce({in, count, element}, {out, count, element}, reduce_op_of(op), stream);
  });
}

coll_error coll_all_reduce_carried(const void* in, void* out, size_t count, coll_data_type carried, coll_reduce_op op, coll_comm* comm, coll_stream stream) {
  return guard([&] {
    communicator_of(comm).all_reduce({in, count, DataType::float32}, {out, count, DataType::float32}, reduce_op_of(op), data_type_of(carried), stream);
  });
}

coll_error coll_all_reduce_nothing(void* out, size_t count, coll_data_type type, coll_reduce_op op, coll_comm* comm, coll_stream stream) {
  return guard([&] { communicator_of(comm).all_reduce_nothing({out, count, data_type_of(type)}, reduce_op_of(op), stream); });
}

coll_error coll_all_reduce_scaled(const void* in, void* out, size_t count, coll_data_type type, const void* factor, int factor_on_device, coll_comm* comm,
                                  coll_stream stream) {
  return guard([&] {
    const DataType element = data_type_of(type);
    communicator_of(comm).all_reduce({in, count, element}, {out, count, element}, scaled(factor, factor_on_device), stream);
  });
}

coll_error coll_reduce_scatter_scaled(const void* in, void* out, size_t count, coll_data_type type, const void* factor, int factor_on_device, coll_comm* comm,
                                      coll_stream stream) {
  return guard([&] {
    auto& communicator = communicator_of(comm);
    const DataType element = data_type_of(type);
    communicator.reduce_scatter({in, times(count, communicator.size()), element}, {out, count, element}, scaled(factor, factor_on_device), stream);
  });
}

coll_error coll_reduce_scaled(const void* in, void* out, size_t count, coll_data_type type, const void* factor, int factor_on_device, int root, coll_comm* comm,
                              coll_stream stream) {
  return guard([&] {
    const DataType element = data_type_of(type);
    communicator_of(comm).reduce({in, count, element}, {out, count, element}, scaled(factor, factor_on_device), root, stream);
  });
}

coll_error coll_reduce_scatter(const void* in, void* out, size_t count, coll_data_type type, coll_reduce_op op, coll_comm* comm, coll_stream stream) {
  return guard([&] {
    auto& communicator = communicator_of(comm);
    const DataType element = data_type_of(type);
    communicator.reduce_scatter({in, times(count, communicator.size()), element}, {out, count, element}, reduce_op_of(op), stream);
  });
}

coll_error coll_reduce_scatter_v(const void* in, void* out, const size_t* counts, coll_data_type type, coll_reduce_op op, coll_comm* comm, coll_stream stream) {
  return guard([&] {
    auto& communicator = communicator_of(comm);
    const DataType element = data_type_of(type);
    const Counts blocks(counts, communicator);
    communicator.reduce_scatter({in, blocks.total, element}, {out, blocks.own, element}, blocks.list, reduce_op_of(op), stream);
  });
}

coll_error coll_all_gather(const void* in, void* out, size_t count, coll_data_type type, coll_comm* comm, coll_stream stream) {
  return guard([&] {
    auto& communicator = communicator_of(comm);
    const DataType element = data_type_of(type);
    communicator.all_gather({in, count, element}, {out, times(count, communicator.size()), element}, stream);
  });
}

coll_error coll_all_gather_v(const void* in, void* out, const size_t* counts, coll_data_type type, coll_comm* comm, coll_stream stream) {
  return guard([&] {
    auto& communicator = communicator_of(comm);
    const DataType element = data_type_of(type);
    const Counts blocks(counts, communicator);
    communicator.all_gather({in, blocks.own, element}, {out, blocks.total, element}, blocks.list, stream);
  });
}

coll_error coll_broadcast(const void* in, void* out, size_t count, coll_data_type type, int root, coll_comm* comm, coll_stream stream) {
  return guard([&] {
    const DataType element = data_type_of(type);
    communicator_of(comm).broadcast({in, count, element}, {out, count, element}, root, stream);
  });
}

coll_error coll_reduce(const void* in, void* out, size_t count, coll_data_type type, coll_reduce_op op, int root, coll_comm* comm, coll_stream stream) {
  return guard([&] {
    const DataType element = data_type_of(type);
    communicator_of(comm).reduce({in, count, element}, {out, count, element}, reduce_op_of(op), root, stream);
  });
}

coll_error coll_all_to_all(const void* in, void* out, size_t count, coll_data_type type, coll_comm* comm, coll_stream stream) {
  return guard([&] {
    auto& communicator = communicator_of(comm);
    const DataType element = data_type_of(type);
    const std::size_t total = times(count, communicator.size());
    communicator.all_to_all({in, total, element}, {out, total, element}, stream);
  });
}

coll_error coll_gather(const void* in, void* out, size_t count, coll_data_type type, int root, coll_comm* comm, coll_stream stream) {
  return guard([&] {
    auto& communicator = communicator_of(comm);
    const DataType element = data_type_of(type);
    communicator.gather({in, count, element}, {out, times(count, communicator.size()), element}, root, stream);
  });
}

coll_error coll_scatter(const void* in, void* out, size_t count, coll_data_type type, int root, coll_comm* comm, coll_stream stream) {
  return guard([&] {
    auto& communicator = communicator_of(comm);
    const DataType element = data_type_of(type);
    communicator.scatter({in, times(count, communicator.size()), element}, {out, count, element}, root, stream);
  });
}

coll_error coll_exchange(const coll_send* sends, size_t send_count, const coll_receive* receives, size_t receive_count, coll_comm* comm, coll_stream stream) {
  return guard([&] {
    const auto out = list_of<Send>(sends, send_count, "the array of sends", [](const coll_send& send) { return Send{{send.data, send.count, data_type_of(send.type)}, send.to}; });
    const auto in = list_of<Receive>(receives, receive_count, "the array of receives",
                                     [](const coll_receive& receive) { return Receive{{receive.data, receive.count, data_type_of(receive.type)}, receive.from}; });
    communicator_of(comm).exchange(out, in, stream);
  });
}

coll_error coll_barrier(coll_comm* comm, coll_stream stream) {
  return guard([&] { communicator_of(comm).barrier(stream); });
}

}  // extern "C"
