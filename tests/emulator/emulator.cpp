/* emulator.cpp -- fibers, barriers, copies and multiplies of emulator.h. */
#include <list>
#include <map>
#include <memory>
#include <random>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <vector>

#define EMULATED_SHARED
#include "emulator.h"

#define SHARED_BASE 1024
#define SHARED_MAX  232448 /* bytes that a block can have */
#define STACK_BYTES (64 * 1024)
#define NUM_SMS     4
#define WARPS_MAX   12  /* of which one is slow */
#define ROUNDS_SLOW 256 /* that a warp is slow */

namespace
{

/* Threads that come together; two sets of values, so that the fast ones' next does not overwrite
 * what the slow ones still read. */
struct meeting {
    int arrived = 0;
    uint64_t turn = 0;
    uint64_t value[2][128] = {};
};

struct barrier {
    int64_t arrivals = 0;
    int64_t pending = 0;
    int64_t bytes = 0;
    uint64_t phase = 0;
};

/* One wgmma of a warpgroup: every thread brings its d. */
struct multiply_of {
    uint64_t a, b;
    bool add, fp8;
    int columns;
    float *d[128];
};

struct warpgroup {
    struct meeting meeting;
    std::vector<struct multiply_of> issued;
    size_t done = 0;
};

struct block {
    std::vector<uint8_t> memory;
    std::vector<uint16_t> writer; /* of each two bytes: 1 + the thread whose fence is to come */
    bool barriers_fenced = true;
    std::map<uint32_t, struct barrier> barriers;
    std::map<int, struct meeting> syncs;
    std::vector<struct meeting> warps;
    std::vector<struct warpgroup> groups;
    std::vector<struct block *> *cluster = nullptr;
    struct meeting *cluster_meeting = nullptr;
    uint32_t rank = 0;
    int threads = 0;
    int left = 0; /* threads that have not ended */
};

struct fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack; /* of spare_stacks */
    struct block *block;
    struct emulator::place place;
    std::function<bool()> ready; /* what it waits for */
    bool done = false;
    std::list<std::function<void()>> stores;
    std::vector<size_t> committed; /* multiplies issued up to each commit */
    size_t issued = 0;
    std::vector<uint32_t> written; /* in two bytes, since the last fence */
    bool multiplies_fenced = false;
};

struct map_content {
    uint8_t *data;
    uint64_t size[3];
    uint64_t stride[3]; /* bytes */
    uint32_t box[2];
    uint32_t element;
};

ucontext_t scheduler;
struct fiber *current;
const std::function<void()> *kernel_body;
std::list<std::function<void()>> copies; /* under way */
std::mt19937 dice;
std::vector<std::unique_ptr<char[]>> spare_stacks; /* not initialised, most is never touched */

[[noreturn]] void fail(const char *what)
{
    fprintf(stderr, "emulator: block %u thread %u: %s\n", current ? current->place.block.x : 0,
            current ? current->place.thread.x : 0, what);
    abort();
}

void check(bool holds, const char *what)
{
    if (!holds) {
        fail(what);
    }
}

void wait_for(std::function<bool()> ready)
{
    current->ready = std::move(ready);
    swapcontext(&current->context, &scheduler);
}

/* last: what the last to come does for all. */
const uint64_t *come_together(struct meeting &meeting, int count, int index, uint64_t value,
                              const std::function<void()> &last)
{
    uint64_t turn = meeting.turn;
    meeting.value[turn % 2][index] = value;
    meeting.arrived++;
    check(meeting.arrived <= count, "more threads than a barrier is for");
    if (meeting.arrived == count) {
        last();
        meeting.arrived = 0;
        meeting.turn++;
    } else {
        struct meeting *at = &meeting;
        wait_for([at, turn] { return at->turn != turn; });
    }
    return meeting.value[turn % 2];
}

void nothing()
{
}

bool is_left_out(const char *fence)
{
    const char *left_out = getenv("EMULATOR_WITHOUT");
    return left_out != nullptr && strcmp(left_out, fence) == 0;
}

struct barrier &barrier_of(struct block &block, uint32_t address)
{
    check(block.left > 0, "reaches into a block that has ended");
    auto found = block.barriers.find(address);
    check(found != block.barriers.end(), "no barrier at this address");
    return found->second;
}

