/*
 * emulated_kernels.h -- what the emulator lacks for gate, permute, combine and ep: their launch,
 * and the warp's other collectives. In place of kernels/launch.cuh.
 */
#ifndef MOESIM_EMULATED_KERNELS_H
#define MOESIM_EMULATED_KERNELS_H

#define EMULATED_SHARED static
#include "../emulator/emulator.h"

#include <mutex>

#include "status.h"

#define MOESIM_LAUNCH_CUH

struct emulated_block {
    unsigned x;
};
extern struct emulated_block blockDim; /* of the kernel that runs: one at a time */
extern std::mutex emulated_launches;

template <class... Parameters, class... Arguments>
static enum status launch(void (*kernel)(Parameters...), unsigned blocks, unsigned threads,
                          size_t shared_bytes, void *, const Arguments &...arguments)
{
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(blocks);
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared_bytes;
    std::lock_guard<std::mutex> alone(emulated_launches);
    blockDim.x = threads;
    emulator::launch(config, [&] { kernel(arguments...); });
    return STATUS_OK;
}

/* Dynamic shared memory begins where the emulator says, as on the hardware. */
static inline void *block_memory()
{
    return emulator::memory(1024, 16);
}

static inline uint32_t __match_any_sync(uint32_t, int32_t value)
{
    const uint64_t *all = emulator::meet(32, (uint32_t)value);
    uint32_t same = 0;
    for (int lane = 0; lane < 32; lane++) {
        same |= (uint32_t)(all[lane] == (uint32_t)value) << lane;
    }
    return same;
}

static inline uint32_t __reduce_max_sync(uint32_t, uint32_t value)
{
    const uint64_t *all = emulator::meet(32, value);
    uint32_t greatest = 0;
    for (int lane = 0; lane < 32; lane++) {
        greatest = all[lane] > greatest ? (uint32_t)all[lane] : greatest;
    }
    return greatest;
}

static inline bool __all_sync(uint32_t mask, bool holds)
{
    return __ballot_sync(mask, holds) == 0xffffffffu;
}

static inline float __uint_as_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline int __popc(uint32_t bits)
{
    return __builtin_popcount(bits);
}

#endif
