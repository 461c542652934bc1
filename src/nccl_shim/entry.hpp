#pragma once

#include "nccl_shim/group.hpp"
#include "nccl_shim/outcome.hpp"
#include "nccl_shim/rank.hpp"
#include "nccl_shim/real.hpp"

namespace collectives {

template <auto member>
struct SignatureOf;
template <typename Function, Function* NcclFunctions::*member>
struct SignatureOf<member> {
  using type = Function;
};
/// A function's type as the table has it.
template <auto member>
using Signature = typename SignatureOf<member>::type;

/// What a pointer argument points to. Throws Error(invalid_argument) that names it if it is null.
template <typename T>
T& nccl_given(T* pointer, const char* name) {
  require(pointer != nullptr, [&] { return std::string(name) + " is null"; });
  return *pointer;
}

/// A function of the library without a communicator: `real(functions)` where the real library serves every call, else `own()`.
template <typename Real, typename Own>
NcclResult serve(const char* function, Real&& real, Own&& own) noexcept {
  return nccl_guard(function, [&]() -> NcclResult {
    if (const NcclFunctions* all = forwarding()) return real(*all);
    return own();
  });
}

/// One of a communicator: `real(functions, comm)` where the real library serves it, else `own(rank)`.
template <typename Real, typename Own>
NcclResult serve_rank(const char* function, NcclComm* comm, Real&& real, Own&& own) noexcept {
  return nccl_guard(function, [&]() -> NcclResult {
    if (const NcclFunctions* all = forwarding()) return real(*all, comm);
    const std::shared_ptr<DropInRank> rank = rank_of(comm);
    NcclComm* theirs = rank->real_comm();
    if (theirs == nullptr) return own(rank);
    const NcclResult result = real(rank->real(), theirs);
    if (result != nccl_success && result != nccl_in_progress) (void)remember_nccl_error(result, function, rank->real().get_last_error(theirs));
    return result;
  });
}

/// For a member of the table that takes a communicator first.
template <typename... Parameters>
auto forward_to(NcclResult (*NcclFunctions::*member)(NcclComm*, Parameters...), const char* name, Parameters... arguments) {
  return [=](const NcclFunctions& real, NcclComm* theirs) { return required(real.*member, name)(theirs, arguments...); };
}

}  // namespace collectives
