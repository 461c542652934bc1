#pragma once

#include <collectives/types.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "perf/data.hpp"
#include "perf/layout.hpp"

namespace perf {

using collectives::Stream;

/// Where one rank runs: its memory, its queue of work and its clock, on a GPU or on the CPU. For one thread at a time. CUDA
/// failures are thrown as Error(device).
class Place {
 public:
  virtual ~Place() = default;

  /// "device  0 [0000:3a:00] NVIDIA H200", or "cpu".
  virtual std::string describe() const = 0;
  virtual Stream stream() const = 0;
  virtual void make_current() = 0;

  virtual std::byte* allocate(std::size_t bytes) = 0;
  virtual void release(std::byte* memory) = 0;

  /// These come after earlier work of the queue and are finished when they return.
  virtual void set(void* data, std::uint8_t value, std::size_t bytes) = 0;
  virtual void fill_with(void* data, std::size_t count, const Payload& payload, int rank) = 0;
  virtual std::uint64_t wrong(const void* data, std::size_t count, const Payload& payload, int rank) = 0;
  virtual std::uint64_t altered(const void* data, std::size_t bytes, std::uint8_t value) = 0;

  /// The time between `start` and `stop` in the queue; `elapsed_us` is called as soon as the queue is known to be empty.
  virtual void start() = 0;
  virtual void stop() = 0;
  virtual double elapsed_us() = 0;

  /// Records what is enqueued in between; `end_capture` names the record for `replay`.
  virtual void begin_capture() = 0;
  virtual int end_capture() = 0;
  virtual void replay(int graph) = 0;
  virtual void forget_graphs() = 0;

  /// Until the queue is empty. Throws Error(timeout) after `deadline_s`.
  virtual void wait(double deadline_s) = 0;
};

/// A place on the CPU. It has no queue: what is called is done. Graphs throw Error(unsupported).
std::unique_ptr<Place> make_host_place();

/// A place on a GPU, with a stream of its own or the null stream; `urgent`: one whose thread blocks come before those of others. Throws
/// Error(unsupported) in a build without CUDA.
std::unique_ptr<Place> make_cuda_place(int device, bool null_stream, bool urgent = false);

/// Asks CUDA, which a process must not do before it forks.
Survey survey_gpus();

/// Makes `device` the calling thread's current one; nothing in a build without CUDA.
void use_device(int device);

}  // namespace perf
