/*
 * message.h -- bytes that one rank sends to another.
 */
#ifndef MOESIM_MESSAGE_H
#define MOESIM_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#define NO_GROUP (-1)

struct message {
    int32_t src_rank;
    int32_t dst_rank; /* != src_rank: local copies are the GPU's work */
    int32_t feeds;    /* group of its plan that waits for it, or NO_GROUP */
    bool payload;     /* brings dst_rank something it waits for itself */
    int64_t bytes;
};

#endif
