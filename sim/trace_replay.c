/*
 * trace_replay.c -- deals pieces of a trace, rows of one layer and shard, out to threads.
 *
 * Sums of integers do not depend on who adds them when. A damaged id is found by many threads in
 * any order; the first piece that has one is read again to word it.
 */
#define _DEFAULT_SOURCE /* madvise: what POSIX has in its place does nothing in glibc */

#include "trace_replay.h"

#include <omp.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "trace_internal.h"

#define PIECE_ROWS (INT64_C(1) << 18)

/* What all threads share. */
struct job {
    const struct trace *trace;
    struct trace_replay *result;
    struct replay_shape shape;
    int64_t pieces_per_shard;
};

/* What one thread counts with. */
struct worker {
    struct replay *replay;
    struct replay_counts counts;
    int64_t *all; /* [num_counts] the arrays of counts, one after the other */
};

struct piece {
    int32_t layer;
    int32_t shard;
    int64_t first; /* row of the shard */
    int64_t count;
};

static size_t num_counts(const struct replay_shape *shape)
{
    return (size_t)shape->num_experts + (size_t)shape->num_ranks +
           (size_t)shape->num_sources * (size_t)shape->num_nodes;
}

static struct piece piece_at(const struct job *job, int64_t index)
{
    int64_t of_layer = job->pieces_per_shard * job->trace->num_shards;
    struct piece piece = {
        .layer = (int32_t)(index / of_layer),
        .shard = (int32_t)(index % of_layer / job->pieces_per_shard),
        .first = index % job->pieces_per_shard * PIECE_ROWS,
    };
    int64_t left = job->trace->shards[piece.shard].num_tokens - piece.first;
    piece.count = left < 0 ? 0 : left < PIECE_ROWS ? left : PIECE_ROWS;
    return piece;
}

static const char *ids_at(const struct trace *trace, const struct piece *piece, int32_t id_bytes)
{
    const struct trace_shard *shard = &trace->shards[piece->shard];
    int64_t index = ((int64_t)piece->layer * shard->num_tokens + piece->first) * trace->top_k;
    return id_bytes == 1 ? (const char *)(shard->expert_u8 + index)
                         : (const char *)(shard->expert_u16 + index);
}

/* Takes the whole pages of a piece out of this process; the file's pages stay in the system's
 * cache. A failure costs memory and nothing else. */
static void give_back(const struct trace *trace, const struct piece *piece, int32_t id_bytes)
{
    const struct npy *file = &trace->shards[piece->shard].expert_file;
    if (file->mapping == NULL || piece->count == 0) {
        return;
    }
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t begin = (size_t)(ids_at(trace, piece, id_bytes) - (const char *)file->mapping);
    size_t end = begin + (size_t)(piece->count * trace->top_k * id_bytes);
    begin = begin / page * page; /* a page shared with the piece before is read once more */
    end = end / page * page;
    if (end > begin) {
        (void)madvise((char *)file->mapping + begin, end - begin, MADV_DONTNEED);
    }
}

static bool worker_init(struct worker *worker, const struct job *job, struct arena *arena)
{
    const struct replay_shape *shape = &job->shape;
    worker->all = arena_alloc(arena, num_counts(shape), sizeof *worker->all);
    if (worker->all == NULL ||
        replay_open(&worker->replay, shape, replay_path_best()) != STATUS_OK) {
        return false;
    }
    worker->counts.expert_tokens = worker->all;
    worker->counts.rank_tokens = worker->all + shape->num_experts;
    worker->counts.node_tokens = worker->counts.rank_tokens + shape->num_ranks;
    return true;
}

/* False: there is a damaged id. */
static bool count_piece(const struct job *job, struct worker *worker, const struct piece *piece)
{
    const int64_t first = piece->shard * job->trace->tokens_per_shard + piece->first;
    memset(worker->all, 0, num_counts(&job->shape) * sizeof *worker->all);
    const char *ids = ids_at(job->trace, piece, job->shape.id_bytes);
    int64_t bad = replay_count(worker->replay, &worker->counts, ids, first, piece->count);
    give_back(job->trace, piece, job->shape.id_bytes);
    return bad < 0;
}

static void add_counts(const struct job *job, const struct worker *worker, int32_t layer)
{
    int64_t *to = job->result->layer[layer].expert_tokens; /* ranks and nodes stand behind */
    for (size_t i = 0; i < num_counts(&job->shape); i++) {
        to[i] += worker->all[i];
    }
}

static enum status count_all(const struct job *job, struct worker *worker, int32_t num_threads,
                             const struct trace_replay_options *options, struct error *error)
{
    const int64_t num_pieces =
        job->pieces_per_shard * job->trace->num_shards * job->trace->num_layers;
    int64_t num_done = 0;
    int64_t failed = num_pieces;
#pragma omp parallel for schedule(dynamic) num_threads(num_threads)
    for (int64_t index = 0; index < num_pieces; index++) {
        struct piece piece = piece_at(job, index);
        bool is_sound = count_piece(job, &worker[omp_get_thread_num()], &piece);
#pragma omp critical(trace_replay_done)
        {
            add_counts(job, &worker[omp_get_thread_num()], piece.layer);
            num_done += piece.count;
            failed = !is_sound && index < failed ? index : failed;
            if (options->progress != NULL) {
                options->progress(options->context, num_done,
                                  job->trace->num_tokens * job->trace->num_layers);
            }
        }
    }
    if (failed == num_pieces) {
        return STATUS_OK;
    }
    struct piece piece = piece_at(job, failed);
    int64_t first = piece.shard * job->trace->tokens_per_shard + piece.first;
    return trace_count(job->trace, worker[0].all, piece.layer, first, piece.count, error);
}

