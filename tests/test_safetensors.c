/*
 * test_safetensors.c -- what the safetensors library wrote is read, what breaks its rules refused.
 */
#include "safetensors.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TORCH SOURCE_DIRECTORY "/tests/torch/"

static char path[64];
static struct safetensors file;
static struct error error;

static void make_path(void)
{
    (void)snprintf(path, sizeof path, "/tmp/moesim_safetensors_XXXXXX");
    int descriptor = mkstemp(path);
    cr_assert_geq(descriptor, 0);
    close(descriptor);
}

static void clean(void)
{
    safetensors_close(&file);
    unlink(path);
}

TestSuite(safetensors, .init = make_path, .fini = clean);

static const struct tensor *find(const char *name)
{
    for (int64_t i = 0; i < file.num_entries; i++) {
        if (strcmp(file.entry[i].name, name) == 0) {
            return &file.entry[i].tensor;
        }
    }
    cr_assert_fail("there is no tensor %s", name);
    return NULL;
}

/* A file with a header, payload_bytes behind it, and a claim of its length. */
static void write_file(uint64_t length, const char *header, size_t payload_bytes)
{
    FILE *stream = fopen(path, "wb");
    cr_assert_not_null(stream);
    fwrite(&length, 1, sizeof length, stream);
    fputs(header, stream);
    for (size_t i = 0; i < payload_bytes; i++) {
        fputc((int)i, stream);
    }
    cr_assert_eq(fclose(stream), 0);
}

static void refuse(const char *header, size_t payload_bytes, const char *words)
{
    error = (struct error){0};
    write_file(strlen(header), header, payload_bytes);
    cr_assert_eq(safetensors_open(&file, path, &error), STATUS_INVALID, "%s", header);
    cr_assert_eq(error.num_problems, 1, "%s", error.text);
    cr_assert(strstr(error.text, words) != NULL, "'%s' is not in: %s", words, error.text);
    safetensors_close(&file);
}

Test(safetensors, every_tensor_is_read_to_the_last_number)
{
    cr_assert_eq(safetensors_open(&file, TORCH "types.safetensors", &error), STATUS_OK, "%s",
                 error.text);

    cr_assert_eq(file.num_entries, 4);
    const struct tensor *half = find("half"); /* arange(6).reshape(2, 3) */
    cr_assert_eq(half->type, TENSOR_FLOAT16);
    cr_assert_eq(half->dim[0], 2);
    cr_assert_float_eq(tensor_double(half, half->stride[0] + 2 * half->stride[1]), 5.0, 0.0);
    cr_assert_eq(tensor_int(find("flag"), 0), 1);
    cr_assert_float_eq(tensor_double(find("brain"), 2), 2.0, 0.0);
    cr_assert_eq(find("scalar")->num_dims, 0);
    cr_assert_eq(tensor_int(find("scalar"), 0), 7);
}

Test(safetensors, tensors_come_in_the_order_of_their_bytes)
{
    static const char header[] =
        "{\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]},"
        "\"none\":{\"dtype\":\"I64\",\"shape\":[0,4],\"data_offsets\":[1,1]},"
        "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}";
    write_file(sizeof header - 1, header, 3);

    cr_assert_eq(safetensors_open(&file, path, &error), STATUS_OK, "%s", error.text);

    cr_assert_str_eq(file.entry[0].name, "a");
    cr_assert_str_eq(file.entry[1].name, "none");
    cr_assert_eq(tensor_int(&file.entry[2].tensor, 1), 2);
}

Test(safetensors, headers_that_lie_are_refused)
{
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 3,
           "outside the file");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[-1,1]}}", 4,
           "outside the file");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[3,1]}}", 4,
           "outside the file");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[1e30],\"data_offsets\":[0,4]}}", 4,
           "does not fill");
    refuse("{\"a\":{\"dtype\":\"I32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,4]}}",
           4, "does not fill");
    refuse("{\"a\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[0,5]}}", 5, "does not fill");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
           "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
           3, "tensor b: shares bytes");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
           "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]}}",
           3, "tensor b: leaves a gap");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 2,
           "bytes of no tensor");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
           "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
           2, "tensor a: is there twice");
    refuse("{\"a\":{\"dtype\":\"F8_E5M2\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
           "dtype F8_E5M2 is not read");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1,
           "needs dtype, shape and two data_offsets");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1,
           "more than 8 dimensions");
    refuse("{\"a\":7}", 0, "needs dtype");
    refuse("[]", 0, "is no JSON object");
    refuse("{", 0, "is no JSON object");
}

Test(safetensors, lengths_beyond_the_file_are_refused)
{
    static const uint64_t lengths[] = {UINT64_MAX, UINT64_C(1) << 32, 3, 17 << 20};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        error = (struct error){0};
        write_file(lengths[i], "{}", 0);
        cr_assert_eq(safetensors_open(&file, path, &error), STATUS_INVALID);
        cr_assert(strstr(error.text, "claims a header of") != NULL, "%s", error.text);
        safetensors_close(&file);
    }
    cr_assert_eq(truncate(path, 5), 0);
    cr_assert_eq(safetensors_open(&file, path, &error), STATUS_INVALID);
}
