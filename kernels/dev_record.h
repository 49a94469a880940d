/*
 * dev_record.h -- an event that can be timed, in a capture too.
 */
#ifndef MOESIM_DEV_RECORD_H
#define MOESIM_DEV_RECORD_H

#include <cuda_runtime_api.h>

#include "status.h"

/* In a capture the event becomes a node of its own, without which it could not be timed. */
static inline enum status dev_record(cudaEvent_t event, cudaStream_t stream)
{
    enum cudaStreamCaptureStatus capturing = cudaStreamCaptureStatusNone;
    if (cudaStreamIsCapturing(stream, &capturing) != cudaSuccess) {
        return STATUS_CUDA;
    }
    unsigned flags = capturing == cudaStreamCaptureStatusActive ? cudaEventRecordExternal
                                                                : cudaEventRecordDefault;
    return cudaEventRecordWithFlags(event, stream, flags) == cudaSuccess ? STATUS_OK : STATUS_CUDA;
}

#endif
