/*
 * cluster.h -- GPUs, and how they are wired.
 *
 * Two tiers: scale-up (NVLink: GPUs of one node or rack domain) and scale-out (RDMA: one NIC a GPU
 * unless said otherwise). Rank r sits on node r / gpus_per_node.
 */
#ifndef MOESIM_CLUSTER_H
#define MOESIM_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "model.h"
#include "precision.h"
#include "status.h"

enum tier {
    TIER_SCALE_UP,
    TIER_SCALE_OUT,
    TIER_COUNT,
};

/* One direction of one GPU's port. */
struct port_spec {
    double bytes_per_s; /* nominal, unidirectional */
    double fraction;    /* of nominal that payload reaches (protocol, measured; see source) */
    double latency_ns;  /* first byte, one way */
};

#define FITTED_MAX    24
#define HOLDOUT_BYTES 256

/* Rows of a tile of grouped GEMMs: whatever is fastest where a tuner chooses, one for all, what
 * vLLM's Triton kernels take by the rows of a rank where nothing was tuned, what TensorRT-LLM's
 * DeepGEMM takes by the mean tokens of an expert, what kernels of weights in mxfp4 take by the mean
 * choices of a slot, what SGLang's Triton kernels take by a table (gpu/sglang_tiles.c), or what a
 * tuner found fastest for tokens dealt out evenly (TensorRT-LLM's CUTLASS kernels). */
enum tile_height {
    TILE_ROWS_TUNED,
    TILE_ROWS_16,
    TILE_ROWS_32,
    TILE_ROWS_64,
    TILE_ROWS_128,
    TILE_ROWS_256,
    TILE_ROWS_VLLM,
    TILE_ROWS_DEEPGEMM,
    TILE_ROWS_CHOICES,
    TILE_ROWS_SGLANG,
    TILE_ROWS_EVEN,
};

/* Their names in YAML. */
extern const char *const tile_height_names[];

/* What constants rest on, and how far they were off on rows that the fit had not seen. */
struct fit_evidence {
    char fitted_on[SOURCE_BYTES]; /* the measurements */
    char holdout[HOLDOUT_BYTES];  /* how rows were held out, and the errors by class of rows */
    int32_t num_rows;             /* that were fitted */
    double error_median;          /* absolute, relative, of all held-out rows; a fraction */
    double error_p90;
};

/* Constants of the compute model `fitted` (sim/gpu/fitted.h) for one set of kernels in one
 * format. */
struct fitted_kernels {
    char kernels[NAME_BYTES]; /* trtllm, vllm, sglang, ours, or a variant of one */
    enum precision precision; /* of the expert weights */
    double t0_ns;             /* launches and drains of the whole phase */
    double weight_bytes_per_s;
    double flops_per_s;            /* of a tile of many rows, all SMs together */
    double activation_bytes_per_s; /* permute, activation and reduction of the copies */
    double row_bytes_per_s;        /* what is read and written once a token, not once a copy */
    double slot_ns;                /* of every slot, with tokens or without */
    double depth_ns;               /* of each unit of a GEMM's K: its pipeline, once a GEMM */
    double tile_ns;                /* begin and end of a tile */
    double tile_rows_lost;         /* a tile of m rows takes the time of m + tile_rows_lost */
    double few_rows_share;         /* how many times as fast weights stream where a rank has no more
                                      tokens than experts, and as short pipelines are; of vLLM's
                                      tiles, pipelines up to 64 tokens; of SGLang's, weights of all
                                      tiles but the default's; 0: as otherwise */
    double choice_hidden_bytes_per_s; /* hidden_dim of each choice of a token, other ranks' too;
                                         0: they cost nothing, as the next three */
    double choice_ffn_bytes_per_s;    /* likewise its intermediate */
    double slot_ffn_ns;               /* of every slot, for each unit of ffn_dim */
    double busiest_ns;                /* of each token of the busiest slot */
    double depth_blend;               /* p of the norm that joins depth_ns and the rest of a GEMM;
                                         0: 1, their sum */
    double again_share;           /* of a slot's weights, that each tile of rows behind its first
                                     streams again; 0: none */
    double sustained_flops_per_s; /* arithmetic alone, at clocks that sink under load, joined
                                with the phase by a norm of p = 2; 0: they do not sink */
    double gather_bytes_per_s;  /* SGLang's default tiles: at which they read rows that L2 has lost
                                   of a slot that has many; 0: none are */
    double scatter_bytes_per_s; /* likewise of rows that lie among many others */
    double loop_share; /* of their time that weights take which a loop of measurements meets
                          in L2 again; 0: all */
    double sort_ns;    /* more, of ranks with over 256 tokens: choices are then sorted by
                          three kernels instead of one */
    enum tile_height tile_rows;
    double blend;     /* p of the norm that joins streaming and arithmetic */
    double many_rows; /* from so many tokens of a rank on the engine runs others; 0: never */
    char many_kernels[NAME_BYTES]; /* those, of this GPU and precision */
    struct fit_evidence fit;
};

