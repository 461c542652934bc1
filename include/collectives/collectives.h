#ifndef COLLECTIVES_COLLECTIVES_H
#define COLLECTIVES_COLLECTIVES_H

/* The C interface of libcollectives: C99, no other header of this library, no CUDA header.
 *
 * Every function that can fail returns a coll_error; coll_last_error says in words what was expected and what was found.
 * Enumerations are passed as int, so that a value out of range is an error and not undefined behaviour. */

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define COLL_API __attribute__((visibility("default")))
#else
#define COLL_API
#endif

#define COLL_VERSION_MAJOR 0
#define COLL_VERSION_MINOR 1
#define COLL_VERSION_PATCH 0
#define COLL_VERSION (COLL_VERSION_MAJOR * 10000 + COLL_VERSION_MINOR * 100 + COLL_VERSION_PATCH)

#define COLL_UNIQUE_ID_BYTES 128
#define COLL_MAX_RANKS 16

#ifdef __cplusplus
extern "C" {
#endif

/** What a call came to. 0 is success. */
typedef int coll_error;
enum {
  coll_success = 0,
  coll_invalid_argument = 1, /**< the caller's mistake; nothing was enqueued and the communicator stays usable */
  coll_invalid_usage = 2,    /**< a call that is right by itself at a wrong moment: capture misuse, use after abort */
  coll_peer_lost = 3,        /**< a rank died or left; the communicator is dead */
  coll_mismatch = 4,         /**< ranks made different calls; the communicator is dead */
  coll_timeout = 5,          /**< a rank did not come within the deadline; the communicator is dead */
  coll_aborted = 6,          /**< coll_abort was called here or by a peer; the communicator is dead */
  coll_out_of_memory = 7,    /**< the pool, the device or this process has not what was needed */
  coll_unsupported = 8,      /**< this machine, driver or build cannot do it */
  coll_system_error = 9,     /**< an operating-system call failed */
  coll_device_error = 10,    /**< a CUDA call failed or a device is in error */
  coll_internal_error = 11   /**< a fault of this library */
};

/** Element types. */
typedef int coll_data_type;
enum {
  coll_float32 = 0,
  coll_float64 = 1,
  coll_float16 = 2,
  coll_bfloat16 = 3,
  coll_int8 = 4,
  coll_uint8 = 5,
  coll_int32 = 6,
  coll_uint32 = 7,
  coll_int64 = 8,
  coll_uint64 = 9,
  coll_float8_e4m3 = 10,
  coll_float8_e5m2 = 11
};

/** Element-wise operations. coll_avg is the sum divided by the number of ranks. */
typedef int coll_reduce_op;
enum { coll_sum = 0, coll_prod = 1, coll_min = 2, coll_max = 3, coll_avg = 4 };

/** What ranks do together, where a plan is asked for. */
typedef int coll_collective;
enum {
  coll_kind_all_reduce = 0,
  coll_kind_reduce_scatter = 1,
  coll_kind_all_gather = 2,
  coll_kind_broadcast = 3,
  coll_kind_reduce = 4,
  coll_kind_all_to_all = 5,
  coll_kind_gather = 6,
  coll_kind_scatter = 7,
  coll_kind_exchange = 8
};

/** Where ranks live. Automatic: GPUs if there is one, else threads and processes of this machine's CPUs. */
typedef int coll_backend;
enum { coll_backend_automatic = 0, coll_backend_cuda = 1, coll_backend_host = 2 };

typedef int coll_algorithm;
enum {
  coll_algorithm_automatic = -1, /**< in options: COLLECTIVES_ALGORITHM, else the planner's choice */
  coll_one_shot = 0,
  coll_two_shot = 1,
  coll_ring = 2,
  coll_binary_tree = 3,
  coll_kary_tree = 4,
  coll_balanced_tree = 5,
  coll_double_tree = 6,
  coll_packed_trees = 7,
  coll_island = 8,
  coll_copy_two_shot = 9
};

/** How a reader knows that data has arrived: a word that no value uses is replaced, or a flag is released after the data. */
typedef int coll_wire;
enum { coll_wire_automatic = -1, coll_wire_sentinel = 0, coll_wire_flagged = 1, coll_wire_escaped = 2 };

/** How ranks reach each other's memory: by peer access where there is any and through host memory elsewhere; by peer access alone, or
 * coll_unsupported that names the pairs without it; or through host memory alone. */
typedef int coll_mode;
enum {
  coll_mode_environment = -1, /**< in options: what COLLECTIVES_P2P says, else auto */
  coll_mode_auto = 0,
  coll_mode_p2p = 1,
  coll_mode_host = 2
};

/** What cudaStream_t is. Null is the legacy default stream; the host backend ignores it. */
typedef struct CUstream_st* coll_stream;

/** One rank of a group that reduces together. One thread at a time, except where a function says otherwise. */
typedef struct coll_comm coll_comm;

/** Names one communicator to the processes that will form it. Carry its bytes to them by any means. */
typedef struct coll_unique_id {
  char bytes[COLL_UNIQUE_ID_BYTES];
} coll_unique_id;

/** Two different ranks, in any order. */
typedef struct coll_rank_pair {
  int a;
  int b;
} coll_rank_pair;

/** How a communicator behaves. Fill it with coll_options_init, then change fields. Later versions append fields; `size` tells
 * the library how many the caller knows. */
typedef struct coll_options {
  size_t size;              /**< sizeof(coll_options), set by coll_options_init */
  coll_backend backend;
  coll_algorithm algorithm; /**< force one; beats COLLECTIVES_ALGORITHM */
  int arity;                /**< children a node of a forced coll_kary_tree */
  coll_wire wire;           /**< force one where the type allows it */
  int invariant;            /**< not 0: direct algorithms only, so that no bit depends on the message size */
  int max_blocks;           /**< the most thread blocks a call may use; 0: the planner's choice */
  uint32_t timeout_ms;      /**< 0: COLLECTIVES_TIMEOUT_MS, else 300000 */
  uint32_t first_epoch;     /**< where the call counter starts; for tests */
  size_t pool_bytes;        /**< the pool's upper bound; 0: COLLECTIVES_POOL_BYTES, else a tenth of the free memory */
  coll_mode mode;           /**< beats COLLECTIVES_P2P */
  int prove_links;          /**< not 0: move data over links that no verification has proved, and avoid those that fail */
  const coll_rank_pair* refused; /**< ranks that shall not reach each other directly; read during the call; rank 0's count */
  size_t refused_count;
  int programmatic_launch;  /**< not 0: small calls start while the kernel before them ends, as COLLECTIVES_PROGRAMMATIC_LAUNCH=1 asks for too */
  int tuned;                /**< 1: plan by what was measured of the same ranks before, 0: by the model alone, -1: as COLLECTIVES_TUNED says; rank 0's counts */
} coll_options;

/** A call as far as its plan depends on it. The caller sets `size` to sizeof(coll_plan_request). */
typedef struct coll_plan_request {
  size_t size;
  size_t count;               /**< elements of the message, or of a rank's block */
  coll_collective collective;
  coll_data_type type;
  coll_reduce_op op;          /**< where the collective reduces */
  int root;                   /**< where it has one */
} coll_plan_request;

/** What a rank sends to another in an exchange, and what it receives. Their bytes must be as many; types are each rank's own. */
typedef struct coll_send {
  const void* data;
  size_t count;
  coll_data_type type;
  int to;
} coll_send;
typedef struct coll_receive {
  void* data;
  size_t count;
  coll_data_type type;
  int from;
} coll_receive;

/** Of one rank's pool, in bytes. The caller sets `size` to sizeof(coll_pool_info). */
typedef struct coll_pool_info {
  size_t size;
  size_t reserved;    /**< address space: the upper bound */
  size_t committed;   /**< memory taken from the device */
  size_t in_use;
  size_t high_water;  /**< of in_use */
  size_t allocations; /**< a number, not bytes */
  size_t failures;    /**< a number, not bytes */
} coll_pool_info;

/** What one call will do; the same on every rank. The caller sets `size` to sizeof(coll_plan_info). */
typedef struct coll_plan_info {
  size_t size;
  coll_algorithm algorithm;
  int arity;           /**< children a node; means something for coll_kary_tree only */
  coll_wire wire;
  int blocks;          /**< thread blocks a rank; 1 on the host */
  int threads;         /**< threads a block; 1 on the host */
  int stages;          /**< tiles of a transfer that may be under way at once */
  size_t bytes;        /**< of the whole message */
  size_t tile_bytes;   /**< what a block moves of one chunk at a time */
  double predicted_us;
} coll_plan_info;

/** The library's version as COLL_VERSION is made; differs from the header's where another library was loaded. */
COLL_API int coll_version(void);

/** A static name for an error code, "unknown error" for others. Never null. */
COLL_API const char* coll_error_name(coll_error error);

/** Why this thread's last failed call failed; empty if none has. Valid until this thread's next call that fails. */
COLL_API const char* coll_last_error(void);

/** Fills `options` with the defaults. `size` is sizeof(coll_options) as the caller was compiled. */
COLL_API coll_error coll_options_init(coll_options* options, size_t size);

/** Makes an id; one of the processes does it, which lives until the first rank has come: an id that nobody has used ends with it. */
COLL_API coll_error coll_get_unique_id(coll_unique_id* id);

/** This process's rank of `size`. Collective: returns when all ranks have come, or coll_timeout naming those who have not. On
 * CUDA it uses the calling thread's current device. `options` may be null. On failure `*comm` is not written. */
COLL_API coll_error coll_comm_create(const coll_unique_id* id, int rank, int size, const coll_options* options, coll_comm** comm);

/** `count` ranks in this process, rank r on CUDA device devices[r] (null: device r). On the host backend only their number
 * counts. A device named more than once is shared. `comms` receives `count` communicators; on failure it is not written. */
COLL_API coll_error coll_comm_create_local(const int* devices, int count, const coll_options* options, coll_comm** comms);

/** Those ranks that name the same color, in the order of their keys and then of their ranks, as a communicator of their own with pools
 * of its own: `*made` is null for a negative color. Collective and blocking, beside whatever is enqueued: ranks of one process call
 * from a thread each. The backend and the devices are this communicator's. `options` may be null. On failure `*made` is not written. */
COLL_API coll_error coll_comm_split(coll_comm* comm, int color, int key, const coll_options* options, coll_comm** made);

/** The same of these `count` ranks in this order, which alone call; each names the same. */
COLL_API coll_error coll_comm_subgroup(coll_comm* comm, const int* members, int count, const coll_options* options, coll_comm** made);

/** Makes this communicator anew: with these options (null: the defaults), the environment as it stands now, and what has been proved of
 * the links since. Collective and blocking like coll_comm_split; what was enqueued before ends as it began. Graphs that were captured
 * before must not be replayed. On failure it is what it was. */
COLL_API coll_error coll_comm_renew(coll_comm* comm, const coll_options* options);

/** Measures what all-reduces of 1 KB to 64 MB take on these ranks, for this long about (0: 2000 ms), and plans by that from the next call on, and
 * communicators on the same ranks for a month. Collective and blocking like coll_comm_split, while the machine does nothing else. Graphs that
 * were captured before keep their plans. */
COLL_API coll_error coll_comm_tune(coll_comm* comm, uint32_t budget_ms);

/** Takes the link between two ranks out, both ways, for all ranks, from the next collective call on that no rank has begun; messages between
 * the two, from the first on that neither has asked for. Any rank may ask, alone; it waits for no other. A thread that drives several
 * ranks asks when it has made the same calls on all. Graphs that were captured before keep the link. On failure nothing has changed. */
COLL_API coll_error coll_comm_demote(coll_comm* comm, int from, int to);

/** The same of all pairs that COLLECTIVES_P2P, as this process has it now, or a verification since says not to use. */
COLL_API coll_error coll_comm_demote_refused(coll_comm* comm);

/** The first call that went by the plans in force, of those calls that all ranks make, from 1; 0 while they are those of the beginning. */
COLL_API coll_error coll_comm_replanned_at(const coll_comm* comm, uint64_t* call);

/** Waits for this rank's calls that are under way, at most until the deadline, and frees it. Needs no peer. Null does nothing. */
COLL_API coll_error coll_comm_destroy(coll_comm* comm);

COLL_API coll_error coll_comm_rank(const coll_comm* comm, int* rank);
COLL_API coll_error coll_comm_size(const coll_comm* comm, int* size);
/** The CUDA ordinal, or -1 on the host backend. */
COLL_API coll_error coll_comm_device(const coll_comm* comm, int* device);
COLL_API coll_error coll_comm_backend(const coll_comm* comm, coll_backend* backend);

/** Enqueues out = reduction of every rank's `in` on `stream` and returns. `in` and `out` may be the same buffer, else must not
 * overlap. Collective: every rank makes the same calls in the same order. On the host backend the buffers must live until
 * coll_synchronize. A count of 0 does nothing. coll_invalid_argument means that nothing was enqueued. */
COLL_API coll_error coll_all_reduce(const void* in, void* out, size_t count, coll_data_type type, coll_reduce_op op, coll_comm* comm,
                                    coll_stream stream);

/** coll_all_reduce of floats that travel as `carried`, coll_float16 or coll_bfloat16: every operand is rounded to it, the sum in
 * fp32 once more. */
COLL_API coll_error coll_all_reduce_carried(const void* in, void* out, size_t count, coll_data_type carried, coll_reduce_op op,
                                            coll_comm* comm, coll_stream stream);

/** This rank's part in a coll_all_reduce to which it contributes nothing: the others call coll_all_reduce. `out` gets their result;
 * an average still divides by the number of ranks. */
COLL_API coll_error coll_all_reduce_nothing(void* out, size_t count, coll_data_type type, coll_reduce_op op, coll_comm* comm,
                                            coll_stream stream);

/** coll_all_reduce with coll_sum of every rank's operand times a factor of that rank's own, rounded to the type after the product.
 * `factor` is one element of `type`: host memory, read at once, or if `factor_on_device` is not 0 memory that the kernels reach, read
 * when the call runs. */
COLL_API coll_error coll_all_reduce_scaled(const void* in, void* out, size_t count, coll_data_type type, const void* factor,
                                           int factor_on_device, coll_comm* comm, coll_stream stream);

/* The collectives below keep coll_all_reduce's rules: every rank makes the same calls in the same order, buffers are apart or in
 * place as said, any count and any element-aligned address will do, a count of 0 does nothing. `count` is of one rank's block
 * where a buffer has a block a rank: its elements are `size` times as many. What is only moved arrives bit for bit. */

/** Rank r gets block r of the reduction of every rank's `in`. In place: `out` is this rank's block of `in`. */
COLL_API coll_error coll_reduce_scatter(const void* in, void* out, size_t count, coll_data_type type, coll_reduce_op op, coll_comm* comm,
                                        coll_stream stream);
/** Block r has counts[r] elements, the same counts on every rank. */
COLL_API coll_error coll_reduce_scatter_v(const void* in, void* out, const size_t* counts, coll_data_type type, coll_reduce_op op,
                                          coll_comm* comm, coll_stream stream);

/** The sum of coll_all_reduce_scaled. */
COLL_API coll_error coll_reduce_scatter_scaled(const void* in, void* out, size_t count, coll_data_type type, const void* factor,
                                               int factor_on_device, coll_comm* comm, coll_stream stream);

/** Every rank gets all ranks' `in`, one behind the other. In place: `in` is this rank's block of `out`. */
COLL_API coll_error coll_all_gather(const void* in, void* out, size_t count, coll_data_type type, coll_comm* comm, coll_stream stream);
/** Rank r brings counts[r] elements, the same counts on every rank. */
COLL_API coll_error coll_all_gather_v(const void* in, void* out, const size_t* counts, coll_data_type type, coll_comm* comm,
                                      coll_stream stream);

/** Every rank gets the root's `in`, which is looked at on the root only. In place: `in` is `out`. */
COLL_API coll_error coll_broadcast(const void* in, void* out, size_t count, coll_data_type type, int root, coll_comm* comm,
                                   coll_stream stream);

/** The root gets the reduction of every rank's `in`; `out` is looked at on the root only. In place: `in` is `out`. */
COLL_API coll_error coll_reduce(const void* in, void* out, size_t count, coll_data_type type, coll_reduce_op op, int root,
                                coll_comm* comm, coll_stream stream);

/** The sum of coll_all_reduce_scaled. */
COLL_API coll_error coll_reduce_scaled(const void* in, void* out, size_t count, coll_data_type type, const void* factor,
                                       int factor_on_device, int root, coll_comm* comm, coll_stream stream);

/** Block r of `out` is this rank's block of rank r's `in`. Not in place. */
COLL_API coll_error coll_all_to_all(const void* in, void* out, size_t count, coll_data_type type, coll_comm* comm, coll_stream stream);

/** The root gets all ranks' `in`, one behind the other; `out` is looked at on the root only. In place: the root's `in` is its block
 * of `out`. */
COLL_API coll_error coll_gather(const void* in, void* out, size_t count, coll_data_type type, int root, coll_comm* comm,
                                coll_stream stream);

/** Rank r gets block r of the root's `in`, which is looked at on the root only. In place: the root's `out` is its block of `in`. */
COLL_API coll_error coll_scatter(const void* in, void* out, size_t count, coll_data_type type, int root, coll_comm* comm,
                                 coll_stream stream);

/** Any pattern of sends and receives at once, 96 at most; those with one peer come in their order. A rank that has nothing to move
 * need not call. What one sends the other must receive in as many bytes, or that one fails with coll_mismatch. */
COLL_API coll_error coll_exchange(const coll_send* sends, size_t send_count, const coll_receive* receives, size_t receive_count,
                                  coll_comm* comm, coll_stream stream);

/** Enqueues a point that no rank's stream passes before every rank's has reached it. */
COLL_API coll_error coll_barrier(coll_comm* comm, coll_stream stream);

/** Waits until everything enqueued on `stream` is done, watching the peers meanwhile, and returns what went wrong. */
COLL_API coll_error coll_synchronize(coll_comm* comm, coll_stream stream);

/** The same of every call of this rank that was enqueued outside graphs, on whatever stream. */
COLL_API coll_error coll_finish(coll_comm* comm);

/** The error that killed the communicator, if any. May be called from any thread. */
COLL_API coll_error coll_check(coll_comm* comm);

/** Makes every call that is under way return soon on this rank, and tells the peers, which hear of it inside a call. May be
 * called from any thread. */
COLL_API coll_error coll_abort(coll_comm* comm);

COLL_API coll_error coll_pool_statistics(const coll_comm* comm, coll_pool_info* info);

/** What a call would do. */
COLL_API coll_error coll_plan(const coll_comm* comm, const coll_plan_request* request, coll_plan_info* info);

/** Why, as a paragraph and a table. Writes at most `capacity` bytes with the terminating zero, cut off where it does not fit,
 * and sets `*needed` to the bytes that the whole text takes. `buffer` may be null if `capacity` is 0. */
COLL_API coll_error coll_explain(const coll_comm* comm, const coll_plan_request* request, char* buffer, size_t capacity,
                                 size_t* needed);

#ifdef __cplusplus
}
#endif

#endif
