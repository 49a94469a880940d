/*
 * bench_cuda_nvml.c -- see bench_nvml.h. Prototypes and numbers are those of NVML's API reference
 * (nvmlClockType_t, nvmlTemperatureSensors_t), stable since 2016.
 */
#include "bench_nvml.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

enum { NVML_CLOCK_SM = 1, NVML_CLOCK_MEM = 2, NVML_TEMPERATURE_GPU = 0 };

struct nvml {
    void *library;
    void *device;
    int (*shutdown)(void);
    int (*driver)(char *version, unsigned bytes);
    int (*clock)(void *device, int type, unsigned *mhz);
    int (*power)(void *device, unsigned *milliwatts);
    int (*temperature)(void *device, int sensor, unsigned *celsius);
};

/* POSIX lets a data pointer hold a function; C does not convert it, so its bytes are copied. */
static int find(void *library, const char *name, void *function, size_t bytes)
{
    void *symbol = dlsym(library, name);
    memcpy(function, &symbol, bytes);
    return symbol != NULL;
}

#define FIND(name, function) find(nvml->library, name, &(function), sizeof(function))

struct nvml *nvml_open(const char *pci_bus_id)
{
    int (*init)(void);
    int (*by_bus)(const char *, void **);
    struct nvml *nvml = calloc(1, sizeof *nvml);
    if (nvml == NULL) {
        return NULL;
    }
    nvml->library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    if (nvml->library != NULL && FIND("nvmlInit_v2", init) &&
        FIND("nvmlDeviceGetHandleByPciBusId_v2", by_bus) && FIND("nvmlShutdown", nvml->shutdown) &&
        FIND("nvmlSystemGetDriverVersion", nvml->driver) &&
        FIND("nvmlDeviceGetClockInfo", nvml->clock) &&
        FIND("nvmlDeviceGetPowerUsage", nvml->power) &&
        FIND("nvmlDeviceGetTemperature", nvml->temperature) && init() == 0) {
        if (by_bus(pci_bus_id, &nvml->device) == 0) {
            return nvml;
        }
        nvml->shutdown();
    }
    if (nvml->library != NULL) {
        dlclose(nvml->library);
    }
    free(nvml);
    return NULL;
}

void nvml_close(struct nvml *nvml)
{
    if (nvml != NULL) {
        nvml->shutdown();
        dlclose(nvml->library);
        free(nvml);
    }
}

void nvml_read(struct nvml *nvml, struct bench_machine *machine)
{
    unsigned value;
    if (nvml->driver(machine->driver, sizeof machine->driver) != 0) {
        machine->driver[0] = '\0';
    }
    machine->sm_mhz = nvml->clock(nvml->device, NVML_CLOCK_SM, &value) == 0 ? (int32_t)value : 0;
    machine->hbm_mhz = nvml->clock(nvml->device, NVML_CLOCK_MEM, &value) == 0 ? (int32_t)value : 0;
    machine->power_w = nvml->power(nvml->device, &value) == 0 ? (double)value * 1e-3 : 0.0;
    machine->temperature_c =
        nvml->temperature(nvml->device, NVML_TEMPERATURE_GPU, &value) == 0 ? (int32_t)value : 0;
}
