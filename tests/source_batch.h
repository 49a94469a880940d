/*
 * source_batch.h -- a batch on which the code of the field's libraries was run.
 *
 * Logits are multiples of 1/64, so float16 holds them; drawn with a skew towards small ids, and no
 * two of a token's three best are equal. The values that tests expect of it were computed by
 * Megatron-LM @ d98e8a6, DeepSpeed @ edaa722, Tutel @ 82af7aa and fastmoe @ ee3c561 under PyTorch
 * 2.15 on a CPU, or by the formulas of mesh_tensorflow and vmoe in numpy. What a token has is a
 * mask, bit e for expert e.
 */
#ifndef MOESIM_SOURCE_BATCH_H
#define MOESIM_SOURCE_BATCH_H

#include <stdint.h>

#define SOURCE_TOKENS  24
#define SOURCE_EXPERTS 8

static const int16_t source_logits_64[SOURCE_TOKENS][SOURCE_EXPERTS] = {
    {44, 73, 90, -73, -11, 2, -73, -105},    {155, 14, -42, -13, 45, 49, -17, 22},
    {-5, 27, 155, -5, 13, 34, 35, -94},      {83, 34, -84, -6, -132, 27, -117, -135},
    {91, 46, 43, 163, 61, -58, -85, -87},    {6, 131, 137, -52, -17, -32, 0, -31},
    {85, 31, 30, -9, -190, -84, -52, 12},    {200, 48, 4, -119, 73, -40, -55, 0},
    {105, 60, -1, 67, -80, -126, -69, -87},  {39, 125, 62, 7, -52, -41, -98, -10},
    {-48, 74, 69, 36, -8, -77, 80, 15},      {70, 37, 80, 79, -53, -6, 0, 43},
    {62, 101, 100, -55, 8, -17, -58, -14},   {121, 170, -46, 129, 32, -26, -3, -122},
    {24, 28, 72, 22, -38, -47, 9, -9},       {44, 122, -45, 48, -28, 23, -14, 28},
    {132, 57, 68, -31, -14, -67, -169, -96}, {189, -51, 11, 51, 8, -113, -90, 33},
    {113, 38, 106, -56, 134, -50, 19, -43},  {100, 13, 6, 19, 46, -85, -66, -40},
    {140, -18, 27, 25, 90, -43, -21, -94},   {53, 2, -12, 31, -48, -24, 29, -38},
    {66, -6, 84, 29, 45, -60, -13, 46},      {116, 97, 130, -34, -138, -98, -95, -48},
};

#endif
