#include <cstdlib>

#include "base/env.hpp"
#include "base/require.hpp"
#include "test.hpp"
#include "variable.hpp"

using namespace collectives;

namespace {


}  // namespace

TEST_CASE("unset variables leave the defaults", "[base][env]") {
  const Environment environment = read_environment();
  CHECK(environment.timeout_ms == 300'000);
  CHECK_FALSE(environment.pool_bytes.has_value());
  CHECK_FALSE(environment.p2p.refuses(0, 1));
}

TEST_CASE("a bad value is an error that names the variable and what is allowed", "[base][env]") {
  const auto [name, value, expected] = GENERATE(table<const char*, const char*, const char*>({
      {"COLLECTIVES_LOG", "loud", "off, error, warn, info or trace"},
      {"COLLECTIVES_POOL_BYTES", "-1", "a number of bytes"},
      {"COLLECTIVES_POOL_BYTES", "12X", "a number of bytes"},
      {"COLLECTIVES_POOL_BYTES", "1e99G", "a number of bytes"},
      {"COLLECTIVES_POOL_BYTES", "nan", "a number of bytes"},
      {"COLLECTIVES_P2P", "on", "pairs of different ranks"},
      {"COLLECTIVES_P2P", "1-1", "pairs of different ranks"},
      {"COLLECTIVES_P2P", "0-1,", "pairs of different ranks"},
      {"COLLECTIVES_P2P", "pull:", "to pull such as pull:0-1"},
      {"COLLECTIVES_P2P", "0-1,pull:2-2", "to pull such as pull:0-1"},
      {"COLLECTIVES_P2P", "push:0-1", "to pull such as pull:0-1"},
      {"COLLECTIVES_TIMEOUT_MS", "0", "milliseconds"},
      {"COLLECTIVES_TIMEOUT_MS", "99999999999999999999", "milliseconds"},
      {"COLLECTIVES_DISABLE", "yes", "0 or 1"},
      {"COLLECTIVES_PROGRAMMATIC_LAUNCH", "on", "0 or 1"},
      {"COLLECTIVES_SUMMARY", "2", "0, 1 or ranks"},
      {"COLLECTIVES_TUNED", "yes", "0 or 1"},
  }));
  CAPTURE(name, value);
  const Variable variable(name, value);
  CHECK_THROWS_WITH(read_environment(), ContainsSubstring(name) && ContainsSubstring(expected));
}

TEST_CASE("byte counts take binary units", "[base][env]") {
  CHECK(parse_bytes("0", "x") == 0);
  CHECK(parse_bytes("64K", "x") == 65536);
  CHECK(parse_bytes("1.5M", "x") == 1572864);
  CHECK(parse_bytes("2G", "x") == 2147483648u);
}

TEST_CASE("refused pairs are refused in both directions", "[base][env]") {
  const Variable variable("COLLECTIVES_P2P", "0-1,pull:0-2,2-3");
  const PeerPolicy policy = read_environment().p2p;
  CHECK(policy.refuses(1, 0));
  CHECK(policy.refuses(2, 3));
  CHECK_FALSE(policy.refuses(0, 2));
  CHECK(policy.pulls(2, 0));
  CHECK_FALSE(policy.pulls(0, 1));
}

TEST_CASE("cached files go where the user keeps such, or nowhere", "[base][env]") {
  const Variable home("HOME", "/home/someone");
  {
    const Variable xdg("XDG_CACHE_HOME", "/var/cache/mine");
    CHECK(cache_directory() == "/var/cache/mine/collectives");
  }
  const Variable relative("XDG_CACHE_HOME", "here");
  CHECK(cache_directory() == "/home/someone/.cache/collectives");
  const Variable homeless("HOME", "");
  CHECK_FALSE(cache_directory());
}

TEST_CASE("what a launcher says of its ranks is read, and nonsense is nothing", "[base][env]") {
  CHECK(read_launch().processes == 0);
  const Variable all("WORLD_SIZE", "16");
  CHECK(read_launch().processes == 0);
  {
    const Variable here("LOCAL_WORLD_SIZE", "8");
    CHECK((read_launch().processes == 16 && read_launch().on_this_host == 8));
  }
  const Variable here("LOCAL_WORLD_SIZE", "eight");
  CHECK(read_launch().processes == 0);
}