/* How a library cuts a GEMM into tiles. */
enum tile_choice {
    TILES_TUNED,                /* whatever is fastest, split along the depth where tiles are few */
    TILES_FEWEST_WAVES,         /* DeepGEMM's rule: fewest waves, then the fullest last wave */
    TILES_FEWEST_WAVES_SWAPPED, /* the same, but below 32 rows weights take the rows */
    TILES_FIXED,                /* 128 x 256, whatever the shape */
    TILES_TUNED_WHOLE,          /* tuned, and never split along the depth: DeepGEMM on Blackwell */
    TILE_CHOICE_COUNT,
};

/* Constants of a dense or grouped GEMM (sim/gpu/fitted_gemm.h), of one library in one format. */
struct gemm_constants {
    char kernels[NAME_BYTES];
    enum precision precision; /* of the weights */
    int32_t tiles;            /* enum tile_choice */
    int32_t picks;            /* enum library_picks (gpu/library_picks.h) */
    double t0_ns;             /* launch and drain, of the kernels that quantise the input as well */
    double weight_bytes_per_s;
    double flops_per_s;         /* of full tiles, all SMs together */
    double feed_bytes_per_s;    /* from L2 into all SMs: both operands of every tile */
    double prepare_bytes_per_s; /* the bf16 input read once more, to quantise it */
    double output_bytes_per_s;
    double tile_ns;  /* begin and end of a tile */
    double split_ns; /* of adding up parts, where tiles are split along the depth */
    double depth_ns; /* of each unit of the depth: the latency of a tile's loop */
    double
        uneven_share; /* fewest_waves: how much slower a tile is whose width does not divide 128 */
    double pad_ns;    /* fewest_waves: of a missing row of the last tile and a unit of depth */
    double sustained_flops_per_s; /* fixed: what clocks sink to under load; 0: they do not */
    double
        cache_bytes; /* what L2 keeps of input and, where they come again, weights; 0: all input */
    double sink_share; /* of their speed that clocks lose in kernels of many milliseconds */
    double blend;      /* p of the norm that joins streaming and arithmetic */
    struct fit_evidence fit;
};

enum attention_phase {
    PHASE_GQA_DECODE,
    PHASE_GQA_PREFILL,
    PHASE_MLA_DECODE, /* in the absorbed form */
    PHASE_MLA_PREFILL,
    PHASE_MODULE_DECODE, /* MLA with its projections */
    PHASE_MODULE_PREFILL,
    ATTENTION_PHASE_COUNT,
};

/* How a library splits sequences over SMs when it decodes. */
enum split_rule {
    SPLITS_FILLING,    /* modules as flash-attention: as little as fills the SMs; else as even */
    SPLITS_FLASHINFER, /* into parts of the even share, rounded up in steps */
    SPLITS_EVEN,       /* as many parts as SMs idle; of engines' GQA, with constants of its own */
    SPLITS_XQA,        /* as TensorRT-LLM's XQA; the constants are those of even */
};

