/*
 * test_tile_schedule.c -- every tile is computed once, and its elements lie where the PTX ISA says.
 *
 * The kernels run these very functions; what they make of them, the emulated kernels show
 * (tests/emulator). Here the arithmetic is counted through.
 */
#include "tile_layout.h"

#include <criterion/criterion.h>
#include <string.h>

#define TILES_MAX 40

Test(tile_schedule, bands_visit_every_tile_of_a_group_once)
{
    for (int32_t token_tiles = 1; token_tiles <= TILES_MAX; token_tiles++) {
        for (int32_t weight_tiles = 1; weight_tiles <= TILES_MAX; weight_tiles++) {
            uint8_t seen[TILES_MAX][TILES_MAX] = {{0}};
            for (int32_t i = 0; i < token_tiles * weight_tiles; i++) {
                struct tile tile =
                    tile_in_bands(i, token_tiles, weight_tiles, band_tiles(weight_tiles));
                cr_assert(tile.token >= 0 && tile.token < token_tiles);
                cr_assert(tile.weight >= 0 && tile.weight < weight_tiles);
                cr_assert_eq(seen[tile.token][tile.weight]++, 0);
            }
        }
    }
}

/* A tile of the last token tile may be one beyond the last weight tile: it is stored nowhere. */
Test(tile_schedule, pairs_visit_every_tile_of_a_group_once)
{
    for (int32_t token_tiles = 1; token_tiles <= TILES_MAX; token_tiles++) {
        for (int32_t weight_tiles = 1; weight_tiles < TILES_MAX; weight_tiles++) {
            uint8_t seen[TILES_MAX][TILES_MAX + 1] = {{0}};
            int32_t visits = 0;
            for (int32_t i = 0; i < pair_count(token_tiles, weight_tiles); i++) {
                struct pair pair = pair_in_group(i, token_tiles, weight_tiles);
                for (int32_t rank = 0; rank < 2; rank++) {
                    struct tile tile = tile_of_pair(pair, rank);
                    cr_assert(tile.token >= 0 && tile.token < token_tiles);
                    cr_assert(tile.weight >= 0 && tile.weight <= weight_tiles);
                    cr_assert_eq(seen[tile.token][tile.weight]++, 0);
                    visits += tile.weight < weight_tiles;
                }
            }
            cr_assert_eq(visits, token_tiles * weight_tiles);
        }
    }
}

/* Neighbouring numbers share what they load: a wave of 132 blocks reads few different tiles. */
Test(tile_schedule, a_wave_of_blocks_reads_about_a_square)
{
    uint8_t tokens[TILES_MAX] = {0};
    uint8_t weights[TILES_MAX] = {0};
    int32_t distinct = 0;
    for (int32_t i = 0; i < 132; i++) {
        struct tile tile = tile_in_bands(i, 32, 32, band_tiles(32));
        distinct += tokens[tile.token]++ == 0;
        distinct += weights[tile.weight]++ == 0;
    }
    cr_expect_eq(distinct, 8 + 17); /* 8 x 16.5; a row after a row would read 32 + 5 */
}

#define STREAM_TILES_MAX 64
#define STREAM_STEPS     20
#define STREAM_BLOCKS    24

/* What the blocks do, counted: [tile][step], and which slots hold a part. */
struct stream_count {
    uint8_t done[STREAM_TILES_MAX][STREAM_STEPS];
    uint8_t slot[2 * STREAM_BLOCKS];
    int32_t parts[STREAM_TILES_MAX];
    int64_t least; /* steps of a share */
    int64_t most;
};

static void count_block(struct stream_count *count, struct stream_plan plan, int32_t num_tiles,
                        int32_t block)
{
    struct stream_item item;
    int32_t last_tile = -1;
    int64_t shared_steps = 0;
    for (int32_t index = 0; stream_item(plan, block, index, &item); index++) {
        cr_assert(item.tile > last_tile, "a block's tiles only go up");
        cr_assert(item.tile < num_tiles && item.num_steps > 0);
        cr_assert(item.first_step >= 0 && item.first_step + item.num_steps <= plan.steps);
        last_tile = item.tile;
        for (int32_t step = item.first_step; step < item.first_step + item.num_steps; step++) {
            cr_assert_eq(count->done[item.tile][step]++, 0);
        }
        shared_steps += item.tile < plan.share_tiles ? item.num_steps : 0;
        if (item.num_steps < plan.steps) {
            struct stream_parts parts = stream_parts(plan, item.tile);
            int32_t part = block - parts.first;
            cr_assert(part >= 0 && part < parts.count);
            cr_assert_eq(part == 0, item.first_step == 0);
            cr_assert_eq(count->slot[stream_slot(block, part)]++, 0);
            count->parts[item.tile]++;
        }
    }
    if (block < plan.num_shares) {
        count->least = shared_steps < count->least ? shared_steps : count->least;
        count->most = shared_steps > count->most ? shared_steps : count->most;
    }
}

