/*
 * test_alltoall.c -- the tables of exchanges: what is read, refused, predicted and fitted.
 *
 * Sizes are small enough to compute by hand; the constants are made up.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "alltoall_rows.h"
#include "calibrate_network.h"
#include "csv_table.h"
#include "text_file.h"

#define HEADER                                                                                     \
    "group,library,version,mode,op,gpu,nodes,gpus_per_node,ep,inter_link,tokens_per_rank,hidden,"  \
    "topk,experts,dtype,sms,latency_us,distribution,date,notes\n"

static struct error error;
static const char *path;

static void make_path(void)
{
    path = text_file(".csv", "");
    error = (struct error){0};
}

static void remove_path(void)
{
    (void)unlink(path);
}

TestSuite(alltoall, .init = make_path, .fini = remove_path);
TestSuite(csv_table, .init = make_path, .fini = remove_path);

static void write_text(const char *text)
{
    (void)text_file(".csv", text);
}

static enum status read_text(struct alltoall_rows *rows, const char *text)
{
    write_text(text);
    return alltoall_rows_read(rows, path, &error);
}

static void expect_error(const char *part)
{
    cr_expect_not_null(strstr(error.text, part), "'%s' is not in: %s", part, error.text);
}

Test(csv_table, cells_may_hold_commas_quotes_and_lines)
{
    static const char *const columns[] = {"b", "a"};
    struct arena arena = {0};
    struct csv_table table;
    write_text("a,b,c\r\n1,\"x, \"\"y\"\"\",3\r\n\n4,\"two\nlines\",\n");

    cr_assert_eq(csv_table_read(&table, path, columns, 2, &arena, &error), STATUS_OK, "%s",
                 error.text);

    cr_assert_eq(table.num_rows, 2);
    cr_expect_str_eq(csv_cell(&table, 0, 0), "x, \"y\"");
    cr_expect_str_eq(csv_cell(&table, 0, 1), "1");
    cr_expect_str_eq(csv_cell(&table, 1, 0), "two\nlines");
    cr_expect_eq(table.line[1], 4);
    arena_free(&arena);
}

Test(csv_table, every_problem_is_told_with_its_line)
{
    static const char *const columns[] = {"a", "x", "y"};
    struct arena arena = {0};
    struct csv_table table;
    write_text("a,b\n1,2\n");
    cr_expect_eq(csv_table_read(&table, path, columns, 3, &arena, &error), STATUS_INVALID);
    expect_error(":1: columns are missing: x, y");
    write_text("a,b\n1\n2,3\n4,5,6\n");
    cr_expect_eq(csv_table_read(&table, path, columns, 1, &arena, &error), STATUS_INVALID);
    expect_error(":2: 1 cells; the header has 2");
    expect_error(":4: 3 cells; the header has 2");
    write_text("a,b\n1,2\n\"3,4\n");
    cr_expect_eq(csv_table_read(&table, path, columns, 1, &arena, &error), STATUS_INVALID);
    expect_error(":3: a quote does not end");
    write_text("a,b\n\"1\"2,3\n");
    cr_expect_eq(csv_table_read(&table, path, columns, 1, &arena, &error), STATUS_INVALID);
    expect_error(":2: text stands behind a quoted cell");
    write_text("a,b\n");
    cr_expect_eq(csv_table_read(&table, path, columns, 1, &arena, &error), STATUS_INVALID);
    expect_error("there are no rows");
    arena_free(&arena);
}

Test(alltoall, a_row_whose_cells_are_no_numbers_is_left_out_by_itself)
{
    struct alltoall_rows rows = {0};
    static const enum alltoall_skip expected[] = {ALLTOALL_SKIP_NUMBER, ALLTOALL_SKIP_NUMBER,
                                                  ALLTOALL_SKIP_NUMBER, ALLTOALL_SKIP_RANKS,
                                                  ALLTOALL_SKIP_NUMBER, ALLTOALL_USED};
    cr_assert_eq(read_text(&rows, HEADER
                           "g,DeepEP,V1,normal,dispatch,H100,2,8,x,CX7,1,7168,8,256,fp8,,9,u,,\n"
                           "g,DeepEP,V1,normal,dispatch,H100,2,8,16,CX7,1.5,7168,8,256,fp8,,9,u,,\n"
                           "g,DeepEP,V1,normal,dispatch,H100,2,8,16,CX7,1,7168,8,256,fp8,,-1,u,,\n"
                           "g,DeepEP,V1,normal,dispatch,H100,,8,16,CX7,1,7168,8,256,fp8,,9,u,,\n"
                           "g,DeepEP,V1,normal,dispatch,H100,2,8,512,CX7,1,7168,8,512,fp8,,9,u,,\n"
                           "g,DeepEP,V1,normal,dispatch,H100,2,8,16,CX7,1,7168,8,256,fp8,,9,u,,\n"),
                 STATUS_OK, "%s", error.text);
    for (int64_t i = 0; i < rows.num_rows; i++) {
        cr_expect_eq(rows.row[i].skip, expected[i], "line %lld: %s", (long long)rows.row[i].line,
                     alltoall_skip_reason(rows.row[i].skip));
        cr_expect_eq(rows.row[i].odd != NULL, expected[i] == ALLTOALL_SKIP_NUMBER);
    }
    cr_expect_eq(rows.odd.count, 4);
    cr_expect_not_null(strstr(rows.odd.first, ":2: ep is 'x', not a number from 1 to 256"), "%s",
                       rows.odd.first);
    alltoall_rows_free(&rows);
    alltoall_rows_free(&rows);
    cr_expect_eq(alltoall_rows_read(&rows, "/nowhere.csv", &error), STATUS_IO);
}

/* What DeepEP's low-latency kernels did inside a node changed in June 2025. */
Test(alltoall, vintages_are_told_by_version_and_date)
{
    struct alltoall_rows rows = {0};
    static const char *const expected[] = {"deepep_low_latency", "deepep_low_latency_rdma",
                                           "deepep_low_latency_rdma", "deepep_low_latency"};
    cr_assert_eq(
        read_text(
            &rows, HEADER
            "g,DeepEP,V1,low-latency,combine,H800,2,8,16,CX7,1,7168,8,256,bf16,,9,u,2025-06,\n"
            "g,DeepEP,V1,low-latency,combine,H800,2,8,16,CX7,1,7168,8,256,bf16,,9,u,2025-02-28,\n"
            "g,DeepEP,V1 (pure RDMA),low-latency,combine,H800,2,8,16,CX7,1,7168,8,256,bf16,,9,u,,\n"
            "g,DeepEP,V1,low-latency,combine,H800,2,8,16,CX7,1,7168,8,256,bf16,,9,u,2025,\n"),
        STATUS_OK, "%s", error.text);
    for (int64_t i = 0; i < rows.num_rows; i++) {
        cr_expect_str_eq(rows.row[i].collective->name, expected[i], "line %lld",
                         (long long)rows.row[i].line);
        cr_expect_str_eq(rows.row[i].cluster, "h800-cx7");
    }
    alltoall_rows_free(&rows);
}

