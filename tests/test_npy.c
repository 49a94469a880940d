/*
 * test_npy.c -- .npy files: what NumPy writes is read, what is broken gets one clear message.
 */
#include "npy.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ITEM "'descr': '<i4', 'fortran_order': False, 'shape': (2, 3)"

static char file_path[64];

static void make_file(void)
{
    strcpy(file_path, "/tmp/moesim_npy_XXXXXX");
    int descriptor = mkstemp(file_path);
    cr_assert_geq(descriptor, 0);
    close(descriptor);
}

static void remove_file(void)
{
    unlink(file_path);
}

TestSuite(npy, .init = make_file, .fini = remove_file);

/* Writes magic, version, header text padded as NumPy pads it, and payload zero bytes. */
static void write_file(int version, const char *header, size_t payload_bytes)
{
    size_t preamble = version == 1 ? 10 : 12;
    size_t total = (preamble + strlen(header) + 1 + 63) / 64 * 64;
    size_t length = total - preamble;
    FILE *file = fopen(file_path, "wb");
    cr_assert_not_null(file);
    unsigned char start[12] = {0x93, 'N', 'U', 'M', 'P', 'Y', (unsigned char)version, 0};
    start[8] = (unsigned char)(length & 0xff);
    start[9] = (unsigned char)(length >> 8);
    fwrite(start, 1, preamble, file);
    fprintf(file, "%s%*s", header, (int)(length - strlen(header)), "\n");
    for (size_t i = 0; i < payload_bytes; i++) {
        fputc(0, file);
    }
    cr_assert_eq(fclose(file), 0);
}

static void write_bytes(const void *bytes, size_t count)
{
    FILE *file = fopen(file_path, "wb");
    cr_assert_not_null(file);
    cr_assert_eq(fwrite(bytes, 1, count, file), count);
    cr_assert_eq(fclose(file), 0);
}

/* One problem, STATUS_INVALID, and its line is "<path>: ... part ...". */
static void expect_refused(const char *part)
{
    struct npy npy;
    struct error *error = calloc(1, sizeof *error);
    cr_assert_not_null(error);

    enum status status = npy_open(&npy, file_path, error);

    cr_expect_eq(status, STATUS_INVALID, "for '%s'", part);
    cr_expect_eq(error->num_problems, 1, "for '%s': %s", part, error->text);
    cr_expect_eq(strncmp(error->text, file_path, strlen(file_path)), 0, "%s", error->text);
    cr_expect_not_null(strstr(error->text, part), "'%s' not in: %s", part, error->text);
    cr_expect_null(npy.mapping);
    npy_close(&npy);
    free(error);
}

