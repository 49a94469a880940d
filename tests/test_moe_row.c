/* test_moe_row.c -- whose kernels a row of the MoE table is of. */
#include <criterion/criterion.h>
#include <unistd.h>

#include "moe_rows.h"
#include "text_file.h"

#define HEADER                                                                                     \
    "row_id,gpu,framework,version,kernel_source,dtype,model_shape,num_experts,topk,hidden,inter,"  \
    "moe_tp,moe_ep,tokens,distribution,latency_us,source\n"
#define VLLM(id, version, source, dtype)                                                           \
    id ",NVIDIA B200,VLLM," version "," source "," dtype ",DeepSeek-V3,256,8,7168,2048,1,2,64,"    \
       "balanced,9,us\n"

Test(moe_row, knows_vllms_kernels_on_blackwell)
{
    static const char text[] = HEADER VLLM("1", "0.19.0", "vllm_fused_moe", "fp8_block")
        VLLM("2", "0.24.0", "vllm_fp8moe_flashinfer_trtllm_experts", "fp8_block")
            VLLM("3", "0.24.0", "vllm_compressedtensorsw4a4nvfp4moe_flashinfer_trtllm_experts",
                 "nvfp4") VLLM("4", "0.19.0", "vllm_flashinfer_trtllm_moe_fp4", "nvfp4");
    static const struct {
        const char *kernels;
        enum precision precision;
        bool is_grouped;
    } known[] = {{"vllm_triton", PRECISION_FP8, false},
                 {"vllm", PRECISION_FP8, true},
                 {"vllm", PRECISION_NVFP4, true},
                 {"vllm", PRECISION_NVFP4, false}};
    struct error error = {0};
    struct moe_rows rows;
    const char *path = text_file(".csv", text);
    cr_assert_eq(moe_rows_read(&rows, path, &error), STATUS_OK, "%s", error.text);
    unlink(path);

    for (int32_t i = 0; i < 4; i++) {
        cr_expect_eq(rows.row[i].skip, MOE_USED, "row %d", (int)i);
        cr_expect_str_eq(rows.row[i].kernels, known[i].kernels, "row %d", (int)i);
        cr_expect_eq(rows.row[i].precision, known[i].precision, "row %d", (int)i);
        cr_expect_eq(rows.row[i].gate.is_grouped, known[i].is_grouped, "row %d", (int)i);
    }
    moe_rows_free(&rows);
}
