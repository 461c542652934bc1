// The host side of the perf binaries: what they are asked, what they print, and that a wrong element cannot pass.
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "perf/board.hpp"
#include "perf/collective.hpp"
#include "perf/extent.hpp"
#include "perf/layout.hpp"
#include "perf/p2p_matrix.hpp"
#include "perf/table.hpp"
#include "test.hpp"

using namespace perf;
using collectives::Backend;
using collectives::Error;

namespace {

Settings settings_of(std::vector<const char*> words) {
  words.insert(words.begin(), "perf");
  return parse_settings(static_cast<int>(words.size()), words.data(), "perf").value();
}

/// Standard output into a file for a scope.
class Captured {
 public:
  Captured() : file_(std::tmpfile()), before_(dup(STDOUT_FILENO)) {
    std::fflush(stdout);
    dup2(fileno(file_), STDOUT_FILENO);
  }
  ~Captured() {
    restore();
    std::fclose(file_);
  }
  std::string text() {
    restore();
    std::rewind(file_);
    std::string all;
    for (int c = 0; (c = std::fgetc(file_)) != EOF;) all += static_cast<char>(c);
    return all;
  }

 private:
  void restore() {
    if (before_ < 0) return;
    std::fflush(stdout);
    dup2(before_, STDOUT_FILENO);
    close(before_);
    before_ = -1;
  }
  std::FILE* file_;
  int before_;
};

using Enqueue = void (*)(collectives::Communicator&, const Call&);

Collective all_reduce_with(Enqueue enqueue) {
  return {.name = "all_reduce_perf",
          .kind = collectives::Collective::all_reduce,
          .bus_factor = [](int ranks) { return 2.0 * (ranks - 1) / ranks; },
          .enqueue = enqueue,
          .enqueue_nccl = nullptr};
}

void right(collectives::Communicator& c, const Call& call) { c.all_reduce(call.in, call.out, call.op, call.stream); }

/// Reduces rightly, then changes one bit of what rank 1 holds.
void one_bit_wrong(collectives::Communicator& c, const Call& call) {
  right(c, call);
  c.synchronize(call.stream);
  if (c.rank() == 1) static_cast<unsigned char*>(call.out.data)[call.out.count * size_of(call.out.type) - 1] ^= 1;
}

/// Reduces rightly, then writes the byte behind the output.
void past_the_end(collectives::Communicator& c, const Call& call) {
  right(c, call);
  c.synchronize(call.stream);
  static_cast<unsigned char*>(call.out.data)[call.out.count * size_of(call.out.type)] ^= 1;
}

int run_with(Enqueue enqueue, std::vector<const char*> words) {
  words.insert(words.begin(), "perf");
  return perf_main(static_cast<int>(words.size()), words.data(), all_reduce_with(enqueue));
}

/// A row of every collective, through what `spoil` does to a finished output.
template <collectives::Collective kind, bool spoil>
void enqueue_any(collectives::Communicator& c, const Call& call) {
  using collectives::Collective;
  const collectives::Send send{call.in, (call.rank + 1) % call.ranks};
  const collectives::Receive receive{call.out, (call.rank + call.ranks - 1) % call.ranks};
  switch (kind) {
    case Collective::all_reduce: c.all_reduce(call.in, call.out, call.op); break;
    case Collective::reduce_scatter: c.reduce_scatter(call.in, call.out, call.op); break;
    case Collective::all_gather: c.all_gather(call.in, call.out); break;
    case Collective::broadcast: c.broadcast(call.in, call.out, call.root); break;
    case Collective::reduce: c.reduce(call.in, call.out, call.op, call.root); break;
    case Collective::all_to_all: c.all_to_all(call.in, call.out); break;
    case Collective::gather: c.gather(call.in, call.out, call.root); break;
    case Collective::scatter: c.scatter(call.in, call.out, call.root); break;
    case Collective::exchange: c.exchange({&send, 1}, {&receive, 1}); break;
  }
  if (!spoil || call.rank != call.root) return;
  c.synchronize();
  static_cast<unsigned char*>(call.out.data)[call.out.count * size_of(call.out.type) / 2] ^= 1;
}

template <collectives::Collective kind, bool spoil>
int run_row() {
  const Collective row{.name = "row", .kind = kind, .bus_factor = [](int) { return 1.0; }, .enqueue = enqueue_any<kind, spoil>, .enqueue_nccl = nullptr};
  const char* words[] = {"row", "--ranks", "3", "-b", "200", "-e", "20000", "-f", "100", "-n", "1", "-r", "1", "-d", "all"};
  return perf_main(static_cast<int>(std::size(words)), words, row);
}

template <int... kinds>
void run_rows(std::integer_sequence<int, kinds...>) {
  const int right[] = {run_row<static_cast<collectives::Collective>(kinds), false>()...};
  const int wrong[] = {run_row<static_cast<collectives::Collective>(kinds), true>()...};
  for (const int status : right) CHECK(status == 0);
  for (const int status : wrong) CHECK(status == 1);
}

Line example_line() {
  Line line;
  line.shape = {.type = DataType::bfloat16, .op = ReduceOp::sum, .count = 500'000, .in_place = false};
  line.bus_factor = 1.5;
  line.plan.choice = {collectives::Algorithm::two_shot, 2};
  line.plan.blocks = 32;
  line.plan.predicted_us = 12.5;
  Result ours, theirs;
  ours.time_us = summarize({9, 10, 11});
  ours.checked = true;
  theirs.time_us = summarize({25});
  line.out_of_place = {ours, theirs};
  line.in_place = {ours, theirs};
  return line;
}

}  // namespace

TEST_CASE("every collective's row finds a right result right and one wrong bit wrong", "[perf][collectives]") {
  const Captured output;
  run_rows(std::make_integer_sequence<int, collectives::collective_count>());
}

TEST_CASE("the pieces of an output cover it without a gap", "[perf][collectives]") {
  for (int kind = 0; kind < collectives::collective_count; ++kind)
    for (const int ranks : {2, 5})
      for (int rank = 0; rank < ranks; ++rank) {
        std::size_t at = 0;
        for (const Piece& piece : pieces_of(static_cast<collectives::Collective>(kind), rank, ranks, 7, 1)) {
          CHECK(piece.at == at);
          at += piece.count;
        }
        CAPTURE(kind, ranks, rank);
        CHECK(at == extent_of(static_cast<collectives::Collective>(kind), rank, ranks, 7, 1).out);
      }
}

TEST_CASE("sizes have binary units and whole bytes", "[perf]") {
  CHECK(parse_size("0") == 0);
  CHECK(parse_size("4096") == 4096);
  CHECK(parse_size("64K") == 64u << 10);
  CHECK(parse_size("1.5M") == 3u << 19);
  CHECK(parse_size("2g") == std::size_t{2} << 30);
  const std::string bad = GENERATE("", "K", "-1", "1.3", "1KB", "4 K", "nan", "inf", "1e30", "9999999G");
  CAPTURE(bad);
  CHECK_THROWS_AS(parse_size(bad), Error);
}

TEST_CASE("a sweep has whole elements, no repeats and ends", "[perf]") {
  const auto counts = [](std::vector<const char*> words, DataType type) { return element_counts(settings_of(std::move(words)), type); };
  CHECK(counts({"-b", "8", "-e", "64", "-f", "2"}, DataType::float32) == std::vector<std::size_t>{2, 4, 8, 16});
  CHECK(counts({"-b", "1", "-e", "16", "-f", "2"}, DataType::float64) == std::vector<std::size_t>{1, 2});
  CHECK(counts({"-b", "0", "-e", "4", "-f", "2"}, DataType::int8) == std::vector<std::size_t>{1, 2, 4});
  CHECK(counts({"-b", "1K", "-e", "3K", "-i", "1K"}, DataType::float16) == std::vector<std::size_t>{512, 1024, 1536});
  CHECK(counts({"-b", "1M", "-e", "1M", "-i", "0"}, DataType::int8) == std::vector<std::size_t>{1u << 20});
}

TEST_CASE("the command line is nccl-tests'", "[perf]") {
  const Settings s = settings_of({"-b",
                                  "8",
                                  "-e",
                                  "1G",
                                  "-f",
                                  "2",
                                  "-n",
                                  "7",
                                  "-w",
                                  "3",
                                  "-m",
                                  "9",
                                  "-c",
                                  "0",
                                  "-d",
                                  "bfloat16",
                                  "-o",
                                  "avg",
                                  "-G",
                                  "12",
                                  "-T",
                                  "5",
                                  "-t",
                                  "2",
                                  "-g",
                                  "2",
                                  "-J",
                                  "x.json",
                                  "--algorithm",
                                  "kary_tree:3",
                                  "--wire",
                                  "flagged",
                                  "--invariant",
                                  "--max-blocks",
                                  "16",
                                  "--compare",
                                  "nccl,nccl-symmetric",
                                  "--nccl-max-ctas",
                                  "8",
                                  "-u",
                                  "1"});
  CHECK(s.max_bytes == std::size_t{1} << 30);
  CHECK(s.types == std::vector<DataType>{DataType::bfloat16});
  CHECK(s.ops == std::vector<ReduceOp>{ReduceOp::avg});
  CHECK((s.repetitions == 7 && s.warmups == 3 && s.calls_per_batch == 9 && s.checks == 0 && s.unalign == 1));
  CHECK(repetitions(s) == 12);
  CHECK(*s.library.timeout_ms == 5000);
  CHECK(*s.library.algorithm == collectives::AlgorithmChoice{collectives::Algorithm::kary_tree, 3});
  CHECK(*s.library.wire == collectives::Wire::flagged);
  CHECK((s.library.invariant && s.library.max_blocks == 16));
  CHECK(s.compare == std::vector<std::string>{"nccl", "nccl-symmetric"});
  CHECK((s.nccl_max_ctas == 8 && settings_of({}).nccl_max_ctas == 0));
  CHECK(settings_of({"-d", "all", "-o", "all"}).types.size() == static_cast<std::size_t>(collectives::data_type_count));
  CHECK(repetitions(settings_of({"-G", "1"})) == 10);
}

TEST_CASE("what cannot be meant is refused", "[perf]") {
  CHECK_THROWS_WITH(settings_of({"-d", "f8e3m4"}), ContainsSubstring("unknown datatype") && ContainsSubstring("bfloat16"));
  CHECK_THROWS_WITH(settings_of({"-o", "mulsum"}), ContainsSubstring("unknown op"));
  CHECK_THROWS_AS(settings_of({"-b", "2M", "-e", "1M"}), Error);
  CHECK_THROWS_AS(settings_of({"-b", "1", "-e", "2", "-i", "0"}), Error);
  CHECK_THROWS_AS(settings_of({"-G", "1", "-I", "1"}), Error);
  CHECK_THROWS_AS(settings_of({"-G", "1", "-y", "1"}), Error);
  CHECK_THROWS_AS(settings_of({"--procs", "2", "-t", "2"}), Error);
  CHECK_THROWS_AS(settings_of({"--ranks", "2", "--virtual", "2"}), Error);
  CHECK_THROWS_AS(settings_of({"--algorithm", "magic"}), Error);
  CHECK_THROWS_AS(settings_of({"--compare", "mpi"}), Error);
  CHECK_THROWS_AS(settings_of({"--no-such-option"}), Error);
}

TEST_CASE("ranks go to the GPUs there are, and share one only when asked", "[perf]") {
  const Survey none{0, "no driver"}, one{1, ""}, four{4, ""};
  const auto layout = [](std::vector<const char*> words, const Survey& survey) {
    return choose_layout(settings_of(std::move(words)), survey);
  };

  const Layout all = layout({}, four);
  CHECK((all.backend == Backend::cuda && all.threads == 4 && all.ranks_per_thread == 1 && all.note.empty()));
  CHECK(all.devices == std::vector<int>{0, 1, 2, 3});

  const Layout cpu = layout({}, none);
  CHECK((cpu.backend == Backend::host && cpu.ranks() == 4));
  CHECK_THAT(cpu.note, ContainsSubstring("no driver"));
  CHECK_THAT(layout({}, one).note, ContainsSubstring("--virtual"));
  CHECK(layout({}, one).backend == Backend::host);

  const Layout shared = layout({"--virtual", "6"}, four);
  CHECK(shared.devices == std::vector<int>{0, 1, 2, 3, 0, 1});
  CHECK((shared.shares_devices() && !all.shares_devices() && !cpu.shares_devices()));

  const Layout processes = layout({"--procs", "3"}, four);
  CHECK((processes.processes == 3 && processes.workers() == 3 && processes.ranks_per_worker() == 1));
  const Layout single = layout({"-g", "4"}, four);
  CHECK((single.threads == 1 && single.ranks_per_thread == 4 && single.on_gpu()));
  const Layout host = layout({"--ranks", "6", "-t", "2"}, four);
  CHECK((!host.on_gpu() && host.threads == 2 && host.ranks_per_thread == 3));

  CHECK_THROWS_AS(layout({"--ranks", "5", "-t", "2"}, none), Error);
  CHECK_THROWS_AS(layout({"-g", "1"}, four), Error);
  CHECK_THROWS_AS(layout({"-t", "16", "-g", "2"}, four), Error);
  CHECK_THROWS_WITH(layout({"--compare", "nccl"}, none), ContainsSubstring("needs a GPU"));
  CHECK_THROWS_WITH(layout({"--compare", "nccl", "--virtual", "8"}, four), ContainsSubstring("share"));
}

TEST_CASE("a check finds every wrong element and byte", "[perf]") {
  const auto type = static_cast<DataType>(GENERATE(range(0, collectives::data_type_count)));
  const auto op = static_cast<ReduceOp>(GENERATE(range(0, collectives::reduce_op_count)));
  const Payload payload{.type = type, .op = op, .ranks = GENERATE(2, 3, 16), .call = 5};
  CAPTURE(name_of(type), name_of(op), payload.ranks);
  constexpr std::size_t count = 1003;
  const std::size_t width = size_of(type);
  std::vector<std::uint8_t> data(count * width + 1, 0x7b);
  fill(data.data() + 1, count, payload, all_ranks);
  CHECK(count_wrong(data.data() + 1, count, payload, all_ranks) == 0);
  for (const std::size_t element : {std::size_t{0}, std::size_t{500}, count - 1}) data[1 + element * width] ^= 1;
  CHECK(count_wrong(data.data() + 1, count, payload, all_ranks) == 3);
  CHECK(count_altered(data.data(), 1, 0x7b) == 0);
  CHECK(count_altered(data.data(), 1, 0x7a) == 1);
}

TEST_CASE("operands are exact in their type and reduce to what is expected", "[perf]") {
  const auto op = static_cast<ReduceOp>(GENERATE(range(0, collectives::reduce_op_count)));
  const auto type = GENERATE(DataType::float16, DataType::bfloat16, DataType::int8, DataType::uint8);
  const int ranks = GENERATE(2, 3, 5, 8, 15, 16);
  CAPTURE(name_of(op), name_of(type), ranks);
  const Payload payload{.type = type, .op = op, .ranks = ranks, .call = 3};
  for (std::uint64_t element = 0; element < 2000; ++element) {
    double sum = 0, product = 1, least = 1e9, most = -1e9;
    for (int rank = 0; rank < ranks; ++rank) {
      const double value = operand(payload, rank, element);
      REQUIRE(std::abs(value) <= 24);
      REQUIRE((value >= 0 || !is_unsigned(type)));
      sum += value;
      product *= value;
      // Every order of reduction passes only through such sums: half and bfloat16 hold integers to 256 exactly.
      REQUIRE(std::abs(sum) <= 256);
      least = std::min(least, value);
      most = std::max(most, value);
    }
    const double wanted = op == ReduceOp::sum    ? sum
                          : op == ReduceOp::prod ? product
                          : op == ReduceOp::min  ? least
                          : op == ReduceOp::max  ? most
                                                 : sum / ranks;
    REQUIRE(static_cast<double>(expected(payload, element)) == wanted);
  }
}

TEST_CASE("a rank's, an element's or a call's values cannot pass for another's", "[perf]") {
  const auto op = static_cast<ReduceOp>(GENERATE(range(0, collectives::reduce_op_count)));
  CAPTURE(name_of(op));
  constexpr std::size_t count = 4096;
  const Payload payload{.type = DataType::float32, .op = op, .ranks = 4, .call = 1};
  Payload next = payload;
  next.call = 2;
  std::vector<float> data(count);
  fill(data.data(), count, payload, all_ranks);
  CHECK(count_wrong(data.data(), count, next, all_ranks) > count / 8);
  CHECK(count_wrong(data.data() + 1, count - 1, payload, all_ranks) > count / 8);
  fill(data.data(), count, payload, 1);
  CHECK(count_wrong(data.data(), count, payload, 2) > count / 8);
  CHECK(count_wrong(data.data(), count, next, 1) > count / 8);
}

TEST_CASE("summaries are of sorted samples, and the slowest rank counts", "[perf]") {
  const Summary summary = summarize({4, 1, 3, 2});
  CHECK((summary.min == 1 && summary.median == 2.5 && summary.max == 4 && summary.p99 == 4 && summary.mean == 2.5));
  std::vector<double> many(200);
  for (std::size_t i = 0; i < many.size(); ++i) many[i] = static_cast<double>(i + 1);
  CHECK(summarize(many).p99 == 198);
  CHECK(summarize({}).median == 0);
  CHECK(slowest({{1, 5}, {2, 4}}) == std::vector<double>{2, 5});
}

TEST_CASE("a line has nccl-tests' columns first and ours after them", "[perf]") {
  const TableStyle style{.contenders = {"ours", "nccl"}, .per_call = false};
  const std::string text = row(example_line(), style);
  CAPTURE(text);
  std::istringstream stream(text);
  const std::vector<std::string> cells{std::istream_iterator<std::string>(stream), {}};
  const std::vector<std::string> wanted{"1000000", "500000", "bfloat16", "sum", "-1",       "10.00",   "100.00", "150.00", "0",
                                        "10.00",   "100.00", "150.00",   "0",   "two_shot", "flagged", "32",     "12.50"};
  REQUIRE(cells.size() == wanted.size() + 8 + 6);
  CHECK(std::vector<std::string>(cells.begin(), cells.begin() + static_cast<long>(wanted.size())) == wanted);
  CHECK(cells[cells.size() - 5] == "2.50");  // theirs over ours

  const std::string head = heading(style);
  std::size_t begin = 0;
  for (int line = 0; line < 3; ++line) {
    const std::size_t end = head.find('\n', begin);
    CAPTURE(line, head.substr(begin, end - begin));
    CHECK(head[begin] == '#');
    CHECK(end - begin == text.size() - 1);
    begin = end + 1;
  }
}

TEST_CASE("figures keep to seven characters", "[perf]") {
  CHECK(figure(0) == "0.00");
  CHECK(figure(12.345) == "12.35");
  CHECK(figure(99999.94) == "99999.9");
  CHECK(figure(1234567) == "1234567");
  for (double value = 0.001; value < 1e15; value *= 1.7) CHECK(figure(value).size() <= 7);
}

TEST_CASE("totals count the wrong elements of every contender, and the footer says so", "[perf]") {
  Line line = example_line();
  Totals totals;
  totals.add(line);
  CHECK((totals.wrong == 0 && std::abs(totals.average_bus() - 150) < 1e-9));
  CHECK_THAT(footer("x", totals.wrong, totals.average_bus()),
             ContainsSubstring("# Out of bounds values : 0 OK\n") && ContainsSubstring("# Avg bus bandwidth    : 150"));
  line.in_place[1].wrong = 2;
  totals.add(line);
  CHECK(totals.wrong == 2);
  CHECK_THAT(footer("x", totals.wrong, 0), ContainsSubstring("2 FAILED"));
}

TEST_CASE("NCCL's numbers are its own", "[perf]") {
  CHECK(nccl_version_text(22803) == "2.28.3");
  CHECK(nccl_version_text(2708) == "2.7.8");
  CHECK((nccl_type(DataType::int8) == 0 && nccl_type(DataType::float16) == 6 && nccl_type(DataType::bfloat16) == 9));
  CHECK((nccl_op(ReduceOp::max) == 2 && nccl_op(ReduceOp::min) == 3 && nccl_op(ReduceOp::avg) == 4));
  CHECK_THROWS_WITH(open_nccl("no-such-library.so"), ContainsSubstring("cannot open NCCL"));
  // A library that is there and is not NCCL.
  CHECK_THROWS_WITH(open_nccl("libm.so.6"), ContainsSubstring("this is not NCCL"));
}

TEST_CASE("a matrix prints what was measured and dashes for the rest", "[perf]") {
  Matrix matrix("Title", "key", 2);
  matrix.at(0, 1) = 12.5;
  CHECK(to_text(matrix) == "Title\n   D\\D       0        1 \n     0       -    12.50 \n     1       -        - \n");
  const auto json = nlohmann::json::parse(to_json({"a", "b"}, {matrix}));
  CHECK(json["matrices"]["key"]["values"][0][1] == 12.5);
  CHECK(json["matrices"]["key"]["values"][1][0].is_null());
}

TEST_CASE("a failure on the board ends every wait", "[perf]") {
  Board board(2, 2, 1, 60);
  std::string seen;
  std::thread waiting([&] {
    try {
      board.barrier();
    } catch (const Error& error) {
      seen = error.what();
    }
  });
  board.fail("first");
  board.fail("second");
  waiting.join();
  CHECK_THAT(seen, ContainsSubstring("first"));
  CHECK(board.failure() == "first");
}

TEST_CASE("a run on CPU ranks checks every line and says that all is well", "[perf]") {
  const std::vector<const char*> ranks =
      GENERATE(values<std::vector<const char*>>({{"--ranks", "3"}, {"--ranks", "4", "-t", "2"}, {"--procs", "2"}}));
  std::vector<const char*> words{"-b", "4", "-e", "4K", "-f", "32", "-n", "2", "-d", "bfloat16", "-o", "all", "-u", "1", "-T", "60"};
  words.insert(words.end(), ranks.begin(), ranks.end());
  Captured captured;
  const int status = run_with(right, words);
  const std::string text = captured.text();
  CAPTURE(text);
  CHECK(status == 0);
  CHECK_THAT(text, ContainsSubstring("# Communicators created in: ours ") && ContainsSubstring("# Out of bounds values : 0 OK"));
}

TEST_CASE("a run with one wrong bit, or one byte written past the end, fails", "[perf]") {
  const Enqueue fault = GENERATE(one_bit_wrong, past_the_end);
  Captured captured;
  const int status = run_with(fault, {"--ranks", "2", "-b", "1K", "-e", "1K", "-n", "1", "-w", "0", "-T", "60"});
  const std::string text = captured.text();
  CAPTURE(text);
  CHECK(status == 1);
  CHECK_THAT(text, ContainsSubstring("FAILED"));
}

TEST_CASE("a run whose ranks throw ends with an error", "[perf]") {
  const auto throwing = [](collectives::Communicator& c, const Call& call) {
    if (c.rank() == 1) throw std::runtime_error("seeded");
    right(c, call);
  };
  const std::vector<const char*> ranks = GENERATE(values<std::vector<const char*>>({{"--ranks", "3"}, {"--procs", "3"}}));
  std::vector<const char*> words{"-b", "1K", "-e", "1K", "-n", "1", "-T", "20"};
  words.insert(words.end(), ranks.begin(), ranks.end());
  Captured captured;
  CHECK(run_with(throwing, words) == 3);
}

TEST_CASE("a run is written as JSON and never over an old file", "[perf]") {
  const auto folder = std::filesystem::temp_directory_path() / ("perf_json_" + std::to_string(getpid()));
  std::filesystem::create_directory(folder);
  const std::string path = (folder / "run.json").string();
  std::ofstream(path) << "old";
  {
    Captured captured;
    CHECK(run_with(right, {"--ranks", "2", "-b", "8", "-e", "64", "-f", "8", "-n", "3", "-J", path.c_str()}) == 0);
  }
  std::ifstream old(path), file(path + ".0");
  std::string text;
  old >> text;
  CHECK(text == "old");
  const auto json = nlohmann::json::parse(file);
  CHECK(json["version"] == 3);
  CHECK(json["config"]["devices"].size() == 2);
  REQUIRE(json["results"].size() == 2);
  CHECK(json["results"][1]["size"] == 64);
  CHECK(json["results"][1]["out_of_place"]["nwrong"] == 0);
  CHECK(json["results"][1]["plan"].contains("algorithm"));
  CHECK(json["out_of_bounds"]["okay"] == "true");
  CHECK(json["creation_ms"]["ours"] > 0);
  std::filesystem::remove_all(folder);
}