Test(alltoall, what_cannot_be_predicted_says_why)
{
    struct alltoall_rows rows = {0};
    static const enum alltoall_skip expected[] = {
        ALLTOALL_SKIP_LATENCY, ALLTOALL_SKIP_LIBRARY, ALLTOALL_SKIP_GPU,   ALLTOALL_SKIP_NETWORK,
        ALLTOALL_SKIP_OP,      ALLTOALL_SKIP_SHAPE,   ALLTOALL_SKIP_DTYPE, ALLTOALL_USED};
    cr_assert_eq(
        read_text(&rows,
                  HEADER "g,DeepEP,V1,normal,dispatch,H100,2,8,16,,1,7168,8,256,fp8,,,u,,\n"
                         "g,DeepEP,V2 (GIN),normal,dispatch,H100,2,8,16,,1,7168,8,256,fp8,,9,u,,\n"
                         "g,DeepEP,V1,normal,dispatch,unstated,2,8,16,,1,7168,8,256,fp8,,9,u,,\n"
                         "g,DeepEP,V1,normal,dispatch,H100,2,8,16,NIC shared by 2,1,7168,8,256,"
                         "fp8,,9,u,,\n"
                         "g,DeepEP,V1,normal,barrier,H100,2,8,16,,1,7168,8,256,fp8,,9,u,,\n"
                         "g,DeepEP,V1,normal,dispatch,H100,2,8,16,,1,7168,8,100,fp8,,9,u,,\n"
                         "g,DeepEP,V1,normal,dispatch,H100,2,8,16,,1,7168,8,256,fp6,,9,u,,\n"
                         "g,NCCL,2,nccl-tests,alltoall,H100,1,8,8,,,,,,half,,9,u,,"
                         "message bytes=4096\n"),
        STATUS_OK, "%s", error.text);
    for (int64_t i = 0; i < rows.num_rows; i++) {
        cr_expect_eq(rows.row[i].skip, expected[i], "line %lld: %s", (long long)rows.row[i].line,
                     alltoall_skip_reason(rows.row[i].skip));
    }
    alltoall_rows_free(&rows);
}

