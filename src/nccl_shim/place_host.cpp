#include <cstdlib>
#include <new>

#include "nccl_shim/place.hpp"

namespace collectives {

int current_device() { return 0; }
void use_device(int) {}

void* allocate_place(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  constexpr std::size_t page = 4096;
  if (bytes > SIZE_MAX - page) throw std::bad_alloc();
  void* memory = std::aligned_alloc(page, (bytes + page - 1) / page * page);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void free_place(void* memory) { std::free(memory); }

std::unique_ptr<StreamTimer> make_stream_timer(int) { return nullptr; }

void join_streams(int, Stream, const std::vector<Stream>&) {}
void fork_streams(int, Stream, const std::vector<Stream>&) {}

}  // namespace collectives
