/*
 * responses.h -- API responses that carry the experts of their tokens, from any engine.
 */
#ifndef MOESIM_RESPONSES_H
#define MOESIM_RESPONSES_H

#include "import/import.h"

/* Reads every routed_experts of every response: base64 of a whole .npy file, of bytes with shape
 * and dtype beside them, or of bytes alone (int32 unless a dtype is beside them), which then have
 * the model's layers, dense ones too, and its top_k. is_raw: bytes alone are what the format has.
 */
MUST_CHECK enum status responses_read(const struct import_input *input, struct import_sink *sink,
                                      bool is_raw);

/* 0: no such response; else how sure, 60 or more. *is_npy: bytes of a .npy file; *has_shape: with a
 * shape. */
int32_t responses_detect(const struct import_probe *probe, bool *is_npy, bool *has_shape);

#endif