static void check_stream(int32_t num_tiles, int32_t steps, int32_t num_blocks)
{
    struct stream_count count = {.least = INT64_MAX};
    struct stream_plan plan = stream_plan(num_tiles, steps, num_blocks);
    for (int32_t block = 0; block < num_blocks; block++) {
        count_block(&count, plan, num_tiles, block);
    }
    uint8_t first_of[STREAM_BLOCKS] = {0};
    for (int32_t tile = 0; tile < num_tiles; tile++) {
        for (int32_t step = 0; step < steps; step++) {
            cr_assert_eq(count.done[tile][step], 1);
        }
        if (count.parts[tile] > 0) {
            struct stream_parts parts = stream_parts(plan, tile);
            cr_assert_eq(parts.count, count.parts[tile]);
            cr_assert_eq(first_of[parts.first]++, 0, "arrivals are counted at the first block");
        }
    }
    cr_assert(num_tiles == 0 || count.most - count.least <= 1, "shares are equal");
}

Test(tile_schedule, streams_do_every_step_once_and_arrive_at_counters_of_their_own)
{
    static const int32_t blocks[] = {1, 2, 3, 7, STREAM_BLOCKS};
    for (size_t b = 0; b < sizeof blocks / sizeof blocks[0]; b++) {
        for (int32_t num_tiles = 0; num_tiles <= STREAM_TILES_MAX; num_tiles++) {
            for (int32_t steps = 1; steps <= STREAM_STEPS; steps++) {
                check_stream(num_tiles, steps, blocks[b]);
            }
        }
    }
}

Test(tile_schedule, a_share_is_long_unless_K_is_short)
{
    struct stream_plan plan = stream_plan(8, 32, 132);

    cr_expect_eq(plan.num_shares, 8 * 32 / STREAM_STEPS_MIN);
    cr_expect_eq(stream_plan(8, 2, 132).num_shares, 8);
    cr_expect_eq(stream_plan(132, 32, 132).whole, 1);
    cr_expect_eq(stream_plan(133, 32, 132).whole, 0); /* 133 tiles are shared by 132 */
}

Test(tile_layout, a_stage_is_a_permutation_that_keeps_chunks_and_spreads_banks)
{
    uint8_t seen[TILE_TOKENS * ROW_BYTES] = {0};
    for (uint32_t row = 0; row < TILE_TOKENS; row++) {
        for (uint32_t byte = 0; byte < ROW_BYTES; byte++) {
            uint32_t at = swizzled(row, byte);
            cr_assert_eq(seen[at]++, 0);
            cr_assert_eq(at % 16, byte % 16);
            cr_assert_eq(at, (row * 128 + byte) ^ ((row * 128 + byte) >> 3 & 0x70));
        }
    }
}

/* PTX ISA, wgmma, matrix D: row groupID + 16 warp (+ 8 for elements 2, 3 of four), column
 * 8 (i / 4) + 2 threadID_in_group + i % 2. */
Test(tile_layout, a_fragment_is_the_ISAs_and_every_element_has_one_thread)
{
    uint8_t seen[WGMMA_ROWS][256] = {{0}};
    for (int32_t thread = 0; thread < 128; thread++) {
        for (int32_t i = 0; i < 128; i++) {
            int32_t row = fragment_row(thread, i);
            int32_t column = fragment_column(thread, i);
            int32_t group = (thread % 32) >> 2;
            cr_assert_eq(row, 16 * (thread / 32) + group + ((i & 2) != 0 ? 8 : 0));
            cr_assert_eq(column, 8 * (i / 4) + 2 * (thread & 3) + (i & 1));
            cr_assert_eq(seen[row][column]++, 0);
        }
    }
}

