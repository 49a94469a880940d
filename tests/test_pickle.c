/*
 * test_pickle.c -- .pt files that PyTorch wrote are read to the last number, all others refused.
 *
 * The files of tests/torch/ were written by torch.save of PyTorch 2.15 (tests/torch/make.py).
 */
#include "pickle.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zip.h>

#define TORCH SOURCE_DIRECTORY "/tests/torch/"

static char path[64];
static struct pickle pickle;
static struct error error;

static void make_path(void)
{
    (void)snprintf(path, sizeof path, "/tmp/moesim_pickle_XXXXXX");
    int descriptor = mkstemp(path);
    cr_assert_geq(descriptor, 0);
    close(descriptor);
}

static void clean(void)
{
    pickle_close(&pickle);
    unlink(path);
}

TestSuite(pickle, .init = make_path, .fini = clean);

/* An archive with one member, or two, as torch.save lays them out. */
static void write_archive_in(const char *folder, const void *text, size_t bytes,
                             const void *storage, size_t storage_bytes)
{
    char name[64];
    int code = 0;
    zip_t *zip = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, &code);
    cr_assert_not_null(zip);
    (void)snprintf(name, sizeof name, "%s/data.pkl", folder);
    zip_int64_t index =
        zip_file_add(zip, name, zip_source_buffer(zip, text, bytes, 0), ZIP_FL_ENC_UTF_8);
    cr_assert_geq(index, 0);
    if (storage != NULL) {
        (void)snprintf(name, sizeof name, "%s/data/0", folder);
        index = zip_file_add(zip, name, zip_source_buffer(zip, storage, storage_bytes, 0),
                             ZIP_FL_ENC_UTF_8);
        cr_assert_geq(index, 0);
        cr_assert_eq(zip_set_file_compression(zip, (zip_uint64_t)index, ZIP_CM_DEFLATE, 9), 0);
    }
    cr_assert_eq(zip_close(zip), 0);
}

static void write_archive(const void *text, size_t bytes, const void *storage, size_t storage_bytes)
{
    write_archive_in("x", text, bytes, storage, storage_bytes);
}

/* Opens the pickle of a text with one error that holds all the words. */
static void refuse(const char *text, size_t bytes, const char *words)
{
    error = (struct error){0};
    write_archive(text, bytes, NULL, 0);
    cr_assert_eq(pickle_open(&pickle, path, &error), STATUS_INVALID, "%s", words);
    cr_assert_eq(error.num_problems, 1, "%s", error.text);
    cr_assert(strstr(error.text, words) != NULL, "'%s' is not in: %s", words, error.text);
    pickle_close(&pickle);
}

#define REFUSE(text, words) refuse(text, sizeof(text) - 1, words)

static int64_t whole(const char *key)
{
    const struct pickle_value *value = pickle_get(&pickle, &pickle.root, key);
    cr_assert_not_null(value, "%s", key);
    cr_assert_eq(value->kind, PICKLE_INT, "%s", key);
    return value->as.integer;
}

static void load(struct tensor *tensor, void **memory, const char *key)
{
    const struct pickle_value *value = pickle_get(&pickle, &pickle.root, key);
    cr_assert_not_null(pickle_tensor_view(&pickle, value), "%s", key);
    cr_assert_eq(pickle_tensor_load(tensor, memory, &pickle, value, &error), STATUS_OK, "%s",
                 error.text);
}

Test(pickle, every_type_of_tensor_is_read_to_the_last_number)
{
    cr_assert_eq(pickle_open(&pickle, TORCH "types.pt", &error), STATUS_OK, "%s", error.text);

    for (int type = 0; type < TENSOR_TYPE_COUNT; type++) {
        struct tensor tensor;
        void *memory;
        load(&tensor, &memory, tensor_type_name((enum tensor_type)type));
        cr_assert_eq((int)tensor.type, type);
        cr_assert_eq(tensor.num_dims, 1);
        cr_assert_eq(tensor.num_elements, 12);
        for (int64_t i = 0; i < 12; i++) {
            double wanted = type == TENSOR_BOOL ? (double)(i % 2) : (double)i;
            cr_assert_float_eq(tensor_double(&tensor, i), wanted, 0.0);
        }
        free(memory);
    }
    struct tensor negative;
    void *memory;
    load(&negative, &memory, "negative");
    cr_assert_eq(tensor_int(&negative, 11), -11);
    free(memory);
}

