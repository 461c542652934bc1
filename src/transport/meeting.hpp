#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/file_descriptor.hpp"
#include "transport/frame.hpp"
#include "transport/socket.hpp"
#include "transport/unique_id.hpp"

namespace collectives {

/// How ranks find each other. Each listens under its number in the id's directory, calls every lower rank and answers every
/// higher one. A connection counts once both ends have shown that they run as this user and know the id's secret; one that
/// shows less, or nothing in time, is dropped and changes nothing.
class Meeting {
 public:
  /// Throws Error(invalid_argument) if the directory is gone or not private, or the rank has come already.
  Meeting(const MeetingPlace& place, int rank, int size, std::uint32_t timeout_ms);
  /// Takes this rank's name away, or every rank's if this one has met them all, and the directory once it is empty. To
  /// destroy it before every rank has met every other makes the others fail.
  ~Meeting();
  Meeting(const Meeting&) = delete;
  Meeting& operator=(const Meeting&) = delete;

  /// Returns a socket to each other rank. Whoever gives up tells those it has met why, and they throw the same.
  std::vector<FileDescriptor> meet();

  const Deadline& deadline() const { return deadline_; }

 private:
  struct Stranger {
    FileDescriptor socket;
    Deadline deadline;
  };

  std::string name_of_rank(int rank) const;
  int missing() const;
  void call_lower_ranks();
  void read_answer(int rank);
  void answer_callers();
  void read_strangers();
  void watch_peer(int rank);
  void wait_for_news();
  void check_agreement(const Hello& hello);
  [[noreturn]] void give_up(ErrorCode code, const std::string& message);
  [[noreturn]] void give_up_missing();

  MeetingPlace place_;
  int rank_;
  int size_;
  std::uint32_t timeout_ms_;
  Deadline deadline_;
  FileDescriptor listener_;
  std::vector<FileDescriptor> calls_;  ///< to lower ranks that have not answered yet
  std::vector<Stranger> strangers_;    ///< callers that have not said who they are, oldest first
  std::vector<FileDescriptor> peers_;
  bool met_all_ = false;
  std::vector<bool> waiting_;  ///< peers that have met everyone: their first frame is here
  int pause_ms_ = 1;           ///< before the next try to call those who do not listen yet
};

}  // namespace collectives