/* Constants of attention (sim/gpu/fitted_attention.h), of one library in one format. */
struct attention_constants {
    char kernels[NAME_BYTES];
    enum precision precision; /* of the KV cache; of a module: of its weights */
    int32_t phase;            /* enum attention_phase */
    int32_t splits;           /* enum split_rule */
    double heads_min; /* of so many query heads on a GPU or more: other kernels; 0: of any */
    double t0_ns;
    double floor_ns; /* never less: what the host needs to launch it; 0: a graph does */
    double kv_bytes_per_s;
    double flops_per_s;        /* of scores and sums */
    double tile_ns;            /* begin and end of the work on a sequence and KV head; prefill: on
                                  a block of queries and a head */
    double split_share;        /* decode: how much slower sequences that are split over SMs are */
    double sm_bytes_per_s;     /* decode: of KV into all SMs; 0: as fast as need be */
    double alone_share;        /* decode: how much slower an SM with one block and no next is */
    double sum_bytes_per_s;    /* decode: partial sums, written and read; 0: no cost of their own */
    double merge_ns;           /* decode: adding up the parts of split sequences, once */
    double part_ns;            /* decode: more on merge_ns, of each part but the first */
    double sequence_ns;        /* a module's prefill: of each sequence */
    double blend;              /* p of the norm that joins streaming and arithmetic */
    double weight_bytes_per_s; /* a module's projections, as are all below; 0: no module */
    double gemm_flops_per_s;
    double row_bytes_per_s; /* all that is read and written once a token and unit of hidden_dim */
    double narrow_ns;       /* decode: more, of fewer than 8 tokens: other GEMM kernels; of engines:
                               more, where a key and its value have less than 256 bytes */
    double head_row_bytes_per_s; /* prefill: all that is read and written once a token and head */
    double floor_blend;          /* prefill: p of the norm that joins floor and work */
    double slow_share;           /* prefill: how much slower long work is than short, */
    double slow_ns;              /* and how long work is of which half of that is seen */
    /* Of splits: even and xqa (sim/gpu/fitted_gqa.h), which use flops_per_s, row_bytes_per_s,
     * sequence_ns, merge_ns, part_ns and narrow_ns as well. */
    double wave_blend;            /* p of the norm that joins one block and all blocks of an SM */
    double dim_ns;                /* decode: more on tile_ns for each element of a head */
    double single_tile_ns;        /* decode: tile_ns where each query head has KV of its own, */
    double single_sm_bytes_per_s; /* and sm_bytes_per_s: other kernels */
    double group_min;             /* decode: of fewer query heads a KV head, */
    double group_max;             /* or of more, kernels take heads one by one; 0: of no number */
    double single_t0_ns;          /* those kernels' t0_ns, */
    double single_merge_ns;       /* merge_ns, */
    double single_overlap;        /* and overlap */
    double overlap;               /* decode: blocks that an SM runs at once; 0: one */
    double row_tile_ns;        /* decode: more on tile_ns, of a padded query head of 128 elements */
    double cache_bytes;        /* decode: of KV that a loop of measurements meets in the L2 */
    double miss_ns;            /* decode: more, where KV is larger than that */
    double exps_per_s;         /* prefill: of scores */
    double kv_row_bytes_per_s; /* prefill: of KV, written, read and converted once */
    struct fit_evidence fit;
};

#define GEMM_CONSTANTS_MAX      16
#define ATTENTION_CONSTANTS_MAX 32

struct measured_table; /* gpu/measured.h */

struct gpu_spec {
    char name[NAME_BYTES];
    char source[SOURCE_BYTES];
    double flops_per_s[PRECISION_COUNT]; /* dense peak; 0: the format is not supported */
    double flops_fraction;               /* of peak that large GEMMs sustain */
    int64_t hbm_bytes;
    double hbm_bytes_per_s;
    double hbm_fraction; /* of nominal that streaming reads sustain */
    double l2_bytes;     /* 0: unknown */
    double kernel_ns;    /* launch and drain of one kernel inside a CUDA graph */
    int32_t num_sms;
    double tdp_watts;
    double allin_watts; /* GPU, its share of the host, network and cooling; 0: unknown */
    struct port_spec port[TIER_COUNT];
    struct port_spec host; /* from host memory, as pinned copies reach it; 0 bytes_per_s: unknown */
    int32_t num_fitted;
    int32_t fitted_chosen; /* of experts: the scenario's compute.kernels; -1: none, a roofline */
    char kernels_alone[NAME_BYTES]; /* compute.kernels that are GEMMs measured alone; "": not so */
    struct fitted_kernels fitted[FITTED_MAX];
    int32_t num_gemm;
    struct gemm_constants gemm[GEMM_CONSTANTS_MAX]; /* gpu/fitted_choice.c takes one of a format */
    int32_t num_attention;
    struct attention_constants attention[ATTENTION_CONSTANTS_MAX];
    const struct measured_table *measured; /* compute.measured: the scenario's; NULL: none */
    int32_t glue_set; /* enum glue_set: whose small kernels lie between those (gpu/glue.h) */
};

/* What lies between NICs of different nodes. */
enum fabric {
    FABRIC_FLAT,   /* nothing that could block */
    FABRIC_LEAVES, /* nodes_per_leaf nodes share a leaf switch, leaves are joined by a spine */
    FABRIC_RAILS,  /* NICs of one index of nodes_per_leaf nodes do: a leaf a rail */
};

/* What one direction of an all-to-all costs beside what its plan puts on the ports: constants of a
 * library's kernels on a kind of cluster (collective/exchange.h has the form). */
struct exchange_constants {
    double startup_ns;       /* kernel, handshake and barrier inside one scale-up domain */
    double far_startup_ns;   /* the same where the ranks span nodes */
    double node_ns;          /* more for each other node */
    double doubling_ns;      /* more for each doubling of the ranks of a node */
    double expert_ns;        /* more for each slot of the layer */
    double far_expert_ns;    /* more for each slot on another node */
    double fill_ns;          /* most that filling its pipeline costs */
    double fill_half_ns;     /* length of transfer at which half of that is paid */
    double token_ns;         /* more for each token of a rank */
    double token_byte_ns;    /* more for each byte of a token, which passes through first */
    double scale_up_share;   /* of the port's nominal rate that is reached */
    double scale_out_share;  /* likewise */
    double copy_bytes_per_s; /* that its SMs copy, all of num_sms */
    double own_copies;       /* that reading or adding up a token of the rank's own counts as */
    double copy_extra_bytes; /* that handling a copy counts as */
    double slot_blocks;      /* 1: only SMs with a block of slots copy; 0: all do */
    double blend;            /* p of the norm that joins both ports and the copying */
};

