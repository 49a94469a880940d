/*
 * emulated_memory.h -- memory of the emulated GPU: who reads or writes behind it ends the program.
 */
#ifndef MOESIM_EMULATED_MEMORY_H
#define MOESIM_EMULATED_MEMORY_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* At a multiple of 16 bytes, and no more than that before the end of what may be touched. NULL: no
 * memory. */
void *emulated_memory_take(size_t bytes);

/* NULL is nothing. */
void emulated_memory_free(void *memory);

#ifdef __cplusplus
}
#endif

#endif