/* All that an exchange of plain buffers costs, by hand. */
Test(alltoall, a_buffer_takes_startup_and_its_part_of_the_ports)
{
    struct alltoall_rows rows = {0};
    struct fitted_collective fitted = {.has = {true, true},
                                       .exchange = {{.startup_ns = 5000.0,
                                                     .fill_ns = 3000.0,
                                                     .fill_half_ns = 7000.0,
                                                     .scale_up_share = 0.5,
                                                     .scale_out_share = 1.0,
                                                     .copy_bytes_per_s = 1e18,
                                                     .blend = 50.0}}};
    double ns = 0.0;
    cr_assert_eq(read_text(&rows, HEADER "g,NCCL,2,nccl-tests,alltoall,H100,1,8,4,,,,,,half,,9,u,,"
                                         "message bytes=4000000\n"),
                 STATUS_OK, "%s", error.text);
    struct gpu_spec *gpu = &rows.gpu[rows.row[0].gpu];
    gpu->port[TIER_SCALE_UP] = (struct port_spec){100e9, 0.8, 1000.0};

    cr_assert_eq(alltoall_predict(&ns, &rows.row[0], gpu, &fitted, net_find("alpha_beta")),
                 STATUS_OK);

    /* 3 of 4 parts of 4 MB at half of 100 GB/s: 60 us; the fill 3 x 60 / 67 us; latency 1 us */
    cr_expect_float_eq(ns, 60000.0 + 5000.0 + 3000.0 * 60.0 / 67.0 + 1000.0, 2.0, "%.1f", ns);
    alltoall_rows_free(&rows);
}

/* A choice is sent once: with 16 ranks, 7 of 16 to the node's other ranks, 8 by NIC; all by NIC in
 * the first vintage. */
Test(alltoall, plans_hold_what_uniform_routing_sends_where)
{
    struct alltoall_rows rows = {0};
    cr_assert_eq(
        read_text(&rows, HEADER
                  "g,DeepEP,V1,low-latency,combine,H100,2,8,16,,64,1000,8,256,bf16,,9,"
                  "uniform-random,,\n"
                  "g,DeepEP,V1 (pure RDMA),low-latency,combine,H100,2,8,16,,64,1000,8,256,bf16,,9,"
                  "uniform-random,,\n"),
        STATUS_OK, "%s", error.text);
    const struct exchange_load *now = &rows.row[0].leg[0].load;
    const struct exchange_load *first = &rows.row[1].leg[0].load;
    double all = 64.0 * 8.0 * 2000.0; /* bytes that a rank's tokens choose */
    cr_expect_float_eq(now->port_bytes[TIER_SCALE_UP], all * 7.0 / 16.0, 1e-6);
    cr_expect_float_eq(now->port_bytes[TIER_SCALE_OUT], all * 8.0 / 16.0, 1e-6);
    cr_expect_float_eq(now->num_copies * now->token_bytes, all, 1e-6);
    cr_expect_eq(now->num_ranks, 16);
    cr_expect_float_eq(first->port_bytes[TIER_SCALE_UP], 0.0, 1e-6);
    cr_expect_float_eq(first->port_bytes[TIER_SCALE_OUT], all * 15.0 / 16.0, 1e-6);
    cr_expect_eq(now->num_nodes, 2);
    cr_expect_eq(now->num_slots, 256);
    alltoall_rows_free(&rows);
}

/* Two nodes of four GPUs are one NVLink domain of a rack, unless the table says otherwise; those of
 * an H100 are not. */
Test(alltoall, a_rack_is_one_domain)
{
    struct alltoall_rows rows = {0};
    cr_assert_eq(
        read_text(&rows, HEADER
                  "g,TRT-LLM NVLinkOneSided,,x,dispatch,GB200,2,4,8,,64,1000,8,256,bf16,,9,u,,\n"
                  "h,DeepEP,V1,normal,dispatch,GB200,2,4,8,CX7,64,1000,8,256,fp8,,9,u,,\n"
                  "i,DeepEP,V1,normal,dispatch,H100,2,4,8,,64,1000,8,256,fp8,,9,u,,\n"),
        STATUS_OK, "%s", error.text);
    for (int64_t i = 0; i < rows.num_rows; i++) {
        double out_bytes = rows.row[i].leg[0].load.port_bytes[TIER_SCALE_OUT];
        cr_expect(i == 0 ? out_bytes <= 0.0 : out_bytes > 0.0, "row %d", (int)i);
    }
    alltoall_rows_free(&rows);
}