Test(npy, reads_back_what_the_writer_wrote)
{
    const int64_t dim[3] = {2, 1, 3};
    const uint16_t written[6] = {0, 1, 2, 3, 4, 65535};
    struct npy_writer writer;
    struct npy npy;
    struct error error = {0};

    cr_assert_eq(npy_writer_open(&writer, file_path, NPY_UINT16, 3, dim, &error), STATUS_OK);
    cr_assert_eq(npy_writer_append(&writer, written, 4, &error), STATUS_OK);
    cr_assert_eq(npy_writer_append(&writer, written + 2, 8, &error), STATUS_OK);
    cr_assert_eq(npy_writer_close(&writer, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(npy_open(&npy, file_path, &error), STATUS_OK, "%s", error.text);

    cr_expect_eq(npy.type, NPY_UINT16);
    cr_expect_eq(npy.num_dims, 3);
    cr_expect_arr_eq(npy.dim, dim, sizeof dim);
    cr_expect_eq(npy.num_elements, 6);
    cr_expect_arr_eq(npy.data, written, sizeof written);
    cr_expect_eq(npy_int(&npy, 5), 65535);
    npy_close(&npy);
    npy_close(&npy);
}

Test(npy, rows_put_in_any_order_land_where_they_belong)
{
    const int64_t dim[2] = {2, 2};
    const int32_t rows[2][2] = {{1, 2}, {3, 4}};
    struct npy_writer writer;
    struct npy npy;
    struct error error = {0};

    cr_assert_eq(npy_writer_open(&writer, file_path, NPY_INT32, 2, dim, &error), STATUS_OK);
    cr_assert_eq(npy_writer_put(&writer, 8, rows[1], 8, &error), STATUS_OK);
    cr_assert_eq(npy_writer_put(&writer, 0, rows[0], 8, &error), STATUS_OK);
    cr_assert_eq(npy_writer_close(&writer, &error), STATUS_OK, "%s", error.text);
    cr_assert_eq(npy_open(&npy, file_path, &error), STATUS_OK, "%s", error.text);

    for (int64_t i = 0; i < 4; i++) {
        cr_expect_eq(npy_int(&npy, i), i + 1);
    }
    npy_close(&npy);
}

Test(npy, every_type_and_number_of_dimensions_survives_a_round_trip)
{
    const int64_t dim[NPY_DIMS_MAX] = {1, 2, 1, 3};
    const unsigned char payload[48] = {1};
    struct error error = {0};

    for (int32_t type = 0; type < NPY_TYPE_COUNT; type++) {
        for (int32_t num_dims = 0; num_dims <= NPY_DIMS_MAX; num_dims++) {
            struct npy_writer writer;
            struct npy npy;
            int64_t elements = num_dims < 2 ? 1 : num_dims < 4 ? 2 : 6;
            size_t bytes = (size_t)(elements * npy_type_bytes((enum npy_type)type));
            cr_assert_eq(
                npy_writer_open(&writer, file_path, (enum npy_type)type, num_dims, dim, &error),
                STATUS_OK);
            cr_assert_eq(npy_writer_append(&writer, payload, bytes, &error), STATUS_OK);
            cr_assert_eq(npy_writer_close(&writer, &error), STATUS_OK, "%s", error.text);
            cr_assert_eq(npy_open(&npy, file_path, &error), STATUS_OK, "%s", error.text);
            cr_expect_eq((int32_t)npy.type, type);
            cr_expect_eq(npy.num_dims, num_dims);
            cr_expect_eq(npy.num_elements, elements);
            npy_close(&npy);
        }
    }
}

Test(npy, keys_may_come_in_any_order_and_quotes_and_versions_1_to_3)
{
    struct npy npy;
    struct error error = {0};

    for (int version = 1; version <= 3; version++) {
        write_file(version, "{ \"shape\" : (2,3) ,'fortran_order':False, \"descr\":'<i4'}", 24);
        cr_assert_eq(npy_open(&npy, file_path, &error), STATUS_OK, "%s", error.text);
        cr_expect_eq(npy.type, NPY_INT32);
        cr_expect_eq(npy.dim[1], 3);
        npy_close(&npy);
    }
}

Test(npy, an_array_without_elements_is_fine)
{
    struct npy npy;
    struct error error = {0};
    write_file(1, "{'descr': '|u1', 'fortran_order': False, 'shape': (0, 4611686018427387904, 4)}",
               0);

    cr_assert_eq(npy_open(&npy, file_path, &error), STATUS_OK, "%s", error.text);

    cr_expect_eq(npy.num_elements, 0);
    npy_close(&npy);
}

Test(npy, a_header_that_lies_or_is_not_ours_gets_one_message)
{
    static const struct {
        const char *header;
        size_t payload_bytes;
        const char *part;
    } cases[] = {
        {"{" ITEM "}", 23, "the file is truncated"},
        {"{" ITEM "}", 0, "asks for 24 bytes but 0 follow"},
        {"{" ITEM "}", 25, "asks for 24 bytes but 25 follow"},
        {"{'descr': '<i4', 'fortran_order': True, 'shape': (2, 3)}", 24, "np.ascontiguousarray"},
        {"{'descr': '>i4', 'fortran_order': False, 'shape': (2, 3)}", 24, ".astype('<i4')"},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (2, 3)}", 24, "Python objects"},
        {"{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (2,)}", 8, "structured"},
        {"{'descr': '|b1', 'fortran_order': False, 'shape': (2,)}", 2, "'|b1' is no plain number"},
        {"{'descr': '<U7', 'fortran_order': False, 'shape': (2,)}", 56, "no plain number"},
        {"{'descr': '|i4', 'fortran_order': False, 'shape': (2, 3)}", 24, "no plain number"},
        {"{'descr': '', 'fortran_order': False, 'shape': (2, 3)}", 24, "no plain number"},
        {"{'descr': '<i4', 'fortran_order': False, 'shape': (-2, 3)}", 24, "negative dimension"},
        {"{'descr': '<i4', 'fortran_order': False, 'shape': (1, 1, 1, 1, 6)}", 24,
         "more than 4 dimensions"},
        {"{'descr': '<i4', 'fortran_order': False, 'shape': (4611686018427387904, 4)}", 24,
         "too large for any file"},
        {"{'descr': '<i4', 'fortran_order': False, 'shape': (18446744073709551618, 3)}", 24,
         "beyond 64 bits"},
        {"{'descr': '<i4', 'fortran_order': False, 'shape': (2 3)}", 24, "tuple of numbers"},
        {"{'descr': '<i4', 'fortran_order': False, 'shape': [2, 3]}", 24, "tuple of numbers"},
        {"{'descr': '<i4', 'fortran_order': False, 'shape': (,)}", 24, "tuple of numbers"},
        {"{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3", 24, "tuple of numbers"},
        {"{'descr': '<i4', 'fortran_order': 0, 'shape': (2, 3)}", 24, "True or False"},
        {"{'descr': 4, 'fortran_order': False, 'shape': (2, 3)}", 24, "an element type"},
        {"{'descr: 4, fortran_order: False, shape: (2, 3)}", 24, "quoted key"},
        {"{'descr': '<i4', 'shape': (2, 3)}", 24, "'fortran_order' is missing"},
        {"{'fortran_order': False, 'shape': (2, 3)}", 24, "'descr' is missing"},
        {"{'descr': '<i4', 'fortran_order': False}", 24, "'shape' is missing"},
        {"{'shape': (2, 3), " ITEM "}", 24, "'shape' stands twice"},
        {"{'colour': 1, " ITEM "}", 24, "'colour' is not known"},
        {"{" ITEM "} and more", 24, "its end after '}'"},
        {"{" ITEM "", 24, "',' or '}'"},
        {"{}", 24, "'descr' is missing"},
        {"", 24, "the opening '{'"},
        {"{'de\001\nscr': 1}", 24, "'de??scr' is not known"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_file(1, cases[i].header, cases[i].payload_bytes);
        expect_refused(cases[i].part);
    }
}

Test(npy, a_file_that_is_no_npy_file_gets_one_message)
{
    unsigned char bytes[80] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, 70, 0, '{'};

    write_bytes(bytes, 0);
    expect_refused("is empty");
    write_bytes(bytes, 5);
    expect_refused("wrong magic");
    write_bytes(bytes, 8);
    expect_refused("ends within its header");
    write_bytes(bytes, 79);
    expect_refused("header of 70 bytes goes beyond the end");
    write_bytes("PK\003\004 a zip archive", 18);
    expect_refused("wrong magic");
    bytes[6] = 4;
    write_bytes(bytes, 80);
    expect_refused("version 4.0");
    bytes[6] = 2;
    bytes[11] = 0x7f; /* a header of almost 2 GiB */
    write_bytes(bytes, 80);
    expect_refused("beyond the end");
}

Test(npy, a_payload_at_an_odd_offset_is_refused)
{
    static const char header[] = "{'descr': '<i4', 'fortran_order': False, 'shape': (1,)}";
    unsigned char bytes[128] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0};
    bytes[8] = sizeof header - 1;
    memcpy(bytes + 10, header, sizeof header - 1);

    write_bytes(bytes, 10 + sizeof header - 1 + 4);

    expect_refused("unaligned for int32");
}

