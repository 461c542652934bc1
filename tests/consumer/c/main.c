#include <collectives/collectives.h>
#include <stdio.h>

static int check(coll_error error, const char *what) {
  if (error != coll_success) printf("%s: %s: %s\n", what, coll_error_name(error), coll_last_error());
  return error != coll_success;
}

static int reduce(coll_comm *const *comms) {
  float values[2][3] = {{1, 2, 3}, {10, 20, 30}};
  int rank, i;
  for (rank = 0; rank < 2; ++rank)
    if (check(coll_all_reduce(values[rank], values[rank], 3, coll_float32, coll_sum, comms[rank], NULL), "all-reduce")) return 1;
  for (rank = 0; rank < 2; ++rank)
    if (check(coll_synchronize(comms[rank], NULL), "synchronize")) return 1;
  for (rank = 0; rank < 2; ++rank)
    for (i = 0; i < 3; ++i)
      if (values[rank][i] != 11.0f * (float)(i + 1)) return printf("wrong sum\n"), 1;
  if (coll_all_reduce(NULL, values[0], 3, coll_float32, coll_sum, comms[0], NULL) != coll_invalid_argument)
    return printf("a null buffer was taken\n"), 1;
  return 0;
}

int main(void) {
  coll_options options;
  coll_comm *comms[2];
  int result;
  if (coll_version() != COLL_VERSION) return printf("another version was loaded\n"), 1;
  if (check(coll_options_init(&options, sizeof options), "options")) return 1;
  options.backend = coll_backend_host;
  if (check(coll_comm_create_local(NULL, 2, &options, comms), "create")) return 1;
  result = reduce(comms);
  if (check(coll_comm_destroy(comms[0]), "destroy") || check(coll_comm_destroy(comms[1]), "destroy")) return 1;
  if (result == 0) printf("the C consumer works\n");
  return result;
}
