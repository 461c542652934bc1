// Asks for two GPUs and says what came of it.
#include <collectives/communicator.hpp>
#include <collectives/error.hpp>
#include <cstdio>

int main() {
  collectives::Options options;
  options.backend = collectives::Backend::cuda;
  try {
    (void)collectives::Communicator::create_local({0, 1}, options);
    std::puts("two GPUs");
  } catch (const collectives::Error& error) {
    std::puts(error.what());
  }
}