enum exchange {
    EXCHANGE_DISPATCH,
    EXCHANGE_COMBINE,
    EXCHANGE_PREPARE,     /* before a dispatch, where the library has it as a kernel of its own */
    EXCHANGE_COMBINE_LOW, /* a combine of quantised sums, where it is a kernel of its own */
    EXCHANGE_COUNT,
};

/* Constants of one collective in one library. */
struct fitted_collective {
    char collective[NAME_BYTES];
    char dtype[NAME_BYTES]; /* of the dispatched payload, "any": of every one */
    char library[NAME_BYTES];
    int32_t
        num_sms; /* that copy_bytes_per_s is of; 0: not known, so it does not change with them */
    bool has[EXCHANGE_COUNT];
    struct exchange_constants exchange[EXCHANGE_COUNT];
    struct fit_evidence fit;
};

#define COLLECTIVES_MAX 12

struct cluster {
    struct gpu_spec gpu;
    char preset[NAME_BYTES]; /* of scenarios/clusters/; "": none */
    int32_t num_fitted;
    struct fitted_collective fitted[COLLECTIVES_MAX];
    int32_t num_nodes;
    int32_t gpus_per_node;
    double node_uplink_bytes_per_s; /* one direction, shared by the node's NICs; 0: one rail a NIC,
                                       no shared link (network model flow only) */
    enum fabric fabric;             /* network model flow only, as are the next two */
    int32_t nodes_per_leaf;
    double spine_oversubscription; /* rates of a leaf's NICs over those of its uplinks; >= 1 */
    int32_t fitted_used; /* 1 + index of the constants in use; 0: the collective's own start-ups */
};

static inline int32_t cluster_num_gpus(const struct cluster *cluster)
{
    return cluster->num_nodes * cluster->gpus_per_node;
}

static inline int32_t cluster_node(const struct cluster *cluster, int32_t rank)
{
    uint32_t gpus = (uint32_t)cluster->gpus_per_node;
    if ((gpus & (gpus - 1)) == 0) { /* eight, as a rule; a division a message is dear */
        return rank >> __builtin_ctz(gpus);
    }
    return rank / cluster->gpus_per_node;
}

/* A node's ranks are neighbours: whether a rank is of the node whose first is node_begin. */
static inline bool cluster_on_node(const struct cluster *cluster, int32_t node_begin, int32_t rank)
{
    return (uint32_t)rank - (uint32_t)node_begin < (uint32_t)cluster->gpus_per_node;
}

static inline enum tier cluster_tier(const struct cluster *cluster, int32_t rank_a, int32_t rank_b)
{
    return cluster_node(cluster, rank_a) == cluster_node(cluster, rank_b) ? TIER_SCALE_UP
                                                                          : TIER_SCALE_OUT;
}

/* Loads a preset of scenarios/gpus/ by name or alias, or a YAML path. Errors as model_load. */
MUST_CHECK enum status gpu_load(struct gpu_spec *gpu, const char *name_or_path,
                                struct error *error);

/* The experts' kernels that an engine runs for so many tokens of a rank: those given, or others
 * that take over from them (many_rows). */
const struct fitted_kernels *gpu_experts_of(const struct gpu_spec *gpu,
                                            const struct fitted_kernels *fitted, double rows);

/* GPUs of a scale-up domain where nobody says: of a rack for GPUs that are sold by it, else eight.
 */
int32_t gpu_usual_node(const struct gpu_spec *gpu);

/* Whether all presets of scenarios/gpus/ can be loaded, with what is wrong in each: where rows of a
 * table are matched with presets, a broken one would pass for an unknown GPU. */
MUST_CHECK enum status gpu_check_presets(struct error *error);

/* Loads a preset of scenarios/clusters/ by name or alias, or a YAML path, with its GPU: gpu,
 * gpus_per_node and the fitted collectives of cluster are filled, the rest is left as it is. A
 * GPU's YAML is looked for beside the cluster's. Errors as model_load. */
MUST_CHECK enum status cluster_load(struct cluster *cluster, const char *name_or_path,
                                    struct error *error);

/* The constants for a collective whose payload has that format: those of the format, else those of
 * any, else the first; NULL where the cluster has none for the collective. */
const struct fitted_collective *cluster_constants(const struct cluster *cluster,
                                                  const char *collective, const char *dtype);

/* Exchanges go by these constants from now on, by none where there are none. */
void cluster_use_constants(struct cluster *cluster, const char *collective, const char *dtype);

#endif
