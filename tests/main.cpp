#if __has_include(<catch2/catch_session.hpp>)
#include <catch2/catch_session.hpp>
#else
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#endif
#include <collectives/verify.hpp>
#include <cstring>

#include "fake_prober.hpp"

int main(int argc, char** argv) {
  // Verification starts the program that it runs in once more, to touch the links or to act as if.
  if (argc >= 2 && std::strcmp(argv[1], "probe") == 0) return collectives::serve_probe(0, 1);
  if (argc >= 2 && std::strcmp(argv[1], "fake-probe") == 0) return collectives::serve_fake_probe({argv + 2, argv + argc});
  return Catch::Session().run(argc, argv);
}
