// Facts about what `collectives advise` prints, that no update of the golden files can hide.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli.hpp"
#include "cli/advice_text.hpp"
#include "cli/chip_memory.hpp"
#include "cli/engines.hpp"
#include "test.hpp"

using namespace collectives;
using cli::Exit;
using nlohmann::json;

namespace {

json advice_of(const std::string& machine, cli::Words options) {
  options.insert(options.begin(), "advise");
  options.push_back("--json");
  const Answer answer = ask_of(machine, options);
  CAPTURE(answer.err);
  REQUIRE(answer.exit == Exit::healthy);
  return json::parse(answer.out);
}

std::string complaint_of(const std::string& machine, cli::Words options) {
  options.insert(options.begin(), "advise");
  const Answer answer = ask_of(machine, options);
  CHECK(answer.exit == Exit::unusable);
  CHECK(answer.out == "");
  return answer.err;
}

std::string command_for(const std::string& engine, const std::string& machine, const std::string& tp) {
  return advice_of(machine, {"--tp", tp, "--for", engine})["engine"]["command"];
}

}  // namespace

TEST_CASE("a pair is joined by the best link there is", "[cli][advise]") {
  CHECK(advice_of("nvlink_pairs_4x.json", {"--tp", "2"})["devices"] == json({0, 1}));
  CHECK(advice_of("bridges_across_sockets_6x.json", {"--tp", "2"})["devices"] == json({0, 3}));
  CHECK(advice_of("mixed_islands_7x.json", {"--tp", "2"})["devices"] == json({2, 3}));
  const json cube = advice_of("cube_mesh_8x.json", {"--tp", "2"})["devices"];
  CHECK(test_machine("cube_mesh_8x.json").peer(cube[0], cube[1])->path == "NV2");
  const json chain = advice_of("chain_3x.json", {"--tp", "2"})["devices"];
  CHECK(test_machine("chain_3x.json").peer(chain[0], chain[1])->access);
}

TEST_CASE("groups of four stay within a quad, a socket and a switch", "[cli][advise]") {
  for (const char* machine : {"cube_mesh_8x.json", "two_sockets_8x.json"}) {
    CAPTURE(machine);
    const json advice = advice_of(machine, {"--tp", "4"});
    CHECK(advice["devices"] == json({0, 1, 2, 3}));
    CHECK(advice["beside"] == json({{4, 5, 6, 7}}));
  }
}

TEST_CASE("behind NVSwitches all groups are alike", "[cli][advise]") {
  for (const char* tp : {"2", "3", "5", "7"}) {
    CAPTURE(tp);
    const json size = advice_of("nvswitch_8x.json", {"--tp", tp})["sizes"][0];
    CHECK(size["kinds"] == 1);
    CHECK(size["groups"][0]["alike"] == size["looked_at"]);
  }
  CHECK_THAT(ask_of("nvswitch_8x.json", {"advise", "--tp", "4"}).out, ContainsSubstring("No group that was planned costs more"));
}

TEST_CASE("the second best is said to cost what the plans differ by", "[cli][advise]") {
  const json groups = advice_of("nvlink_pairs_4x.json", {"--tp", "2"})["sizes"][0]["groups"];
  const double more = groups[1]["predicted_us"].get<double>() / groups[0]["predicted_us"].get<double>() - 1;
  CHECK(more > 1);
  const std::string percent = std::to_string(static_cast<int>(more * 100 + 0.5));
  CHECK_THAT(ask_of("nvlink_pairs_4x.json", {"advise", "--tp", "2"}).out, ContainsSubstring("costs " + percent + " % more"));
}

TEST_CASE("the size that is recommended holds the model, and every smaller one that could is no faster", "[cli][advise][heavy]") {
  for (const char* machine : {"nvswitch_8x.json", "mixed_islands_7x.json", "two_sockets_8x.json", "pcie_no_peers_8x.json"})
    for (const char* bytes : {"20G", "40G", "80G"}) {
      CAPTURE(machine, bytes);
      const Machine described = test_machine(machine);
      const json advice = advice_of(machine, {"--model-bytes", bytes, "--for", "llama.cpp"});
      const json& taken = advice["sizes"][advice["size"].get<std::size_t>() - 1];
      CHECK(taken["size"] == advice["devices"].size());
      for (const int device : advice["devices"])
        for (const int gpu : described.gpus())
          if (described.nodes[static_cast<std::size_t>(gpu)].device == device)
            CHECK(static_cast<double>(described.nodes[static_cast<std::size_t>(gpu)].memory_bytes) * 0.9 >=
                  taken["bytes_per_gpu"].get<double>());
      for (const json& size : advice["sizes"])
        if (size["possible"] && size["size"] < taken["size"] && taken.contains("token_us")) CHECK(size["token_us"] > taken["token_us"]);
    }
}