Test(npy, every_truncation_of_a_good_file_is_refused)
{
    unsigned char bytes[256];
    write_file(1, "{" ITEM "}", 24);
    FILE *file = fopen(file_path, "rb");
    cr_assert_not_null(file);
    size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    cr_assert_eq(size, 128 + 24);

    for (size_t kept = 0; kept < size; kept++) {
        write_bytes(bytes, kept);
        expect_refused("");
    }
}

Test(npy, a_missing_file_and_a_directory_are_refused)
{
    struct npy npy;
    struct error error = {0};

    cr_expect_eq(npy_open(&npy, "/nowhere/x.npy", &error), STATUS_IO);
    cr_expect_str_eq(error.text, "/nowhere/x.npy: No such file or directory\n");
    cr_expect_eq(npy_open(&npy, "/tmp", &error), STATUS_INVALID);
    cr_expect_not_null(strstr(error.text, "/tmp: is no regular file\n"));
    cr_expect_eq(error.num_problems, 2);
}

Test(npy, a_full_disk_is_reported)
{
    struct npy_writer writer;
    struct error error = {0};
    const int64_t dim[1] = {4};
    if (access("/dev/full", W_OK) != 0) {
        cr_skip("no /dev/full here");
    }

    cr_expect_eq(npy_writer_open(&writer, "/dev/full", NPY_UINT8, 1, dim, &error), STATUS_IO);

    cr_expect_str_eq(error.text, "/dev/full: cannot be written: No space left on device\n");
}

