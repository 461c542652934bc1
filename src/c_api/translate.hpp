#pragma once

#include <collectives/collectives.h>
#include <collectives/communicator.hpp>

namespace collectives {

/// Throw Error(invalid_argument) that lists what is allowed for a number that names nothing.
DataType data_type_of(coll_data_type type);
ReduceOp reduce_op_of(coll_reduce_op op);

PlanRequest request_of(const coll_plan_request* request);

/// Throws Error(invalid_argument) for a `size` that no version of the structure had, fields that this library does not know
/// and that are not zero, and values out of range. Null gives the defaults.
Options options_of(const coll_options* options);

/// The defaults in the first `size` bytes of `*options`; whatever a newer caller has beyond them is zero.
void write_defaults(coll_options* options, std::size_t size);

/// Copies what the caller's version of the structure holds; `info->size` says how much that is.
void write_info(coll_pool_info* info, const PoolStatistics& statistics);
void write_info(coll_plan_info* info, const Plan& plan);

}  // namespace collectives