/* Over eight nodes DeepEP's measurement meets four of them, so 7/8 of 4 that are not its own; over
 * four nodes, those that 8 of 256 experts without putting back meet. */
Test(alltoall, tokens_of_deepep_meet_four_nodes_at_most)
{
    struct alltoall_rows rows = {0};
    cr_assert_eq(read_text(&rows, HEADER
                           "g,DeepEP,V1,normal,dispatch,H100,8,8,64,,4096,1000,8,256,bf16,,9,"
                           "uniform-random,,\n"
                           "g,DeepEP,V1,normal,dispatch,H100,4,8,32,,4096,1000,8,256,bf16,,9,"
                           "uniform-random,,\n"),
                 STATUS_OK, "%s", error.text);
    double missed[2] = {1.0, 1.0}; /* of 128 and of 256 experts, a quarter of them */
    for (int i = 0; i < 8; i++) {
        missed[0] *= (96.0 - i) / (128.0 - i);
        missed[1] *= (192.0 - i) / (256.0 - i);
    }
    const double nodes[2] = {4.0 * (1.0 - missed[0]) * 7.0 / 8.0, 3.0 * (1.0 - missed[1])};
    for (int i = 0; i < 2; i++) {
        double out_bytes = rows.row[i].leg[0].load.port_bytes[TIER_SCALE_OUT];
        cr_expect_float_eq(out_bytes / (4096.0 * 2000.0), nodes[i], 0.01, "%g nodes, not %g",
                           out_bytes / (4096.0 * 2000.0), nodes[i]);
    }
    alltoall_rows_free(&rows);
}

/* Writes rows of an exchange whose times follow the form, as the table would have them. */
static void write_made_up(const struct exchange_constants *constants)
{
    struct alltoall_rows rows = {0};
    char text[16384] = HEADER;
    for (int ep = 8; ep <= 32; ep *= 2) {
        for (int tokens = 1; tokens <= 4096; tokens *= 4) {
            size_t used = strlen(text);
            (void)snprintf(text + used, sizeof text - used,
                           "g,DeepEP,V1,low-latency,dispatch,H100,%d,8,%d,,%d,7168,8,256,fp8,,1,"
                           "uniform-random,,\n",
                           ep / 8, ep, tokens);
        }
    }
    cr_assert_eq(read_text(&rows, text), STATUS_OK, "%s", error.text);
    struct fitted_collective fitted = {.has = {true}, .exchange = {*constants}};
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    (void)fputs(HEADER, file);
    for (int64_t i = 0; i < rows.num_rows; i++) {
        const struct alltoall_row *row = &rows.row[i];
        double ns = 0.0;
        cr_assert_eq(
            alltoall_predict(&ns, row, &rows.gpu[row->gpu], &fitted, net_find("alpha_beta")),
            STATUS_OK);
        fprintf(file,
                "g,DeepEP,V1,low-latency,dispatch,H100,%d,8,%d,,%d,7168,8,256,fp8,,%.6f,"
                "uniform-random,,\n",
                (int)row->nodes, (int)row->ep, (int)row->tokens, ns * 1e-3);
    }
    cr_assert_eq(fclose(file), 0);
    alltoall_rows_free(&rows);
}

