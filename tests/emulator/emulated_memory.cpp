/* emulated_memory.cpp -- see emulated_memory.h: every block has a page behind it that is nobody's.
 */
#include "emulated_memory.h"

#include <map>
#include <mutex>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

namespace
{

struct pages {
    void *begin;
    size_t bytes;
};

std::mutex lock; /* the ranks of a group are threads */
std::map<void *, struct pages> taken;

} // namespace

void *emulated_memory_take(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t used = (bytes + 15) / 16 * 16;
    size_t whole = (used + page - 1) / page * page;
    void *begin =
        mmap(nullptr, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (begin == MAP_FAILED) {
        return nullptr;
    }
    if (mprotect((uint8_t *)begin + whole, page, PROT_NONE) != 0) {
        munmap(begin, whole + page);
        return nullptr;
    }
    void *memory = (uint8_t *)begin + whole - used;
    std::lock_guard<std::mutex> held(lock);
    taken[memory] = {begin, whole + page};
    return memory;
}

void emulated_memory_free(void *memory)
{
    std::lock_guard<std::mutex> held(lock);
    auto found = taken.find(memory);
    if (found != taken.end()) {
        munmap(found->second.begin, found->second.bytes);
        taken.erase(found);
    }
}
