#include "base/require.hpp"
#include "topology/verify_serve.hpp"

namespace collectives {

std::unique_ptr<LinkProber> make_link_prober(const std::optional<Injection>&) {
  throw Error(ErrorCode::unsupported, "this build of libcollectives has no CUDA backend, so there is no link to prove");
}

}  // namespace collectives