Test(npy, bytes_that_were_never_written_are_reported)
{
    struct npy_writer writer;
    struct error error = {0};
    const int64_t dim[1] = {4};

    cr_assert_eq(npy_writer_open(&writer, file_path, NPY_UINT8, 1, dim, &error), STATUS_OK);
    cr_assert_eq(npy_writer_append(&writer, "abc", 3, &error), STATUS_OK);
    cr_expect_eq(npy_writer_close(&writer, &error), STATUS_INVALID);

    cr_expect_not_null(strstr(error.text, "3 of 4 bytes were written"));
}

Test(npy, a_shape_beyond_any_file_is_refused_by_the_writer)
{
    struct npy_writer writer;
    struct error error = {0};
    const int64_t dim[2] = {INT64_C(1) << 61, 4};

    cr_expect_eq(npy_writer_open(&writer, file_path, NPY_UINT8, 2, dim, &error), STATUS_INVALID);

    cr_expect_not_null(strstr(error.text, "too large"));
}

Test(npy_half, every_half_survives_the_way_through_float)
{
    for (uint32_t half = 0; half <= 0xffff; half++) {
        float value = npy_half_to_float((uint16_t)half);
        uint16_t back = npy_float_to_half(value);
        bool is_nan = (half & 0x7c00u) == 0x7c00u && (half & 0x3ffu) != 0;
        if (is_nan) {
            cr_assert(isnan(value));
            cr_assert_eq(back & 0x7e00u, 0x7e00u);
        } else {
            cr_assert_eq(back, half, "half %x became %x", half, back);
        }
    }
}

/* Binary16: 1 = 0x3c00, largest 65504 = 0x7bff, smallest normal 2^-14, smallest subnormal 2^-24. */
Test(npy_half, known_values_have_their_published_codes)
{
    cr_expect_eq(npy_half_to_float(0x3c00), 1.0f);
    cr_expect_eq(npy_half_to_float(0xc000), -2.0f);
    cr_expect_eq(npy_half_to_float(0x7bff), 65504.0f);
    cr_expect_eq(npy_half_to_float(0x0400), 0x1p-14f);
    cr_expect_eq(npy_half_to_float(0x0001), 0x1p-24f);
    cr_expect(isinf(npy_half_to_float(0x7c00)));
    cr_expect_eq(npy_float_to_half(0.1f), 0x2e66); /* 0.0999755859375 */
}

/* The middle of two neighbouring halves goes to the even code, its float neighbours to the nearer.
 */
Test(npy_half, rounds_to_nearest_and_ties_to_even)
{
    for (uint32_t half = 0; half < 0x7bff; half++) {
        float low = npy_half_to_float((uint16_t)half);
        float high = npy_half_to_float((uint16_t)(half + 1));
        float middle = low + (high - low) / 2.0f; /* exact: a float has 13 bits more */
        cr_assert_eq(npy_float_to_half(middle), half + (half & 1u));
        cr_assert_eq(npy_float_to_half(nextafterf(middle, 0.0f)), half);
        cr_assert_eq(npy_float_to_half(nextafterf(middle, 1e9f)), half + 1);
        cr_assert_eq(npy_float_to_half(-middle), 0x8000u + half + (half & 1u));
    }
    cr_expect_eq(npy_float_to_half(65519.0f), 0x7bff);
    cr_expect_eq(npy_float_to_half(65520.0f), 0x7c00); /* the tie goes to infinity, which is even */
    cr_expect_eq(npy_float_to_half(1e30f), 0x7c00);
    cr_expect_eq(npy_float_to_half(0x1p-25f), 0);
    cr_expect_eq(npy_float_to_half(-0x1p-30f), 0x8000);
}

Test(npy_half, many_at_once_are_those_one_by_one)
{
    static uint16_t half[65536 + 3];
    static float value[65536 + 3];
    for (int32_t i = 0; i < 65536 + 3; i++) {
        half[i] = (uint16_t)i;
    }

    npy_halves_to_floats(value, half, 65536 + 3);

    for (int32_t i = 0; i < 65536 + 3; i++) {
        float expected = npy_half_to_float(half[i]);
        cr_assert(memcmp(&value[i], &expected, sizeof expected) == 0, "half %d", i);
    }
}
