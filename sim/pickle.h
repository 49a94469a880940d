/*
 * pickle.h -- what torch.save wrote, read without running anything.
 *
 * A .pt file is a ZIP archive: NAME/data.pkl holds the object as a pickle of protocol 2,
 * NAME/data/KEY the bytes of each tensor's storage (torch/serialization.py, "_save"). A pickle is a
 * program for a stack machine that may name any Python function and call it. This machine knows the
 * opcodes that dicts, lists, tuples, numbers, texts and tensors need, and the handful of names that
 * build tensors. Every other opcode or name ends reading with an error that tells it and its place.
 *
 * The value is a graph that may hold itself, so nothing here walks it by itself: the caller asks
 * for one key or item at a time.
 */
#ifndef MOESIM_PICKLE_H
#define MOESIM_PICKLE_H

#include <stdbool.h>
#include <stdint.h>

#include "status.h"
#include "tensor.h"
#include "zip_file.h"

#define PICKLE_BYTES_MAX      (INT64_C(64) << 20) /* of data.pkl */
#define PICKLE_CONTAINERS_MAX (INT64_C(1) << 23)
#define PICKLE_TENSORS_MAX    (INT64_C(1) << 20)
#define PICKLE_STORAGE_MAX    (INT64_C(4) << 30) /* bytes of one tensor's storage */

enum pickle_kind {
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INT,
    PICKLE_FLOAT,
    PICKLE_TEXT,
    PICKLE_LIST,
    PICKLE_TUPLE,
    PICKLE_DICT,
    PICKLE_TENSOR,
    PICKLE_GLOBAL,  /* private: a name that was allowed */
    PICKLE_STORAGE, /* private: bytes of a tensor */
};

struct pickle_value {
    enum pickle_kind kind;
    uint32_t length; /* of a text */
    union {
        bool boolean;
        int64_t integer;
        double number;
        int64_t offset; /* of a text in data.pkl */
        int64_t index;  /* of a list, tuple, dict or tensor */
    } as;
};

struct pickle_array {
    struct pickle_value *item; /* of a dict: key, value, key, value ... */
    int64_t count;
    int64_t capacity;
};

struct pickle_storage {
    struct pickle_value key;
    int32_t type; /* enum tensor_type, or -1: bytes without one */
    int64_t num_elements;
};

struct pickle_tensor {
    struct tensor view; /* data NULL: not loaded */
    int64_t storage;
    int64_t offset; /* of the view's first element in its storage */
};

/* All fields but path and root are private. */
struct pickle {
    const char *path; /* borrowed */
    struct pickle_value root;
    struct zip_file zip;
    char *folder; /* in the archive, with its "/" */
    char *text;   /* [num_bytes] data.pkl */
    int64_t num_bytes;
    struct pickle_array *container; /* lists, tuples and dicts */
    int64_t num_containers;
    struct pickle_storage *storage;
    int64_t num_storages;
    struct pickle_tensor *tensor;
    int64_t num_tensors;
};

/* Reads the object; tensors stay in the file. STATUS_IO, STATUS_INVALID with one message, or
 * STATUS_NO_MEMORY. Release with pickle_close, also after a failure. */
MUST_CHECK enum status pickle_open(struct pickle *pickle, const char *path, struct error *error);
void pickle_close(struct pickle *pickle); /* safe on a zeroed struct, and twice */

/* The value of a text key; NULL: dict is NULL or no dict, or has no such key. */
const struct pickle_value *pickle_get(const struct pickle *pickle, const struct pickle_value *dict,
                                      const char *key);

/* Items of a list or tuple; 0 of anything else, and of NULL. */
int64_t pickle_count(const struct pickle *pickle, const struct pickle_value *list);
const struct pickle_value *pickle_item(const struct pickle *pickle, const struct pickle_value *list,
                                       int64_t index);

/* Type and shape of a tensor, without data; NULL: no tensor. */
const struct tensor *pickle_tensor_view(const struct pickle *pickle,
                                        const struct pickle_value *value);

/* Loads a tensor. Its data lies in *memory: free it. STATUS_INVALID when the file has fewer bytes
 * than the tensor needs, or its member of the archive is damaged. */
MUST_CHECK enum status pickle_tensor_load(struct tensor *tensor, void **memory,
                                          struct pickle *pickle, const struct pickle_value *value,
                                          struct error *error);

#endif
