#include <collectives/collectives.h>

#include <algorithm>
#include <array>
#include <collectives/communicator.hpp>
#include <cstring>
#include <numeric>
#include <span>

#include "base/require.hpp"
#include "c_api/guard.hpp"
#include "c_api/handle.hpp"
#include "c_api/translate.hpp"

using namespace collectives;

static_assert(COLL_VERSION_MAJOR == COLLECTIVES_VERSION_MAJOR && COLL_VERSION_MINOR == COLLECTIVES_VERSION_MINOR &&
                  COLL_VERSION_PATCH == COLLECTIVES_VERSION_PATCH,
              "the header's version is the project's");

namespace {

thread_local std::array<char, 2048> last_error{};

std::vector<int> devices_of(const int* devices, int count) {
  require(count >= 1, [&] { return "count is " + std::to_string(count) + ": expected the number of ranks"; });
  std::vector<int> result(static_cast<std::size_t>(count));
  if (devices != nullptr)
    std::copy_n(devices, count, result.begin());
  else
    std::iota(result.begin(), result.end(), 0);
  return result;
}

}  // namespace

coll_error collectives::remember(coll_error error, const char* message) noexcept {
  const std::size_t length = std::min(std::strlen(message), last_error.size() - 1);
  std::memcpy(last_error.data(), message, length);
  last_error[length] = '\0';
  return error;
}

extern "C" {

int coll_version(void) { return COLL_VERSION; }

const char* coll_error_name(coll_error error) { return name_of(static_cast<ErrorCode>(error)); }

const char* coll_last_error(void) { return last_error.data(); }

coll_error coll_options_init(coll_options* options, size_t size) {
  return guard([&] { write_defaults(options, size); });
}

coll_error coll_get_unique_id(coll_unique_id* id) {
  return guard([&] {
    auto& target = given(id, "the id to fill");
    const UniqueId made = make_unique_id();
    std::copy(made.bytes.begin(), made.bytes.end(), target.bytes);
  });
}

coll_error coll_comm_create(const coll_unique_id* id, int rank, int size, const coll_options* options, coll_comm** comm) {
  return guard([&] {
    auto& target = given(comm, "the communicator to fill");
    UniqueId unique;
    std::copy_n(given(id, "the id").bytes, unique.bytes.size(), unique.bytes.begin());
    target = new coll_comm{Communicator::create(unique, rank, size, options_of(options))};
  });
}

coll_error coll_comm_create_local(const int* devices, int count, const coll_options* options, coll_comm** comms) {
  return guard([&] {
    given(comms, "the array of communicators to fill");
    auto made = Communicator::create_local(devices_of(devices, count), options_of(options));
    std::vector<std::unique_ptr<coll_comm>> owned;
    for (auto& communicator : made) owned.push_back(std::unique_ptr<coll_comm>(new coll_comm{std::move(communicator)}));
    for (auto& one : owned) *comms++ = one.release();
  });
}

coll_error coll_comm_split(coll_comm* comm, int color, int key, const coll_options* options, coll_comm** made) {
  return guard([&] {
    auto& target = given(made, "the communicator to fill");
    auto part = communicator_of(comm).split(color, key, options_of(options));
    target = part ? new coll_comm{std::move(*part)} : nullptr;
  });
}

coll_error coll_comm_subgroup(coll_comm* comm, const int* members, int count, const coll_options* options, coll_comm** made) {
  return guard([&] {
    auto& target = given(made, "the communicator to fill");
    require(count >= 0 && (members != nullptr || count == 0), "the array of members is null or its count is negative");
    target = new coll_comm{communicator_of(comm).subgroup(std::span(members, static_cast<std::size_t>(count)), options_of(options))};
  });
}

coll_error coll_comm_renew(coll_comm* comm, const coll_options* options) {
  return guard([&] { communicator_of(comm).renew(options_of(options)); });
}

coll_error coll_comm_tune(coll_comm* comm, uint32_t budget_ms) {
  return guard([&] {
    TuneOptions options;
    if (budget_ms != 0) options.budget_ms = budget_ms;
    (void)communicator_of(comm).tune(options);
  });
}

coll_error coll_comm_demote(coll_comm* comm, int from, int to) {
  return guard([&] { communicator_of(comm).demote(from, to); });
}

coll_error coll_comm_demote_refused(coll_comm* comm) {
  return guard([&] { communicator_of(comm).demote_refused(); });
}

coll_error coll_comm_replanned_at(const coll_comm* comm, uint64_t* call) {
  return guard([&] { given(call, "the call to fill") = communicator_of(comm).replanned_at(); });
}

coll_error coll_comm_destroy(coll_comm* comm) {
  return guard([&] { delete comm; });
}

coll_error coll_comm_rank(const coll_comm* comm, int* rank) {
  return guard([&] { given(rank, "the rank to fill") = communicator_of(comm).rank(); });
}

coll_error coll_comm_size(const coll_comm* comm, int* size) {
  return guard([&] { given(size, "the size to fill") = communicator_of(comm).size(); });
}

coll_error coll_comm_device(const coll_comm* comm, int* device) {
  return guard([&] { given(device, "the device to fill") = communicator_of(comm).device(); });
}

coll_error coll_comm_backend(const coll_comm* comm, coll_backend* backend) {
  return guard([&] { given(backend, "the backend to fill") = static_cast<int>(communicator_of(comm).backend()); });
}

coll_error coll_synchronize(coll_comm* comm, coll_stream stream) {
  return guard([&] { communicator_of(comm).synchronize(stream); });
}

coll_error coll_finish(coll_comm* comm) {
  return guard([&] { communicator_of(comm).finish(); });
}

coll_error coll_check(coll_comm* comm) {
  return guard([&] { communicator_of(comm).check(); });
}

coll_error coll_abort(coll_comm* comm) {
  return guard([&] { communicator_of(comm).abort(); });
}

coll_error coll_pool_statistics(const coll_comm* comm, coll_pool_info* info) {
  return guard([&] { write_info(info, communicator_of(comm).pool_statistics()); });
}

coll_error coll_plan(const coll_comm* comm, const coll_plan_request* request, coll_plan_info* info) {
  return guard([&] { write_info(info, communicator_of(comm).plan_for(request_of(request))); });
}

coll_error coll_explain(const coll_comm* comm, const coll_plan_request* request, char* buffer, size_t capacity, size_t* needed) {
  return guard([&] {
    require(buffer != nullptr || capacity == 0, "the buffer is null and its capacity is not 0");
    auto& size = given(needed, "the size to fill");
    const std::string text = communicator_of(comm).explain(request_of(request)).explanation;
    size = text.size() + 1;
    if (capacity == 0) return;
    const std::size_t length = std::min(text.size(), capacity - 1);
    std::memcpy(buffer, text.data(), length);
    buffer[length] = '\0';
  });
}

}  // extern "C"