TEST_CASE("GPUs that are too small for their part are left out", "[cli][advise]") {
  // 48 GiB in halves: the two 5090 and the A6000 hold one, a 4090 and a 3090 do not.
  const json advice = advice_of("mixed_islands_7x.json", {"--model-bytes", "40G", "--tp", "2"});
  CHECK(advice["sizes"][0]["looked_at"] == 3);
}

TEST_CASE("sizes divide the heads unless the engine cuts them as it likes", "[cli][advise]") {
  const auto possible = [](const char* engine, const char* heads) {
    std::vector<int> sizes;
    const json advice = advice_of("nvswitch_8x.json", {"--model-bytes", "20G", "--for", engine, "--heads", heads});
    for (const json& size : advice["sizes"])
      if (size["possible"]) sizes.push_back(size["size"]);
    return sizes;
  };
  CHECK(possible("vllm", "64") == std::vector<int>{1, 2, 4, 8});
  CHECK(possible("sglang", "48") == std::vector<int>{1, 2, 3, 4, 6, 8});
  CHECK(possible("exllamav3", "64") == std::vector<int>{1, 2, 3, 4, 5, 6, 7, 8});
}

TEST_CASE("a model that nothing holds is unusable", "[cli][advise]") {
  CHECK_THAT(complaint_of("chain_3x.json", {"--model-bytes", "4T"}), ContainsSubstring("no group of these 3 GPUs holds 4.8 TiB"));
  CHECK_THAT(complaint_of("chain_3x.json", {"--model-bytes", "4T", "--tp", "2"}), ContainsSubstring("a GPU, which 0 of 3 have"));
}

TEST_CASE("where memory is not known it has to be said", "[cli][advise]") {
  CHECK_THAT(complaint_of("nvlink_pairs_4x.topo.txt", {"--model-bytes", "20G"}), ContainsSubstring("expected --gpu-bytes"));
  const json advice = advice_of("nvlink_pairs_4x.topo.txt", {"--model-bytes", "20G", "--gpu-bytes", "24G"});
  CHECK(advice["size"] == 2);  // the fewest that hold it: what the chips read in a second is not known
}

TEST_CASE("what advise does not understand is unusable and says what was expected", "[cli][advise]") {
  CHECK_THAT(complaint_of("pcie_2x.json", {}), ContainsSubstring("expected --tp N or --model-bytes SIZE"));
  CHECK_THAT(complaint_of("pcie_2x.json", {"--tp", "4"}), ContainsSubstring("expected at most 2"));
  CHECK_THAT(complaint_of("pcie_2x.json", {"--tp", "1"}), ContainsSubstring("--tp"));
  CHECK_THAT(complaint_of("pcie_2x.json", {"--tp", "two"}), ContainsSubstring("--tp"));
  CHECK_THAT(complaint_of("pcie_2x.json", {"--model-bytes", "big"}), ContainsSubstring("expected bytes such as"));
  CHECK_THAT(complaint_of("pcie_2x.json", {"--tp", "2", "--for", "ollama"}), ContainsSubstring("expected one of vllm"));
  CHECK_THAT(complaint_of("pcie_2x.json", {"--tp", "2", "--among", "0,9"}), ContainsSubstring("no GPU 9"));
}