static enum status check_options(const struct trace *trace,
                                 const struct trace_replay_options *options, struct error *error)
{
    enum status status = STATUS_OK;
    if (options->num_ranks < 1 || trace->num_experts % options->num_ranks != 0) {
        status = error_add(error, STATUS_INVALID,
                           "%d EP ranks do not share %d experts evenly: give a divisor of %d",
                           options->num_ranks, trace->num_experts, trace->num_experts);
    }
    if (options->num_nodes < 1 || options->num_ranks % options->num_nodes != 0) {
        status = error_add(error, STATUS_INVALID,
                           "%d nodes do not share %d ranks evenly: give a divisor of %d",
                           options->num_nodes, options->num_ranks, options->num_ranks);
    }
    if (options->tokens_per_rank < 1) {
        status = error_add(error, STATUS_INVALID, "a rank needs at least one token a turn");
    }
    return status;
}

static bool make_shape(struct job *job, const struct trace_replay_options *options,
                       struct arena *arena)
{
    const struct trace *trace = job->trace;
    int32_t *rank_of_expert =
        arena_alloc(arena, (size_t)trace->num_experts, sizeof *rank_of_expert);
    int32_t *node_of_rank = arena_alloc(arena, (size_t)options->num_ranks, sizeof *node_of_rank);
    if (rank_of_expert == NULL || node_of_rank == NULL) {
        return false;
    }
    for (int32_t expert = 0; expert < trace->num_experts; expert++) {
        rank_of_expert[expert] = expert / (trace->num_experts / options->num_ranks);
    }
    for (int32_t rank = 0; rank < options->num_ranks; rank++) {
        node_of_rank[rank] = rank / (options->num_ranks / options->num_nodes);
    }
    job->shape = (struct replay_shape){
        .num_experts = trace->num_experts,
        .top_k = trace->top_k,
        .id_bytes = trace->shards[0].expert_u8 != NULL ? 1 : 2,
        .num_ranks = options->num_ranks,
        .num_nodes = options->num_nodes,
        .rank_of_expert = rank_of_expert,
        .node_of_rank = node_of_rank,
        .num_sources = options->num_ranks,
        .rows_per_source = options->tokens_per_rank,
    };
    job->pieces_per_shard = (trace->tokens_per_shard + PIECE_ROWS - 1) / PIECE_ROWS;
    return true;
}

static bool make_layers(const struct job *job)
{
    struct trace_replay *result = job->result;
    const struct replay_shape *shape = &job->shape;
    result->layer = arena_alloc(&result->arena, (size_t)result->num_layers, sizeof *result->layer);
    for (int32_t i = 0; i < result->num_layers && result->layer != NULL; i++) {
        struct trace_replay_layer *layer = &result->layer[i];
        layer->model_layer = job->trace->model_layer[i];
        layer->expert_tokens = arena_alloc(&result->arena, num_counts(shape), sizeof(int64_t));
        layer->load_tokens = arena_alloc(&result->arena, (size_t)shape->num_ranks, sizeof(int64_t));
        if (layer->expert_tokens == NULL || layer->load_tokens == NULL) {
            return false;
        }
        layer->rank_tokens = layer->expert_tokens + shape->num_experts;
        layer->node_tokens = layer->rank_tokens + shape->num_ranks;
    }
    return result->layer != NULL;
}

enum status trace_replay_read(struct trace_replay *replay, const struct trace *trace,
                              const struct trace_replay_options *options, struct error *error)
{
    *replay = (struct trace_replay){.num_layers = trace->num_layers,
                                    .num_experts = trace->num_experts,
                                    .num_ranks = options->num_ranks,
                                    .num_nodes = options->num_nodes,
                                    .num_tokens = trace->num_tokens};
    enum status status = check_options(trace, options, error);
    if (status != STATUS_OK) {
        return status;
    }
    int32_t num_threads = options->num_threads > 0 ? options->num_threads : omp_get_max_threads();
    struct arena arena = {0}; /* gone when the sums are there */
    struct job job = {.trace = trace, .result = replay};
    struct worker *worker = arena_alloc(&arena, (size_t)num_threads, sizeof *worker);
    bool ready = worker != NULL && make_shape(&job, options, &arena) && make_layers(&job);
    for (int32_t thread = 0; ready && thread < num_threads; thread++) {
        ready = worker_init(&worker[thread], &job, &arena);
    }
    if (ready) {
        replay->path = replay_path_of(worker[0].replay);
        status = count_all(&job, worker, num_threads, options, error);
        for (int32_t layer = 0; layer < replay->num_layers; layer++) {
            replay_rank_load(replay->layer[layer].load_tokens, &job.shape,
                             replay->layer[layer].expert_tokens);
        }
    } else {
        status = error_add(error, STATUS_NO_MEMORY, "no memory to replay a trace");
    }
    for (int32_t thread = 0; worker != NULL && thread < num_threads; thread++) {
        replay_close(worker[thread].replay);
    }
    arena_free(&arena);
    return status;
}

void trace_replay_free(struct trace_replay *replay)
{
    arena_free(&replay->arena);
    *replay = (struct trace_replay){0};
}

int64_t trace_replay_off_node(const struct trace_replay *replay, int32_t layer)
{
    int64_t tokens = 0;
    for (int32_t source = 0; source < replay->num_ranks; source++) {
        int32_t own = source / (replay->num_ranks / replay->num_nodes);
        for (int32_t node = 0; node < replay->num_nodes; node++) {
            int64_t there =
                replay->layer[layer].node_tokens[(int64_t)source * replay->num_nodes + node];
            tokens += node != own ? there : 0;
        }
    }
    return tokens;
}
