#include "perf/all_reduce.hpp"

int main(int argc, char** argv) { return perf::perf_main(argc, argv, perf::all_reduce); }
