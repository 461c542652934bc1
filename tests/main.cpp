#if __has_include(<catch2/catch_session.hpp>)
#include <catch2/catch_session.hpp>
#else
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#endif
#include <collectives/verify.hpp>
#include <cstring>

#include "fake_prober.hpp"
#if COLLECTIVES_HAS_CUDA
#include "contexts.hpp"
#endif

int main(int argc, char** argv) {
  // Verification starts the program that it runs in once more, to touch the links or to act as if.
  if (argc >= 2 && std::strcmp(argv[1], "probe") == 0) return collectives::serve_probe(0, 1);
  if (argc >= 2 && std::strcmp(argv[1], "fake-probe") == 0) return collectives::serve_fake_probe({argv + 2, argv + argc});
#if COLLECTIVES_HAS_CUDA
  if (argc >= 2 && std::strcmp(argv[1], "look") == 0) return collectives::contexts_of_looking();
#endif
  return Catch::Session().run(argc, argv);
}