Test(pickle, views_keep_their_strides_and_offsets)
{
    struct tensor tensor;
    void *memory;
    cr_assert_eq(pickle_open(&pickle, TORCH "types.pt", &error), STATUS_OK, "%s", error.text);

    load(&tensor, &memory, "transposed"); /* arange(12).reshape(3, 4).t() */
    cr_assert_eq(tensor.num_dims, 2);
    cr_assert_eq(tensor.dim[0], 4);
    cr_assert_eq(tensor.dim[1], 3);
    for (int64_t row = 0; row < 4; row++) {
        for (int64_t column = 0; column < 3; column++) {
            int64_t offset = row * tensor.stride[0] + column * tensor.stride[1];
            cr_assert_eq(tensor_int(&tensor, offset), column * 4 + row);
        }
    }
    free(memory);
    load(&tensor, &memory, "slice"); /* arange(12)[4:10:2] */
    cr_assert_eq(tensor.num_elements, 3);
    cr_assert_eq(tensor_int(&tensor, 2 * tensor.stride[0]), 8);
    free(memory);
    load(&tensor, &memory, "scalar");
    cr_assert_eq(tensor.num_dims, 0);
    cr_assert_eq(tensor_int(&tensor, 0), 3);
    free(memory);
    load(&tensor, &memory, "empty");
    cr_assert_eq(tensor.num_elements, 0);
    free(memory);
}

Test(pickle, plain_values_are_read)
{
    cr_assert_eq(pickle_open(&pickle, TORCH "types.pt", &error), STATUS_OK, "%s", error.text);

    const struct pickle_value *list = pickle_get(&pickle, &pickle.root, "long list");
    cr_assert_eq(pickle_count(&pickle, list), 1200); /* in two batches */
    cr_assert_eq(pickle_item(&pickle, list, 1199)->as.integer, 1199);
    cr_assert_eq(whole("small"), -5);
    cr_assert_eq(whole("medium"), 70000);
    cr_assert_eq(whole("large"), -(INT64_C(1) << 40));
    cr_assert_eq(pickle_get(&pickle, &pickle.root, "none")->kind, PICKLE_NONE);
    cr_assert(pickle_get(&pickle, &pickle.root, "true")->as.boolean);
    cr_assert_eq(pickle_get(&pickle, &pickle.root, "Schlüssel")->kind, PICKLE_TEXT);
    const struct pickle_value *ordered = pickle_get(&pickle, &pickle.root, "ordered");
    cr_assert_float_eq(pickle_get(&pickle, ordered, "y")->as.number, 2.5, 0.0);
    cr_assert_eq(pickle_item(&pickle, pickle_get(&pickle, &pickle.root, "shape"), 1)->as.integer,
                 3);
    cr_assert_eq(pickle_count(&pickle, pickle_get(&pickle, &pickle.root, "tuple")), 3);
    cr_assert_null(pickle_get(&pickle, &pickle.root, "absent"));
    cr_assert_null(pickle_get(&pickle, list, "small"));
}

Test(pickle, a_call_of_os_system_is_named_and_not_made)
{
    cr_assert_eq(pickle_open(&pickle, TORCH "os_system.pt", &error), STATUS_INVALID);

    cr_assert(strstr(error.text, "names posix.system") != NULL, "%s", error.text);
    cr_assert(strstr(error.text, "os_system.pt: byte ") != NULL, "%s", error.text);
    cr_assert_eq(error.num_problems, 1);
    cr_assert_neq(access("/tmp/a_pickle_was_here", F_OK), 0);
}

