/*
 * bench_nvml.h -- clocks, power and temperature, where the driver's management library is.
 *
 * Opened at run time: a machine without the library still runs everything, and the toolkit need not
 * have its header. Only reads; settings stay as they are.
 */
#ifndef MOESIM_BENCH_NVML_H
#define MOESIM_BENCH_NVML_H

#include "bench_csv.h"

struct nvml;

/* The GPU at a PCI bus id, as cudaDeviceGetPCIBusId writes it. NULL: no library, or it refuses. */
struct nvml *nvml_open(const char *pci_bus_id);
void nvml_close(struct nvml *nvml); /* NULL: does nothing */

/* Fills in what can be read: driver, clocks, power, temperature. */
void nvml_read(struct nvml *nvml, struct bench_machine *machine);

#endif
