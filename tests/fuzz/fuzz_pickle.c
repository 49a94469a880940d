/*
 * fuzz_pickle.c -- any bytes as a .pt archive, or as the pickle in one: refused, or readable.
 *
 * Archives that begin with "PK" are taken as they are; anything else becomes data.pkl of an archive
 * whose storage data/0 has 64 bytes.
 */
#include <stdlib.h>
#include <string.h>
#include <zip.h>

#include "input.h"
#include "pickle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static const char *write_archive(const uint8_t *data, size_t bytes)
{
    static const char storage[64];
    static int code;
    const char *path = input_path("x.pt");
    zip_t *zip = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, &code);
    if (zip == NULL ||
        zip_file_add(zip, "x/data.pkl", zip_source_buffer(zip, data, bytes, 0), 0) < 0 ||
        zip_set_file_compression(zip, 0, ZIP_CM_STORE, 0) != 0 ||
        zip_file_add(zip, "x/data/0", zip_source_buffer(zip, storage, sizeof storage, 0), 0) < 0 ||
        zip_close(zip) != 0) {
        __builtin_trap();
    }
    return path;
}

/* Reads a tensor, its last element too. */
static void read_tensor(struct pickle *pickle, const struct pickle_value *value,
                        struct error *error)
{
    struct tensor tensor;
    void *memory;
    if (pickle_tensor_load(&tensor, &memory, pickle, value, error) == STATUS_OK &&
        tensor.num_elements > 0) {
        int64_t last = 0;
        for (int32_t i = 0; i < tensor.num_dims; i++) {
            last += (tensor.dim[i] - 1) * tensor.stride[i];
        }
        (void)tensor_double(&tensor, 0); /* in another file: the call is not left out */
        (void)tensor_double(&tensor, last);
    }
    free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct error error;
    error.num_problems = 0;
    error.text_bytes = 0;
    bool is_archive = bytes >= 2 && memcmp(data, "PK", 2) == 0;
    const char *path = is_archive ? input_write("x.pt", data, bytes) : write_archive(data, bytes);
    struct pickle pickle = {0};
    enum status status = pickle_open(&pickle, path, &error);
    if ((status == STATUS_OK) != (error.num_problems == 0) || error.num_problems > 1) {
        __builtin_trap();
    }
    for (int64_t i = 0; status == STATUS_OK && i < pickle.num_tensors && i < 16; i++) {
        struct pickle_value value = {.kind = PICKLE_TENSOR, .as.index = i};
        read_tensor(&pickle, &value, &error);
    }
    (void)pickle_get(&pickle, &pickle.root, "records");
    pickle_close(&pickle);
    return 0;
}
