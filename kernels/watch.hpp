#pragma once

#include "kernels/call.hpp"

// Bounded waiting. A wait that fails does not leave the body: from then on every wait of the thread returns at once, so the
// call runs to its end with garbage, all barriers are met, and the fault record says that the output is not to be used.
namespace collectives::kernels {

/// Who calls whom: all that is needed to look at headers and to tell of a failure.
template <typename Args>
struct Place {
  const Args* call;
  std::byte* const* pools;
  Epoch epoch;

  COLLECTIVES_HOST_DEVICE Control& control(int rank) const { return *reinterpret_cast<Control*>(pools[rank] + Layout::control); }
};

enum class Header { absent, matching, other };

/// What rank has announced for this call.
template <typename Args>
COLLECTIVES_HOST_DEVICE Header look_at_header(const Place<Args>& place, int rank) {
  const Mark header = observe(&place.control(place.call->rank).headers[place.epoch & 1u][rank]);
  if (static_cast<Epoch>(header >> 32) != place.epoch) return Header::absent;
  return static_cast<std::uint32_t>(header) == place.call->fingerprint ? Header::matching : Header::other;
}

COLLECTIVES_HOST_DEVICE std::uint32_t first_of(std::uint32_t ranks) {
  for (std::uint32_t rank = 0; rank < max_ranks; ++rank)
    if (ranks >> rank & 1u) return rank;
  return max_ranks;  // every header had come: a rank stalled inside the call
}

/// The first thread of this rank to fail writes the record and tells the peers. `about` is a rank; for a timeout the ranks that
/// are missing, a bit each; for poison the word that was found.
template <typename Args>
COLLECTIVES_COLD void record_failure(Place<Args> place, FaultKind kind, Mark about) {
  if (!claim_local(&place.control(place.call->rank).claimed)) return;
  FaultRecord& record = *place.call->fault;
  const auto low = static_cast<std::uint32_t>(about);
  const bool told = kind == FaultKind::poisoned, late = kind == FaultKind::timeout;
  const std::uint32_t culprit = told ? low & 0xffu : late ? first_of(low) : low;
  signal_relaxed(&record.peer, told ? low >> 8 & 0xffu : culprit);
  signal_relaxed(&record.culprit, culprit);
  signal_relaxed(&record.origin, told ? static_cast<std::uint32_t>(about >> 32 & 0xffu) : 0u);
  signal_relaxed(&record.missing, late ? low : 0u);
  // Who aborts is in no call.
  const bool dated = told && static_cast<FaultKind>(about >> 32 & 0xffu) != FaultKind::aborted;
  signal_relaxed(&record.epoch, dated ? epoch_of_poison(about, place.epoch) : place.epoch);
  signal(&record.kind, static_cast<std::uint32_t>(kind));
  // An abort is for the host to pass on: it may be this rank's alone, because a peer has died.
  if (told || kind == FaultKind::aborted) return;
  for (int rank = 0; rank < place.call->ranks; ++rank)
    if (rank != place.call->rank) signal_relaxed(&place.control(rank).poison, poison(kind, place.call->rank, culprit, place.epoch));
}

/// Has a thread of this rank found a failure, in this call or an earlier one?
template <typename Args>
COLLECTIVES_HOST_DEVICE bool is_dead(const Place<Args>& place) {
  return observe_relaxed(&place.control(place.call->rank).claimed) != 0;
}

/// The slow part of waiting: is there any reason to stop? `since` is when this thread first asked, 0 if it has not.
template <typename Args>
COLLECTIVES_COLD bool has_failed(Place<Args> place, std::uint64_t since) {
  const Args& call = *place.call;
  if (is_dead(place)) return true;
  if (observe_relaxed(&call.fault->abort) != 0) return record_failure(place, FaultKind::aborted, call.rank), true;
  const Mark word = observe_relaxed(&place.control(call.rank).poison);
  if (word != 0) return record_failure(place, FaultKind::poisoned, word), true;
  // Read before the headers: who has left after making this call has announced it by then.
  const std::uint32_t left = observe_relaxed(&call.fault->left);
  std::uint32_t missing = 0;
  for (int rank = 0; rank < call.ranks; ++rank) {
    if (rank == call.rank) continue;
    const Header header = look_at_header(place, rank);
    if (header == Header::other) return record_failure(place, FaultKind::mismatch, static_cast<Mark>(rank)), true;
    if (header == Header::absent) missing |= 1u << rank;
  }
  if ((missing & left) != 0) return record_failure(place, FaultKind::left, first_of(missing & left)), true;
  if (now_ns() - since <= call.timeout_ns) return false;
  return record_failure(place, FaultKind::timeout, missing), true;
}

/// What lets a host thread wait politely and notice a lost peer; device threads need neither.
struct NoRelief {
  COLLECTIVES_HOST_DEVICE void operator()() const {}
};

template <typename Relief, typename Args = CallArgs>
class Watch {
 public:
  COLLECTIVES_HOST_DEVICE Watch(const Args& call, std::byte* const* pools, Relief relief) : place_{&call, pools, 0}, relief_(relief) {}

  COLLECTIVES_HOST_DEVICE bool failed() const { return failed_; }
  /// Not only this thread.
  COLLECTIVES_HOST_DEVICE bool dead() const { return is_dead(place_); }
  COLLECTIVES_HOST_DEVICE void begin(Epoch epoch) { place_.epoch = epoch; }
  COLLECTIVES_HOST_DEVICE Epoch epoch() const { return place_.epoch; }
  COLLECTIVES_HOST_DEVICE Control& control(int rank) const { return place_.control(rank); }

  /// To be asked after each try in vain. False: give up, something has failed.
  COLLECTIVES_HOST_DEVICE bool keep_waiting() {
    if (failed_) return false;
    if (++tries_ % look_up_every != 0) return true;
    relief_();
    if (since_ == 0) since_ = now_ns();
    failed_ = has_failed(place_, since_);
    return !failed_;
  }

  /// Waits until rank has announced this very call; another one is a mismatch.
  COLLECTIVES_HOST_DEVICE void await_header(int rank) {
    Header header = look_at_header(place_, rank);
    while (header == Header::absent && keep_waiting()) header = look_at_header(place_, rank);
    if (header != Header::other || failed_) return;
    failed_ = true;
    record_failure(place_, FaultKind::mismatch, static_cast<Mark>(rank));
  }

  /// Tells a peer what this call is, and that this rank has finished the call before.
  COLLECTIVES_HOST_DEVICE void announce(int rank) const { signal(header_at(rank), header()); }

  /// The same without a fence, which costs a small call up to 0.8 us of its 3. Only between pools in device memory: what this
  /// rank read and cleared of its own pool in the call before was done in that memory when the kernel of that call ended.
  COLLECTIVES_HOST_DEVICE void announce_unfenced(int rank) const { signal_relaxed(header_at(rank), header()); }

 private:
  COLLECTIVES_HOST_DEVICE Mark* header_at(int rank) const { return &control(rank).headers[epoch() & 1u][place_.call->rank]; }
  COLLECTIVES_HOST_DEVICE Mark header() const { return mark(epoch(), place_.call->fingerprint); }

#if defined(__CUDACC__)
  static constexpr std::uint32_t look_up_every = 4096;  // about a millisecond of polling
#else
  static constexpr std::uint32_t look_up_every = 64;
#endif

  Place<Args> place_;
  Relief relief_;
  std::uint32_t tries_ = 0;
  std::uint64_t since_ = 0;
  bool failed_ = false;
};

}  // namespace collectives::kernels
