/*
 * fitted_products.c -- GEMMs of a phase, one after another: those that are asked for, and those of
 * attention, whose shapes follow from the model and its shards.
 */
#include "gpu/fitted_products.h"

#include <math.h>

#include "gpu/fitted_gemm.h"
#include "gpu/fitted_phases.h"

#define PRODUCTS_MAX 5

double fitted_products_ns(const struct gpu_spec *gpu, const struct gpu_work *work,
                          const struct gemm_constants *constants, const struct product *product,
                          int32_t count, double *table_ns)
{
    double ns = 0.0;
    for (int32_t i = 0; i < count; i++) {
        const struct gemm_shape shape = {.rows = (double)work->tokens,
                                         .columns = product[i].columns,
                                         .depth = product[i].depth,
                                         .groups = 1.0,
                                         .weight_bytes =
                                             precision_weight_bytes(constants->precision),
                                         .num_sms = gpu_gemm_sms(gpu, work),
                                         .gpu_sms = (double)gpu->num_sms,
                                         .hbm_taken = gpu_hbm_taken(gpu, work)};
        const struct measured_place place = measured_place_gemm(&shape, constants->precision);
        ns += fitted_or_measured_ns(gpu, &place, fitted_gemm_ns(constants, &shape), table_ns);
    }
    return ns;
}

/* The projections' weights on one shard; their number out. */
static int32_t list_projections(struct product *product, const struct moe_model *model,
                                double shards)
{
    double hidden = (double)model->hidden_dim;
    double heads = (double)model->num_q_heads / shards;
    if (model->attention == ATTENTION_GQA) {
        double width = (double)model->head_dim;
        double kv_heads = fmax(1.0, (double)model->num_kv_heads / shards);
        product[0] = (struct product){(heads + 2.0 * kv_heads) * width, hidden};
        product[1] = (struct product){hidden, heads * width};
        return 2;
    }
    double query = heads * (double)(model->qk_nope_dim + model->qk_rope_dim);
    double rank = (double)model->kv_lora_rank;
    int32_t count = 0;
    if (model->q_lora_rank > 0) {
        product[count++] = (struct product){(double)model->q_lora_rank, hidden};
        product[count++] = (struct product){query, (double)model->q_lora_rank};
    } else {
        product[count++] = (struct product){query, hidden};
    }
    product[count++] = (struct product){rank + (double)model->qk_rope_dim, hidden};
    product[count++] =
        (struct product){heads * (double)(model->qk_nope_dim + model->v_head_dim), rank};
    product[count++] = (struct product){hidden, heads * (double)model->v_head_dim};
    return count;
}

double fitted_projections_ns(const struct gpu_spec *gpu, const struct gpu_work *work,
                             const struct gemm_constants *gemm, double *table_ns)
{
    struct product product[PRODUCTS_MAX];
    int32_t count = list_projections(product, work->model, (double)work->shards);
    return fitted_products_ns(gpu, work, gemm, product, count, table_ns);
}

double fitted_gemms_ns(const struct gpu_spec *gpu, const struct gpu_work *work)
{
    const struct gemm_constants *gemm = fitted_find_gemm(gpu, work->model->precision_dense);
    double table_ns = 0.0;
    return gemm != NULL ? fitted_projections_ns(gpu, work, gemm, &table_ns) : 0.0;
}