/* Gate and up of a column meet in one thread: elements i and i + 4 (weights on N), granules of
 * eight columns, and elements i and i + 2 (weights on M), granules of eight rows. */
Test(tile_layout, gate_and_up_of_a_column_meet_in_one_thread)
{
    for (int32_t thread = 0; thread < 128; thread++) {
        for (int32_t i = 0; i < 128; i += 8) {
            for (int32_t v = 0; v < 4; v++) {
                cr_assert_eq(fragment_column(thread, i + v) + 8,
                             fragment_column(thread, i + v + 4));
                cr_assert_eq(fragment_row(thread, i + v), fragment_row(thread, i + v + 4));
                cr_assert_eq(fragment_column(thread, i + v) / 8 % 2, 0);
            }
        }
        cr_assert_eq(fragment_row(thread, 0) + 8, fragment_row(thread, 2));
        cr_assert_eq(fragment_row(thread, 0) / 8 % 2, 0);
    }
}

/* stmatrix.x4: matrix m takes its rows from lanes 8 m .. 8 m + 7; register m of lane l holds row
 * l / 4, columns 2 (l % 4) and the next. */
Test(tile_layout, matrices_are_staged_where_the_copy_engine_looks_for_them)
{
    uint8_t seen[STAGING_BYTES] = {0};
    for (int32_t warp = 0; warp < 4; warp++) {
        for (int32_t q = 0; q < 8; q++) {
            for (int32_t i = 0; i < 4 * 64; i++) {
                int32_t matrix = i / 64;
                int32_t lane = i / 2 % 32;
                int32_t element = 8 * q + 2 * matrix + i % 2; /* of the thread's fragment */
                uint32_t at = staging_matrix(warp, 8 * matrix + lane / 4, q) +
                              (uint32_t)(lane % 4 * 4 + i % 2 * 2);
                int32_t row = fragment_row(32 * warp + lane, element);
                int32_t column = fragment_column(32 * warp + lane, element);
                cr_assert_eq(at, (uint32_t)(column / 64) * 64 * 128 +
                                     swizzled((uint32_t)row, (uint32_t)(column % 64) * 2));
                cr_assert_eq(at, staging_chunk(row, column / 8) + (uint32_t)(column % 8) * 2);
                cr_assert_eq(seen[at]++, 0);
            }
        }
    }
}

/* Bits of the descriptor: address / 16 in 0-13, stride / 16 in 32-45, 128-byte swizzle in 62-63. */
Test(tile_layout, a_descriptor_walks_K_by_32_bytes_and_rows_by_atoms)
{
    for (uint32_t address = 1024; address < 227 * 1024; address += 1024) {
        uint64_t descriptor = operand_descriptor(address);
        cr_assert_eq((descriptor & 0x3fff) << 4, address);
        cr_assert_eq((descriptor >> 32 & 0x3fff) << 4, ATOM_BYTES);
        cr_assert_eq(descriptor >> 46, (uint64_t)1 << 16);
    }
    for (uint32_t step = 0; step < 4; step++) {
        uint64_t at = operand_at(operand_descriptor(1024), 64, step);
        cr_assert_eq((at & 0x3fff) << 4, 1024 + 64 * 128 + 32 * step);
    }
}

Test(tile_layout, a_copy_of_scales_covers_the_tile_and_stays_inside)
{
    for (int64_t scale_rows = 4; scale_rows <= 400; scale_rows += 4) {
        for (int32_t first = 0; first < scale_rows; first++) {
            int64_t begin = first & ~3;
            int64_t count = scales_bytes(scale_rows, first) / 4;
            int64_t end = first + TILE_TOKENS < scale_rows ? first + TILE_TOKENS : scale_rows;
            cr_assert(count > 0 && count % 4 == 0 && count * 4 <= SCALES_BYTES);
            cr_assert(begin + count <= scale_rows && begin + count >= end);
        }
    }
}

Test(tile_layout, columns_of_a_tile_hold_its_tokens)
{
    for (int32_t tokens = 1; tokens <= TILE_TOKENS; tokens++) {
        int32_t columns = stream_columns(tokens);
        cr_assert(columns >= tokens && (columns == 8 || columns < 2 * tokens));
    }
}