void settle(struct barrier &barrier)
{
    check(barrier.pending >= 0, "more arrivals than a phase has");
    if (barrier.pending == 0 && barrier.bytes == 0) {
        barrier.phase++;
        barrier.pending = barrier.arrivals;
    }
}

uint8_t *memory_of(struct block &block, uint32_t address, uint32_t bytes)
{
    check(address >= SHARED_BASE && address - SHARED_BASE + bytes <= block.memory.size() &&
              address % bytes == 0,
          "shared memory out of range or not aligned");
    return &block.memory[address - SHARED_BASE];
}

/* The 128-byte swizzle of copy engine and wgmma: address bits 7-9 into bits 4-6. */
uint32_t swizzle(uint32_t address)
{
    return address ^ (address >> 3 & 0x70);
}

struct map_content content_of(const CUtensorMap *map)
{
    struct map_content content;
    memcpy(&content, map, sizeof content);
    return content;
}

uint8_t *global_of(const struct map_content &map, int64_t x_byte, int64_t y, int64_t z)
{
    bool inside = x_byte >= 0 && x_byte < (int64_t)(map.size[0] * map.element) && y >= 0 &&
                  y < (int64_t)map.size[1] && z >= 0 && z < (int64_t)map.size[2];
    return inside ? map.data + x_byte + y * (int64_t)map.stride[1] + z * (int64_t)map.stride[2]
                  : nullptr;
}

void copy_box(struct block *to_block, uint32_t to, struct map_content map, uint32_t barrier,
              int32_t x, int32_t y, int32_t z)
{
    uint32_t width = map.box[0] * map.element;
    for (uint32_t row = 0; row < map.box[1]; row++) {
        for (uint32_t byte = 0; byte < width; byte += 16) { /* a size is a multiple of 16 bytes */
            const uint8_t *from =
                global_of(map, (int64_t)x * map.element + byte, (int64_t)y + row, z);
            uint8_t *at = memory_of(*to_block, swizzle(to + row * width + byte), 16);
            from == nullptr ? memset(at, 0, 16) : memcpy(at, from, 16);
        }
    }
    struct barrier &full = barrier_of(*to_block, barrier);
    full.bytes -= map.box[1] * width;
    settle(full);
}

