/* dev_nccl.c -- see dev_nccl.h. */
#include "dev_nccl.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define VERSION_MIN 2700 /* 2.7.0: ncclSend and ncclRecv */

enum { NCCL_SUCCESS = 0, NCCL_UINT8 = 1, NCCL_INT32 = 2 }; /* ncclResult_t, ncclDataType_t */

struct nccl {
    void *library;
    int version;
    int (*get_version)(int *version);
    int (*get_id)(struct nccl_id *id);
    int (*init)(void **communicator, int num_ranks, struct nccl_id id, int rank);
    int (*destroy)(void *communicator);
    int (*all_gather)(const void *from, void *to, size_t count, int type, void *communicator,
                      cudaStream_t stream);
    int (*send)(const void *from, size_t count, int type, int peer, void *communicator,
                cudaStream_t stream);
    int (*receive)(void *to, size_t count, int type, int peer, void *communicator,
                   cudaStream_t stream);
    int (*group_start)(void);
    int (*group_end)(void);
    const char *(*error_string)(int result);
};

/* POSIX lets a data pointer hold a function; C does not convert it, so its bytes are copied. */
static bool find(void *library, const char *name, void *function, size_t bytes)
{
    void *symbol = dlsym(library, name);
    memcpy(function, &symbol, bytes);
    return symbol != NULL;
}

#define FIND(name, function) find(nccl->library, name, &(function), sizeof(function))

enum status nccl_open(struct nccl **made, struct error *error)
{
    const char *path = getenv("MOESIM_NCCL");
    path = path == NULL || path[0] == '\0' ? "libnccl.so.2" : path;
    *made = NULL;
    struct nccl *nccl = calloc(1, sizeof *nccl);
    if (nccl == NULL) {
        return STATUS_NO_MEMORY;
    }
    nccl->library = dlopen(path, RTLD_NOW);
    if (nccl->library == NULL) {
        free(nccl);
        return error_add(error, STATUS_INVALID,
                         "NCCL cannot be loaded: %s. Install it, or set MOESIM_NCCL to its "
                         "libnccl.so.2",
                         dlerror());
    }
    bool found =
        FIND("ncclGetVersion", nccl->get_version) && FIND("ncclGetUniqueId", nccl->get_id) &&
        FIND("ncclCommInitRank", nccl->init) && FIND("ncclCommDestroy", nccl->destroy) &&
        FIND("ncclAllGather", nccl->all_gather) && FIND("ncclSend", nccl->send) &&
        FIND("ncclRecv", nccl->receive) && FIND("ncclGroupStart", nccl->group_start) &&
        FIND("ncclGroupEnd", nccl->group_end) && FIND("ncclGetErrorString", nccl->error_string) &&
        nccl->get_version(&nccl->version) == NCCL_SUCCESS && nccl->version >= VERSION_MIN;
    if (!found) {
        nccl_close(nccl);
        return error_add(error, STATUS_INVALID, "%s: NCCL 2.7 or newer is needed", path);
    }
    *made = nccl;
    return STATUS_OK;
}

void nccl_close(struct nccl *nccl)
{
    if (nccl != NULL) {
        dlclose(nccl->library);
        free(nccl);
    }
}

int32_t nccl_version(const struct nccl *nccl)
{
    return nccl->version;
}

enum status nccl_make_id(const struct nccl *nccl, struct nccl_id *id, struct error *error)
{
    int result = nccl->get_id(id);
    return result == NCCL_SUCCESS
               ? STATUS_OK
               : error_add(error, STATUS_CUDA, "ncclGetUniqueId: %s", nccl->error_string(result));
}

enum status nccl_rank_open(struct nccl_rank *made, const struct nccl *nccl, struct nccl_id id,
                           int32_t rank, int32_t num_ranks, struct error *error)
{
    *made = (struct nccl_rank){.nccl = nccl, .rank = rank, .num_ranks = num_ranks};
    int result = nccl->init(&made->communicator, num_ranks, id, rank);
    if (result != NCCL_SUCCESS) {
        made->communicator = NULL;
        return error_add(error, STATUS_CUDA, "ncclCommInitRank, rank %d of %d: %s", (int)rank,
                         (int)num_ranks, nccl->error_string(result));
    }
    return STATUS_OK;
}

void nccl_rank_close(struct nccl_rank *rank)
{
    if (rank->communicator != NULL) {
        (void)rank->nccl->destroy(rank->communicator);
    }
    *rank = (struct nccl_rank){0};
}

static enum status answer(int result)
{
    return result == NCCL_SUCCESS ? STATUS_OK : STATUS_CUDA;
}

enum status nccl_all_gather(const struct nccl_rank *rank, const int32_t *mine, int32_t *all,
                            int64_t count, cudaStream_t stream)
{
    return answer(
        rank->nccl->all_gather(mine, all, (size_t)count, NCCL_INT32, rank->communicator, stream));
}

enum status nccl_begin(const struct nccl_rank *rank)
{
    return answer(rank->nccl->group_start());
}

enum status nccl_send(const struct nccl_rank *rank, const void *from, int64_t bytes, int32_t peer,
                      cudaStream_t stream)
{
    return answer(
        rank->nccl->send(from, (size_t)bytes, NCCL_UINT8, peer, rank->communicator, stream));
}

enum status nccl_receive(const struct nccl_rank *rank, void *to, int64_t bytes, int32_t peer,
                         cudaStream_t stream)
{
    return answer(
        rank->nccl->receive(to, (size_t)bytes, NCCL_UINT8, peer, rank->communicator, stream));
}

enum status nccl_end(const struct nccl_rank *rank)
{
    return answer(rank->nccl->group_end());
}