Test(alltoall, a_fit_finds_the_constants_that_made_its_rows)
{
    const struct exchange_constants constants = {.startup_ns = 11000.0,
                                                 .far_startup_ns = 11000.0,
                                                 .expert_ns = 3.0,
                                                 .far_expert_ns = 40.0,
                                                 .fill_ns = 5000.0,
                                                 .fill_half_ns = 30000.0,
                                                 .token_ns = 4.0,
                                                 .scale_up_share = 0.7,
                                                 .scale_out_share = 0.95,
                                                 .copy_bytes_per_s = 400e9,
                                                 .blend = 4.0};
    const struct network_options options = {.holdout = NETWORK_BY_EP, .table = "made_up.csv"};
    struct alltoall_rows rows = {0};
    struct network_calibration *calibration = calloc(1, sizeof *calibration);
    cr_assert_not_null(calibration);
    write_made_up(&constants);
    cr_assert_eq(alltoall_rows_read(&rows, path, &error), STATUS_OK, "%s", error.text);

    cr_assert_eq(calibrate_network(calibration, &rows, &options, &error), STATUS_OK, "%s",
                 error.text);

    cr_assert_eq(calibration->num_sets, 1);
    const struct exchange_constants *found = &calibration->set[0].constants;
    cr_expect_eq(calibration->set[0].num_folds, 3);
    cr_expect_lt(calibration->held_out.median, 0.05, "%.3f", calibration->held_out.median);
    cr_expect_lt(calibration->held_out_largest.p90, 0.10);
    cr_expect_float_eq(found->scale_out_share, 0.95, 0.02, "%.3f", found->scale_out_share);
    cr_expect_float_eq(found->startup_ns + 256.0 * found->expert_ns, 11768.0, 500.0);
    cr_expect_float_eq(found->far_expert_ns, 40.0, 4.0, "%.1f", found->far_expert_ns);
    network_calibration_free(calibration);
    free(calibration);
    alltoall_rows_free(&rows);
}

Test(alltoall, a_table_without_enough_rows_is_not_fitted)
{
    const struct network_options options = {.table = "few.csv"};
    struct alltoall_rows rows = {0};
    struct network_calibration *calibration = calloc(1, sizeof *calibration);
    cr_assert_not_null(calibration);
    cr_assert_eq(read_text(&rows, HEADER "g,DeepEP,V1,normal,dispatch,H100,2,8,16,,1,7168,8,256,"
                                         "fp8,,9,u,,\n"),
                 STATUS_OK);
    cr_expect_eq(calibrate_network(calibration, &rows, &options, &error), STATUS_INVALID);
    expect_error("few.csv: no cluster, collective and format has 12 rows");
    network_calibration_free(calibration);
    free(calibration);
    alltoall_rows_free(&rows);
}

/* Two nodes: the far start-up, one further node, half of the slots far, and half the SMs. */
Test(exchange, cost_is_what_the_formula_says)
{
    const struct exchange_constants constants = {.startup_ns = 1.0,
                                                 .far_startup_ns = 1000.0,
                                                 .node_ns = 200.0,
                                                 .doubling_ns = 20000.0,
                                                 .expert_ns = 2.0,
                                                 .far_expert_ns = 10.0,
                                                 .fill_ns = 0.0,
                                                 .fill_half_ns = 1.0,
                                                 .token_ns = 3.0,
                                                 .token_byte_ns = 50.0,
                                                 .scale_up_share = 1.0,
                                                 .scale_out_share = 0.5,
                                                 .copy_bytes_per_s = 10e9,
                                                 .own_copies = 2.0,
                                                 .copy_extra_bytes = 100.0,
                                                 .slot_blocks = 1.0,
                                                 .blend = 1.0};
    const struct exchange_load load = {.port_bytes = {8000.0, 1000.0},
                                       .num_copies = 9.0,
                                       .token_bytes = 400.0,
                                       .tokens = 7.0,
                                       .num_ranks = 16,
                                       .num_nodes = 2,
                                       .num_slots = 16};
    struct gpu_spec gpu = {.num_sms = 10};
    gpu.port[TIER_SCALE_UP] = (struct port_spec){8e9, 0.5, 0.0};
    gpu.port[TIER_SCALE_OUT] = (struct port_spec){1e9, 1.0, 0.0};

    struct exchange_cost cost = exchange_cost(&constants, &load, &gpu, 10, 20);

    /* Copies: 9 of 500 bytes and 7 tokens of 800, by 8 of 10 SMs (a block for 2 slots), at half of
     * 10 GB/s. u = 1000 + 2000 + 2525 ns; ports alone 2000 ns. A node has 8 ranks: 3 doublings. */
    double copied_ns = (9.0 * 500.0 + 7.0 * 800.0) / (0.8 * 5.0);
    cr_expect_float_eq(cost.startup_ns,
                       1000.0 + 200.0 + 3.0 * 20000.0 + 32.0 + 80.0 + 21.0 + 400.0 * 50.0, 1e-2);
    cr_expect_float_eq(cost.overhead[TIER_SCALE_UP], (3000.0 + copied_ns) / 2000.0 - 1.0, 1e-6);
    cr_expect_float_eq(cost.overhead[TIER_SCALE_OUT], cost.overhead[TIER_SCALE_UP], 1e-12);
}