float bf16_at(uint64_t bits, unsigned half)
{
    uint32_t wide = (uint32_t)(bits >> (16 * half) & 0xffff) << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

std::vector<float> fp8_values()
{
    std::vector<float> value;
    for (int bits = 0; bits < 256; bits++) {
        __half_raw half = __nv_cvt_fp8_to_halfraw((__nv_fp8_storage_t)bits, __NV_E4M3);
        value.push_back(__half2float(__half(half)));
    }
    return value;
}

const std::vector<float> fp8_value = fp8_values();

/* 32 bytes of K of `rows` rows of an operand of wgmma. */
std::vector<float> operand(struct block &block, uint64_t descriptor, uint32_t rows, bool fp8)
{
    uint32_t start = (uint32_t)(descriptor & 0x3fff) << 4;
    uint32_t stride = (uint32_t)(descriptor >> 32 & 0x3fff) << 4;
    check(descriptor >> 62 == 1 && (descriptor >> 49 & 7) == 0, "not a 128-byte swizzle");
    std::vector<float> value;
    for (uint32_t row = 0; row < rows; row++) {
        for (uint32_t k = 0; k < 32; k += fp8 ? 1 : 2) {
            uint32_t address = swizzle(start + row / 8 * stride + row % 8 * 128 + k);
            const uint8_t *from = memory_of(block, address, fp8 ? 1 : 2);
            value.push_back(fp8 ? fp8_value[*from] : bf16_at(from[0] | from[1] << 8, 0));
        }
    }
    return value;
}

void run_multiply(struct block &block, const struct multiply_of &op)
{
    const uint32_t depth = op.fp8 ? 32 : 16;
    std::vector<float> a = operand(block, op.a, 64, op.fp8);
    std::vector<float> b = operand(block, op.b, (uint32_t)op.columns, op.fp8);
    for (int thread = 0; thread < 128; thread++) {
        for (int i = 0; i < op.columns / 2; i++) { /* PTX ISA, figure of matrix D of wgmma */
            size_t row = (size_t)(thread / 32 * 16 + thread % 32 / 4 + (i & 2 ? 8 : 0));
            size_t column = (size_t)(8 * (i / 4) + thread % 4 * 2 + (i & 1));
            float sum = 0.0f;
            for (uint32_t k = 0; k < depth; k++) {
                sum += a[row * depth + k] * b[column * depth + k];
            }
            float *d = &op.d[thread][i];
            *d = op.add ? sum + *d : sum;
        }
    }
}

void start_fiber()
{
    (*kernel_body)();
    current->done = true;
    check(current->stores.empty(), "ends with stores that nobody waited for");
    swapcontext(&current->context, &scheduler);
}

void run_some_copies(bool all)
{
    for (auto copy = copies.begin(); copy != copies.end();) {
        if (all || dice() % 4 == 0) {
            auto run = std::move(*copy);
            copy = copies.erase(copy);
            run();
        } else {
            copy++;
        }
    }
}

bool anyone_can_go(const std::vector<std::unique_ptr<struct fiber>> &fibers)
{
    for (auto &fiber : fibers) {
        if (!fiber->done && (!fiber->ready || fiber->ready())) {
            return true;
        }
    }
    return false;
}

/* Until all fibers are done. For a while at a time one warp stays where it is until nothing else
 * can go on: others, and other blocks, get as far ahead of it as the barriers let them. */
void schedule(std::vector<std::unique_ptr<struct fiber>> &fibers)
{
    size_t left = fibers.size();
    uint32_t slow = 0;
    bool stuck = false;
    for (uint32_t round = 0; left > 0; round++) {
        bool moved = false;
        size_t offset = dice() % fibers.size();
        slow = round % ROUNDS_SLOW == 0 ? (uint32_t)(dice() % (NUM_SMS * WARPS_MAX)) : slow;
        for (size_t i = 0; i < fibers.size(); i++) {
            struct fiber &fiber = *fibers[(i + offset) % fibers.size()];
            bool stays = fiber.place.block.x % NUM_SMS == slow / WARPS_MAX &&
                         fiber.place.thread.x / 32 == slow % WARPS_MAX && !stuck;
            if (fiber.done || stays || (fiber.ready && !fiber.ready()) || dice() % 8 == 0) {
                continue;
            }
            moved = true;
            fiber.ready = nullptr;
            current = &fiber;
            swapcontext(&scheduler, &fiber.context);
            left -= fiber.done ? 1 : 0;
            fiber.block->left -= fiber.done ? 1 : 0;
            if (!fiber.stores.empty() && dice() % 2 == 0) {
                fiber.stores.front()();
                fiber.stores.pop_front();
            }
        }
        stuck = !moved && copies.empty();
        check(!stuck || anyone_can_go(fibers), "standstill: every thread waits");
        run_some_copies(!moved);
    }
    check(copies.empty(), "ends with copies under way");
}

void run_blocks(const cudaLaunchConfig_t &config, const std::vector<uint32_t> &ids,
                uint32_t cluster_size)
{
    std::vector<std::unique_ptr<struct block>> blocks;
    std::vector<std::vector<struct block *>> clusters(ids.size() / cluster_size);
    std::vector<struct meeting> cluster_meetings(clusters.size());
    std::vector<std::unique_ptr<struct fiber>> fibers;
    for (size_t i = 0; i < ids.size(); i++) {
        blocks.push_back(std::make_unique<struct block>());
        struct block &block = *blocks.back();
        block.memory.assign(config.dynamicSmemBytes, 0xff);
        block.writer.assign(config.dynamicSmemBytes / 2 + 1, 0);
        block.threads = block.left = (int)config.blockDim.x;
        block.warps.resize(config.blockDim.x / 32);
        block.groups.resize((config.blockDim.x + 127) / 128);
        block.cluster = &clusters[i / cluster_size];
        block.cluster_meeting = &cluster_meetings[i / cluster_size];
        block.rank = (uint32_t)(i % cluster_size);
        block.cluster->push_back(&block);
        for (unsigned thread = 0; thread < config.blockDim.x; thread++) {
            fibers.push_back(std::make_unique<struct fiber>());
            struct fiber &fiber = *fibers.back();
            fiber.block = &block;
            fiber.place = {dim3(thread), dim3(ids[i]), config.gridDim};
            if (spare_stacks.empty()) {
                spare_stacks.emplace_back(new char[STACK_BYTES]);
            }
            fiber.stack = std::move(spare_stacks.back());
            spare_stacks.pop_back();
            getcontext(&fiber.context);
            fiber.context.uc_stack.ss_sp = fiber.stack.get();
            fiber.context.uc_stack.ss_size = STACK_BYTES;
            makecontext(&fiber.context, start_fiber, 0);
        }
    }
    schedule(fibers);
    for (auto &fiber : fibers) {
        spare_stacks.push_back(std::move(fiber->stack));
    }
}

/* The checks are the driver's. */
CUresult encode(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank, void *data,
                const cuuint64_t *size, const cuuint64_t *stride, const cuuint32_t *box,
                const cuuint32_t *step, CUtensorMapInterleave, CUtensorMapSwizzle swizzle_mode,
                CUtensorMapL2promotion, CUtensorMapFloatOOBfill)
{
    struct map_content content = {};
    content.data = (uint8_t *)data;
    content.element = type == CU_TENSOR_MAP_DATA_TYPE_UINT8 ? 1 : 2;
    bool good = (uintptr_t)data % 16 == 0 && (rank == 2 || rank == 3) &&
                swizzle_mode == CU_TENSOR_MAP_SWIZZLE_128B && box[0] * content.element == 128;
    for (cuuint32_t i = 0; i < 3; i++) {
        content.size[i] = i < rank ? size[i] : 1;
        content.stride[i] = i == 0 ? content.element : i < rank ? stride[i - 1] : 0;
        good = good && (i >= rank || (box[i] >= 1 && box[i] <= 256 && step[i] == 1));
        good = good && content.size[i] >= 1 && (i == 0 || content.stride[i] % 16 == 0);
    }
    good = good && (rank == 2 || box[2] == 1);
    content.box[0] = box[0];
    content.box[1] = box[1];
    memset(map, 0, sizeof *map);
    memcpy(map, &content, sizeof content);
    return good ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

} // namespace

uint8_t shared[1]; /* the kernels' name of their shared memory; addresses are ours */

const struct emulator::place &emulator::here()
{
    return current->place;
}

/* Blocks without dynamic shared memory have function-local variables for it: one at a time. */
void emulator::launch(const cudaLaunchConfig_t &config, const std::function<void()> &kernel)
{
    uint32_t cluster = config.numAttrs > 0 ? config.attrs[0].val.clusterDim.x : 1;
    uint32_t at_once = config.dynamicSmemBytes == 0 ? 1 : NUM_SMS;
    current = nullptr;
    check(config.dynamicSmemBytes <= SHARED_MAX, "too much shared memory");
    check(config.gridDim.x % cluster == 0, "a grid is whole clusters");
    kernel_body = &kernel;
    for (uint32_t first = 0; first < config.gridDim.x; first += at_once) {
        std::vector<uint32_t> ids;
        for (uint32_t id = first; id < config.gridDim.x && id < first + at_once; id++) {
            ids.push_back(id);
        }
        run_blocks(config, ids, cluster);
    }
}

const uint64_t *emulator::meet(int width, uint64_t value)
{
    int thread = (int)current->place.thread.x;
    struct meeting &meeting = width == 32 ? current->block->warps[(size_t)(thread / 32)]
                                          : current->block->groups[(size_t)(thread / 128)].meeting;
    return come_together(meeting, width, thread % width, value, nothing);
}

void emulator::barrier_init(uint32_t address, uint32_t arrivals)
{
    memory_of(*current->block, address, 8);
    check(current->block->barriers.count(address) == 0, "a barrier is initialised twice");
    struct barrier barrier;
    barrier.arrivals = barrier.pending = arrivals;
    current->block->barriers[address] = barrier;
    current->block->barriers_fenced = false;
}

void emulator::fence_barriers()
{
    static const bool left_out = is_left_out("barriers");
    current->block->barriers_fenced = !left_out;
}

void emulator::fence_writes()
{
    static const bool left_out = is_left_out("writes");
    for (uint32_t at : current->written) {
        uint16_t &writer = current->block->writer[at];
        writer = !left_out && writer == current->place.thread.x + 1 ? 0 : writer;
    }
    current->written.clear();
}

void emulator::fence_multiplies()
{
    static const bool left_out = is_left_out("multiplies");
    current->multiplies_fenced = !left_out;
}

void emulator::written(uint32_t address, uint32_t bytes)
{
    for (uint32_t at = (address - SHARED_BASE) / 2; at < (address - SHARED_BASE + bytes + 1) / 2;
         at++) {
        current->block->writer[at] = (uint16_t)(current->place.thread.x + 1);
        current->written.push_back(at);
    }
}

void emulator::barrier_arrive(uint32_t address, uint32_t rank, uint32_t bytes)
{
    struct block &block = rank == ~0u ? *current->block : *current->block->cluster->at(rank);
    struct barrier &barrier = barrier_of(block, address);
    barrier.bytes += bytes;
    barrier.pending--;
    settle(barrier);
}

void emulator::barrier_wait(uint32_t address, uint32_t parity)
{
    struct barrier *barrier = &barrier_of(*current->block, address);
    check(parity < 2, "a parity is 0 or 1");
    wait_for([barrier, parity] { return barrier->phase % 2 != parity; });
}

void emulator::sync_threads(int id, int threads)
{
    int count = threads == 0 ? current->block->threads : threads;
    come_together(current->block->syncs[id], count, 0, 0, nothing);
}

void emulator::cluster_sync()
{
    int count = current->block->threads * (int)current->block->cluster->size();
    come_together(*current->block->cluster_meeting, count, 0, 0, nothing);
}

uint32_t emulator::cluster_rank()
{
    return current->block->rank;
}

uint8_t *emulator::memory(uint32_t address, uint32_t bytes)
{
    return memory_of(*current->block, address, bytes);
}

void emulator::load_box(uint32_t to, const CUtensorMap *map, uint32_t barrier, int32_t x, int32_t y,
                        int32_t z, uint16_t ranks)
{
    check(to % 1024 == 0, "a box begins at an atom");
    check(current->block->barriers_fenced, "a copy may not know of its barrier: no fence");
    struct map_content content = content_of(map);
    for (struct block *block : *current->block->cluster) {
        bool own = ranks == 0 && block == current->block;
        if (own || (ranks >> block->rank & 1) != 0) {
            copies.push_back([=] { copy_box(block, to, content, barrier, x, y, z); });
        }
    }
}

void emulator::load_bytes(uint32_t to, const void *from, uint32_t bytes, uint32_t barrier)
{
    check(bytes > 0 && bytes % 16 == 0 && to % 16 == 0 && (uintptr_t)from % 16 == 0,
          "bytes and addresses of a plain copy are multiples of 16");
    check(current->block->barriers_fenced, "a copy may not know of its barrier: no fence");
    struct block *block = current->block;
    copies.push_back([=] {
        memory_of(*block, to, 1);
        memcpy(memory_of(*block, to, 1), from, bytes);
        memory_of(*block, to + bytes - 1, 1);
        barrier_of(*block, barrier).bytes -= bytes;
        settle(barrier_of(*block, barrier));
    });
}

void emulator::store_box(const CUtensorMap *map, uint32_t from, int32_t x, int32_t y)
{
    check(from % 1024 == 0, "a box begins at an atom");
    struct map_content content = content_of(map);
    struct block *block = current->block;
    for (uint32_t at = 0; at < content.box[0] * content.box[1] * content.element / 2; at++) {
        check(block->writer[(from - SHARED_BASE) / 2 + at] == 0,
              "the copy engine may not see what a thread has written: no fence");
    }
    current->stores.push_back([=] {
        uint32_t width = content.box[0] * content.element;
        for (uint32_t i = 0; i < content.box[1] * width; i++) {
            uint8_t *to = global_of(content, (int64_t)x * content.element + i % width,
                                    (int64_t)y + i / width, 0);
            if (to != nullptr) {
                *to = *memory_of(*block, swizzle(from + i), 1);
            }
        }
    });
}

void emulator::store_wait()
{
    for (auto &store : current->stores) {
        store();
    }
    current->stores.clear();
}

void emulator::multiply(float *d, int columns, uint64_t a, uint64_t b, bool add, bool fp8)
{
    unsigned thread = current->place.thread.x;
    struct warpgroup &group = current->block->groups[thread / 128];
    check(current->multiplies_fenced, "wgmma may not see its registers: no fence");
    size_t index = current->issued++;
    if (index == group.issued.size()) {
        group.issued.push_back({a, b, add, fp8, columns, {}});
    }
    struct multiply_of &op = group.issued[index];
    check(op.a == a && op.b == b && op.add == add && op.columns == columns,
          "threads of a warpgroup issue different multiplies");
    op.d[thread % 128] = d;
}

void emulator::commit()
{
    current->committed.push_back(current->issued);
    current->multiplies_fenced = false;
}

void emulator::wait(int pending)
{
    struct warpgroup &group = current->block->groups[current->place.thread.x / 128];
    struct block *block = current->block;
    size_t commits = current->committed.size();
    size_t due = commits > (size_t)pending ? current->committed[commits - 1 - (size_t)pending] : 0;
    come_together(group.meeting, 128, (int)(current->place.thread.x % 128), 0,
                  [&group, block, due] {
                      for (; group.done < due; group.done++) {
                          run_multiply(*block, group.issued[group.done]);
                      }
                  });
}

void emulator::store_matrices(uint32_t to, const uint32_t (&value)[4])
{
    const uint64_t *row = meet(32, to);
    unsigned lane = current->place.thread.x % 32;
    for (unsigned matrix = 0; matrix < 4; matrix++) {
        uint32_t address = (uint32_t)row[8 * matrix + lane / 4];
        check(address % 16 == 0, "a row of a matrix begins at a multiple of 16");
        memcpy(memory(address + lane % 4 * 4, 4), &value[matrix], 4);
        written(address + lane % 4 * 4, 4);
    }
}

uint32_t emulator::transpose_matrix(uint32_t pair)
{
    const uint64_t *all = meet(32, pair);
    unsigned lane = current->place.thread.x % 32;
    uint32_t out = 0;
    for (unsigned i = 0; i < 2; i++) { /* row 2 (l % 4) + i, column l / 4 of what went in */
        uint64_t from = all[(lane % 4 * 2 + i) * 4 + lane / 8];
        out |= (uint32_t)(from >> (lane / 4 % 2 * 16) & 0xffff) << (16 * i);
    }
    return out;
}

void emulator::warp_multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    float left[16][16], right[8][16];
    const uint32_t value[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    for (unsigned i = 0; i < 6; i += 2) { /* every register of every lane, two at a time */
        const uint64_t *all = meet(32, value[i] | (uint64_t)value[i + 1] << 32);
        for (unsigned at = 0; at < 32 * 4; at++) {
            unsigned lane = at / 4;
            unsigned reg = i + at / 2 % 2;
            unsigned k = lane % 4 * 2 + at % 2 + (reg < 4 ? reg / 2 : reg - 4) * 8;
            float *to = reg < 4 ? &left[lane / 4 + reg % 2 * 8][k] : &right[lane / 4][k];
            *to = bf16_at(all[lane], at % 4);
        }
    }
    unsigned lane = current->place.thread.x % 32;
    for (unsigned i = 0; i < 4; i++) {
        double sum = 0.0;
        for (unsigned k = 0; k < 16; k++) {
            sum += (double)left[lane / 4 + i / 2 * 8][k] * (double)right[lane % 4 * 2 + i % 2][k];
        }
        d[i] = (float)((double)d[i] + sum);
    }
}

cudaError_t emulated_entry_point(const char *, void **function, unsigned, unsigned long long,
                                 cudaDriverEntryPointQueryResult *found)
{
    *function = (void *)encode;
    *found = cudaDriverEntryPointSuccess;
    return cudaSuccess;
}

cudaError_t emulated_attribute(int *value, cudaDeviceAttr, int)
{
    *value = NUM_SMS;
    return cudaSuccess;
}

cudaError_t emulated_memset(void *to, int value, size_t bytes, cudaStream_t)
{
    memset(to, value, bytes);
    return cudaSuccess;
}
