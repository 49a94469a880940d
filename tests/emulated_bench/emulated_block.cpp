/* emulated_block.cpp -- the size of the blocks of the kernel that runs, and that it runs alone. */
#include "emulated_kernels.h"

struct emulated_block blockDim;
std::mutex emulated_launches;
