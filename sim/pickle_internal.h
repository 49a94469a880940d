/*
 * pickle_internal.h -- between the archive of a .pt file, the machine that reads its pickle, and
 * calls.
 */
#ifndef MOESIM_PICKLE_INTERNAL_H
#define MOESIM_PICKLE_INTERNAL_H

#include "pickle.h"

/* Names that a pickle of tensors may use, and what they stand for. */
enum pickle_name {
    PICKLE_NAME_REBUILD_V2, /* torch._utils._rebuild_tensor_v2: the storage has the type */
    PICKLE_NAME_REBUILD_V3, /* torch._utils._rebuild_tensor_v3: the type is an argument */
    PICKLE_NAME_DICT,       /* collections.OrderedDict */
    PICKLE_NAME_SIZE,       /* torch.Size: a tuple */
    PICKLE_NAME_BYTES,      /* torch.storage.UntypedStorage */
    PICKLE_NAME_STORAGE,    /* + enum tensor_type: torch.IntStorage, ... */
    PICKLE_NAME_TYPE =
        PICKLE_NAME_STORAGE + TENSOR_TYPE_COUNT, /* + tensor_type: torch.int32, ... */
    PICKLE_NAME_COUNT = PICKLE_NAME_TYPE + TENSOR_TYPE_COUNT,
};

/* Runs pickle->text and sets root. One message after a failure. */
MUST_CHECK enum status pickle_run(struct pickle *pickle, struct error *error);

struct pickle_machine {
    struct pickle *pickle;
    struct error *error;
    int64_t at;                /* the next byte of the text */
    int64_t begin;             /* of the opcode at hand */
    struct pickle_array stack; /* values */
    struct pickle_array marks; /* heights of the stack */
    struct pickle_array memo;
    bool stopped;
};

/* Tells what is wrong with the opcode at hand; returns STATUS_INVALID. */
enum status pickle_refuse(struct pickle_machine *machine, const char *what);
/* The same where status is STATUS_INVALID; tells of missing memory too. */
MUST_CHECK enum status pickle_checked(struct pickle_machine *machine, enum status status,
                                      const char *what);
MUST_CHECK enum status pickle_push(struct pickle_machine *machine, struct pickle_value value);

/* The values above the last mark, or above the bottom. */
int64_t pickle_num_above_mark(const struct pickle_machine *machine);

/* A list, tuple or dict without items; its index goes to value. STATUS_NO_MEMORY, or STATUS_INVALID
 * where there are too many. */
MUST_CHECK enum status pickle_container_new(struct pickle *pickle, struct pickle_value *value,
                                            enum pickle_kind kind);
/* count is 1 or more. */
MUST_CHECK enum status pickle_array_append(struct pickle_array *array,
                                           const struct pickle_value *item, int64_t count);

/* Makes room for one more in an array that doubles; NULL: no memory. */
void *pickle_grow(void *array, int64_t count, size_t size);

/* The opcodes GLOBAL, REDUCE and BINPERSID. */
MUST_CHECK enum status pickle_push_global(struct pickle_machine *machine);
MUST_CHECK enum status pickle_reduce(struct pickle_machine *machine);
MUST_CHECK enum status pickle_push_storage(struct pickle_machine *machine);

#endif
