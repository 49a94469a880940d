/* emulated_block.cpp -- the size of the blocks of the kernel that runs. */
#include "emulated_kernels.h"

struct emulated_block blockDim;
