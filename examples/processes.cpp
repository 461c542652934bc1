// One process a rank, as inference engines run: fork, carry the unique id through a pipe, reduce. `processes 4` makes four.
#include <sys/wait.h>
#include <unistd.h>

#include <collectives/communicator.hpp>
#include <cstdio>
#include <cstdlib>

#include "floats.hpp"

using namespace collectives;

namespace {

/// Rank 0 names the communicator and tells the others; an id is shorter than a pipe's atomic write.
UniqueId share_id(int rank, int size, const int (&pipe)[2]) {
  UniqueId id;
  if (rank != 0) {
    if (read(pipe[0], &id, sizeof id) != sizeof id) throw Error(ErrorCode::peer_lost, "rank 0 sent no id");
    return id;
  }
  id = make_unique_id();
  for (int other = 1; other < size; ++other)
    if (write(pipe[1], &id, sizeof id) != sizeof id) throw Error(ErrorCode::system, "the id did not go into the pipe");
  return id;
}

int run_rank(int rank, int size, const int (&pipe)[2]) {
  // Closed here, so that the others' read ends if rank 0 dies before it has written.
  if (rank != 0) close(pipe[1]);
  use_gpu_of(rank);
  auto communicator = Communicator::create(share_id(rank, size, pipe), rank, size);
  Floats data(communicator.device(), 1000, static_cast<float>(rank + 1));
  communicator.all_reduce({data.data(), 1000, DataType::float32}, {data.data(), 1000, DataType::float32}, ReduceOp::sum);
  communicator.synchronize();
  const float sum = data.values()[999];
  std::printf("rank %d of %d in process %d has %g\n", rank, size, getpid(), sum);
  return sum == static_cast<float>(size * (size + 1) / 2) ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const int size = argc > 1 ? std::atoi(argv[1]) : 2;
  int pipe[2];
  if (::pipe(pipe) != 0) return std::perror("pipe"), 1;
  // Children first: neither CUDA nor threads survive a fork.
  for (int rank = 0; rank < size; ++rank) {
    if (fork() != 0) continue;
    try {
      std::exit(run_rank(rank, size, pipe));
    } catch (const Error& error) {
      std::fprintf(stderr, "rank %d: %s: %s\n", rank, name_of(error.code()), error.what());
      std::exit(1);
    }
  }
  close(pipe[0]);
  close(pipe[1]);
  int failed = 0, status = 0;
  while (wait(&status) > 0) failed += status != 0;
  return failed;
}