Test(pickle, what_torch_writes_otherwise_is_refused_with_advice)
{
    static const char *const cases[][2] = {
        {TORCH "a_set.pt", "names __builtin__.set"},
        {TORCH "protocol_4.pt", "is not of protocol 2"},
        {TORCH "before_1_6.pt", "is no ZIP archive"},
        {TORCH "repeated.pt", "shows an element twice (save a .clone())"},
        {TORCH "trtllm/rank0.safetensors", "is no ZIP archive"},
        {TORCH, "is no regular file"},
        {TORCH "nothing.pt", "No such file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        error = (struct error){0};
        cr_assert_neq(pickle_open(&pickle, cases[i][0], &error), STATUS_OK, "%s", cases[i][0]);
        cr_assert_eq(error.num_problems, 1, "%s", error.text);
        cr_assert(strstr(error.text, cases[i][1]) != NULL, "%s", error.text);
        pickle_close(&pickle);
    }
}

Test(pickle, opcodes_that_could_run_or_hang_something_are_refused_with_their_place)
{
    REFUSE("\x80\x02(S'a'\ni__main__\nX\n.", "byte 3 of the pickle: opcode 0x53");
    REFUSE("\x80\x02}b.", "byte 3 of the pickle: opcode 0x62"); /* BUILD */
    REFUSE("\x80\x02\x8c\x01"
           "a.",
           "byte 2 of the pickle: opcode 0x8c");
    REFUSE("\x80\x02"
           "cos\nsystem\n.",
           "byte 2 of the pickle: names os.system");
    REFUSE("\x80\x02"
           "cos\nsys",
           "a name that does not end");
    REFUSE("\x80\x02X\xff\xff\xff\xff"
           "abc.",
           "byte 2 of the pickle: ends in the middle");
    REFUSE("\x80\x02Nr\xff\xff\xff\xff.", "byte 3 of the pickle: remembers nothing, or at");
    REFUSE("\x80\x02j\xff\xff\xff\xff.", "recalls what was never remembered");
    REFUSE("\x80\x02\x8a\xff", "a whole number of more than 64 bits");
    REFUSE("\x80\x02(.", "stops with more than one value, or none");
    REFUSE("\x80\x02t.", "a tuple of values that are not there");
    REFUSE("\x80\x02]K\x01K\x02u.", "values for a list or dict that is not there");
    REFUSE("\x80\x02]K\x01K\x02s.", "something that is no list or dict");
    REFUSE("\x80\x02NR.", "a call without a name");
    REFUSE("\x80\x02NNR.", "a call that torch.save does not write");
    REFUSE("\x80\x02NQ.", "no tensor's storage");
    REFUSE("\x80\x03N.", "is not of protocol 2");
    REFUSE("\x80", "ends in the middle");
    REFUSE("", "ends in the middle");
}

Test(pickle, a_list_that_holds_itself_is_only_a_list)
{
    static const char text[] = "\x80\x02]q\x00h\x00"
                               "ah\x00"
                               "a.";
    write_archive(text, sizeof text - 1, NULL, 0);

    cr_assert_eq(pickle_open(&pickle, path, &error), STATUS_OK, "%s", error.text);

    const struct pickle_value *value = &pickle.root;
    for (int depth = 0; depth < 1000; depth++) {
        cr_assert_eq(pickle_count(&pickle, value), 2);
        value = pickle_item(&pickle, value, 1);
    }
}

/* x: a tensor of 3 int32 from offset, of a storage of elements, in data/0. */
static size_t tensor_text(char *text, unsigned char offset, unsigned char elements)
{
    char *to = text;
    to += sprintf(to, "\x80\x02"
                      "ctorch._utils\n_rebuild_tensor_v2\n((");
    memcpy(to, "X\x07\0\0\0storage", 12);
    to += 12;
    to += sprintf(to, "ctorch\nIntStorage\n");
    memcpy(to,
           "X\x01\0\0\0"
           "0X\x03\0\0\0"
           "cpuK",
           15);
    to += 15;
    *to++ = (char)elements;
    memcpy(to, "tQK", 3);
    to += 3;
    *to++ = (char)offset;
    memcpy(to, "K\x03\x85K\x01\x85\x89", 7);
    to += 7;
    to += sprintf(to, "ccollections\nOrderedDict\n)RtR.");
    return (size_t)(to - text);
}

Test(pickle, a_tensor_must_lie_in_its_storage_and_the_storage_in_the_file)
{
    char text[512];
    static const int32_t stored[4] = {10, 11, 12, 13};
    size_t bytes = tensor_text(text, 1, 4);
    struct tensor tensor;
    void *memory;

    write_archive(text, bytes, stored, sizeof stored);
    cr_assert_eq(pickle_open(&pickle, path, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(pickle_tensor_load(&tensor, &memory, &pickle, &pickle.root, &error), STATUS_OK);
    cr_assert_eq(tensor_int(&tensor, 2), 13);
    free(memory);
    pickle_close(&pickle);

    write_archive(text, bytes, stored, sizeof stored - 1);
    cr_assert_eq(pickle_open(&pickle, path, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(pickle_tensor_load(&tensor, &memory, &pickle, &pickle.root, &error),
                 STATUS_INVALID);
    cr_assert(strstr(error.text, "has 15 bytes where its tensor needs 16") != NULL, "%s",
              error.text);
    pickle_close(&pickle);

    error = (struct error){0};
    write_archive(text, bytes, NULL, 0);
    cr_assert_eq(pickle_open(&pickle, path, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(pickle_tensor_load(&tensor, &memory, &pickle, &pickle.root, &error),
                 STATUS_INVALID);
    cr_assert(strstr(error.text, "holds no data/0") != NULL, "%s", error.text);
    pickle_close(&pickle);

    refuse(text, tensor_text(text, 2, 4), "reaches beyond its storage");
    refuse(text, tensor_text(text, 5, 4), "reaches beyond its storage");
}

/* Members are looked up, never unpacked: "../" leads nowhere, and "../../" is no archive of torch.
 */
Test(pickle, names_that_climb_are_only_names)
{
    char text[512];
    static const int32_t stored[4] = {10, 11, 12, 13};
    size_t bytes = tensor_text(text, 1, 4);
    struct tensor tensor;
    void *memory;

    write_archive_in("..", text, bytes, stored, sizeof stored);
    cr_assert_eq(pickle_open(&pickle, path, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(pickle_tensor_load(&tensor, &memory, &pickle, &pickle.root, &error), STATUS_OK);
    cr_assert_eq(tensor_int(&tensor, 0), 11);
    free(memory);
    pickle_close(&pickle);

    write_archive_in("../../tmp/a", text, bytes, stored, sizeof stored);
    cr_assert_eq(pickle_open(&pickle, path, &error), STATUS_INVALID);
    cr_assert(strstr(error.text, "holds no data.pkl") != NULL, "%s", error.text);
    cr_assert_neq(access("/tmp/data.pkl", F_OK), 0);
    cr_assert_neq(access("/tmp/a", F_OK), 0);
}

/* 256 MiB of zeroes deflate a thousandfold. */
Test(pickle, a_zip_bomb_is_refused_before_it_unpacks)
{
    char text[512];
    size_t bytes = tensor_text(text, 1, 4);
    size_t bomb_bytes = (size_t)256 << 20;
    char *zeroes = calloc(bomb_bytes, 1);
    struct tensor tensor;
    void *memory;
    cr_assert_not_null(zeroes);
    write_archive(text, bytes, zeroes, bomb_bytes);
    free(zeroes);

    cr_assert_eq(pickle_open(&pickle, path, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(pickle_tensor_load(&tensor, &memory, &pickle, &pickle.root, &error),
                 STATUS_INVALID);

    cr_assert(strstr(error.text, "a ZIP bomb?") != NULL, "%s", error.text);
    cr_assert_null(memory);
}

/* The last byte of a storage is flipped: the archive's checksum tells. */
Test(pickle, damaged_bytes_are_noticed)
{
    char text[512];
    size_t bytes = tensor_text(text, 1, 4);
    static const int32_t stored[4] = {10, 11, 12, 13};
    write_archive(text, bytes, stored, sizeof stored);
    FILE *file = fopen(path, "r+b");
    char archive[2048];
    size_t size = fread(archive, 1, sizeof archive, file);
    char *member = NULL;
    for (size_t i = 0; i + 8 < size && member == NULL; i++) {
        member = memcmp(archive + i, "x/data/0", 8) == 0 ? archive + i + 8 : NULL;
    }
    cr_assert_not_null(member);
    cr_assert_eq(fseek(file, member + 1 - archive, SEEK_SET), 0);
    fputc(member[1] ^ 0x55, file);
    cr_assert_eq(fclose(file), 0);
    struct tensor tensor;
    void *memory;

    cr_assert_eq(pickle_open(&pickle, path, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(pickle_tensor_load(&tensor, &memory, &pickle, &pickle.root, &error),
                 STATUS_INVALID);

    cr_assert(strstr(error.text, "member x/data/0") != NULL, "%s", error.text);
}
