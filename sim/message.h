/*
 * message.h -- bytes that one rank sends to another.
 */
#ifndef MOESIM_MESSAGE_H
#define MOESIM_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#define NO_GROUP (-1)

/* Plans have a million of them in one step: as small as it gets. The sender is its group's owner.
 */
struct message {
    int32_t dst_rank; /* not the sender: local copies are the GPU's work */
    uint32_t awaited; /* by whom: message_awaited */
    int64_t bytes;
};

/* feeds: group of its plan that waits for it, or NO_GROUP. payload: brings dst_rank something that
 * it waits for itself. */
static inline uint32_t message_awaited(int32_t feeds, bool payload)
{
    return 2 * (uint32_t)(feeds + 1) + payload;
}

static inline int32_t message_feeds(const struct message *message)
{
    return (int32_t)(message->awaited / 2) - 1;
}

static inline bool message_is_payload(const struct message *message)
{
    return message->awaited % 2 != 0;
}

#endif