TEST_CASE("each engine gets its own flags, and NCCL's switches only where they are needed", "[cli][advise]") {
  CHECK(command_for("vllm", "nvswitch_8x.json", "4") == "CUDA_VISIBLE_DEVICES=0,1,2,3 vllm serve MODEL --tensor-parallel-size 4");
  CHECK_THAT(command_for("vllm", "nvswitch_8x.json", "3"), ContainsSubstring("--disable-custom-all-reduce"));
  CHECK_THAT(command_for("vllm", "pcie_no_peers_8x.json", "2"),
             ContainsSubstring("NCCL_P2P_DISABLE=1") && ContainsSubstring("--disable-custom-all-reduce"));
  CHECK_THAT(command_for("vllm", "pcie_2x.json", "2"), !ContainsSubstring("NCCL_") && !ContainsSubstring("--disable"));
  CHECK_THAT(command_for("sglang", "pcie_switches_8x.json", "8"), ContainsSubstring("NCCL_P2P_LEVEL=PHB") && ContainsSubstring("--tp 8"));
  CHECK_THAT(command_for("sglang", "nvswitch_8x.json", "3"), ContainsSubstring("--disable-custom-all-reduce"));
  CHECK_THAT(command_for("torch", "pcie_switches_16x.json", "16"),
             ContainsSubstring("NCCL_P2P_LEVEL=SYS") && ContainsSubstring("--nproc-per-node=16"));
  CHECK_THAT(command_for("llama.cpp", "nvlink_pairs_4x.json", "2"),
             ContainsSubstring("GGML_CUDA_P2P=1") && ContainsSubstring("-sm tensor"));
  CHECK_THAT(command_for("llama.cpp", "pcie_no_peers_8x.json", "2"),
             ContainsSubstring("GGML_CUDA_ALLREDUCE=internal") && !ContainsSubstring("GGML_CUDA_P2P"));
  CHECK_THAT(command_for("exllamav3", "pcie_no_peers_8x.json", "3"), ContainsSubstring("-tpb native"));
  CHECK_THAT(command_for("exllamav3", "nvlink_pairs_4x.json", "2"), ContainsSubstring("-tpb nccl"));
}

TEST_CASE("where CUDA_VISIBLE_DEVICES is set, GPUs are named by its words", "[cli][advise]") {
  CHECK(cli::visible_devices({0, 2, 1}) == "0,2,1");
  CHECK(cli::visible_devices({0, 2}, "5,GPU-ab,3") == "5,3");
  CHECK(cli::visible_devices({1}, "5,GPU-ab,3") == "GPU-ab");
  CHECK(cli::visible_devices({0, 1}, "7") == "7,1");
  const cli::Advised advised{.machine = test_machine("pcie_2x.json"),
                             .model = {},
                             .advice = {.sizes = {{.size = 2, .bytes_per_gpu = 0, .obstacle = "", .search = {}, .devices = {0, 1}, .token_us = {}}}, .taken = 0, .why = "", .beside = {{1}}},
                             .engine = cli::Engine::vllm,
                             .visible = "6,4"};
  CHECK_THAT(cli::advice_text(advised), ContainsSubstring("\nCUDA_VISIBLE_DEVICES=6,4\n") && ContainsSubstring("CUDA_VISIBLE_DEVICES=6,4 vllm serve") && ContainsSubstring("model: GPUs 4\n"));
  CHECK(json::parse(cli::advice_json(advised))["cuda_visible_devices"] == "6,4");
}

TEST_CASE("advice says what of it is measured", "[cli][advise]") {
  CHECK_THAT(ask_of("nvlink_pairs_4x.json", {"advise", "--tp", "2"}).out,
             ContainsSubstring("recommendation by model") && ContainsSubstring("all measured"));
  CHECK_THAT(ask_of("nvswitch_8x.json", {"advise", "--tp", "2"}).out, ContainsSubstring("none of them measured"));
  CHECK_THAT(ask_of("pcie_no_peers_8x.json", {"advise", "--tp", "2"}).out, ContainsSubstring("0 are direct"));
}

TEST_CASE("memory rates go by whole words of a chip's name", "[cli][advise]") {
  CHECK(cli::memory_gb_per_s("NVIDIA L40S") == 864.0);
  CHECK(cli::memory_gb_per_s("NVIDIA L4") == 300.0);
  CHECK(cli::memory_gb_per_s("Tesla V100-SXM2-32GB") == 900.0);
  CHECK(cli::memory_gb_per_s("NVIDIA A100 80GB PCIe") == 1935.0);
  CHECK(cli::memory_gb_per_s("NVIDIA GeForce RTX 3090 Ti") == 1008.0);
  CHECK(cli::memory_gb_per_s("NVIDIA GeForce RTX 3090") == 936.0);
  CHECK_FALSE(cli::memory_gb_per_s("GPU 0"));
  CHECK_FALSE(cli::memory_gb_per_s(""));
}
