// A library that has the place of NCCL's own in the tests of what is left to it: its reductions give the input plus 1000, so that
// one can see who served a call.
#include <cstring>
#include <string>

#include "nccl_shim/abi.hpp"

struct StandInComm {
  int ranks;
  int rank;
};

using namespace collectives;

namespace {

thread_local std::string words = "nothing yet";
thread_local int groups = 0;

StandInComm* of(NcclComm* comm) { return reinterpret_cast<StandInComm*>(comm); }
NcclComm* made(int ranks, int rank) { return reinterpret_cast<NcclComm*>(new StandInComm{ranks, rank}); }

}  // namespace

extern "C" {

NcclResult ncclGetVersion(int* version) {
  *version = 29999;
  return nccl_success;
}
const char* ncclGetErrorString(NcclResult) { return "the stand-in's code"; }
const char* ncclGetLastError(NcclComm*) { return words.c_str(); }
NcclResult ncclGetUniqueId(NcclId* id) {
  std::memset(id, 0, sizeof *id);
  std::strcpy(id->bytes, "the stand-in's id");
  return nccl_success;
}
NcclResult ncclCommInitRank(NcclComm** comm, int ranks, NcclId id, int rank) {
  words = "an id of " + std::string(id.bytes, strnlen(id.bytes, sizeof id.bytes));
  if (std::strcmp(id.bytes, "the stand-in's id") != 0) return nccl_invalid_argument;
  *comm = made(ranks, rank);
  return nccl_success;
}
NcclResult ncclCommInitAll(NcclComm** comms, int count, const int*) {
  for (int rank = 0; rank < count; ++rank) comms[rank] = made(count, rank);
  return nccl_success;
}
NcclResult ncclCommSplit(NcclComm* comm, int color, int key, NcclComm** child, NcclConfig*) {
  *child = color < 0 ? nullptr : made(of(comm)->ranks - 1, key);
  return nccl_success;
}
NcclResult ncclCommCount(NcclComm* comm, int* count) {
  *count = of(comm)->ranks;
  return nccl_success;
}
NcclResult ncclCommUserRank(NcclComm* comm, int* rank) {
  *rank = of(comm)->rank;
  return nccl_success;
}
NcclResult ncclCommGetAsyncError(NcclComm*, NcclResult* error) {
  *error = nccl_success;
  return nccl_success;
}
NcclResult ncclCommDestroy(NcclComm* comm) {
  delete of(comm);
  return nccl_success;
}
NcclResult ncclCommAbort(NcclComm* comm) { return ncclCommDestroy(comm); }
NcclResult ncclAllReduce(const void* in, void* out, std::size_t count, int type, int, NcclComm*, Stream) {
  if (type != 7) return nccl_invalid_argument;
  for (std::size_t i = 0; i < count; ++i) static_cast<float*>(out)[i] = static_cast<const float*>(in)[i] + 1000.0F + static_cast<float>(groups);
  return nccl_success;
}
NcclResult ncclGroupStart() {
  ++groups;
  return nccl_success;
}
NcclResult ncclGroupEnd() {
  --groups;
  return nccl_success;
}

}  // extern "C"
