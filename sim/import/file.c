/*
 * file.c -- maps the files of an import, and finds out whose they are.
 */
#define _DEFAULT_SOURCE /* madvise */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "import/sink.h"

enum status import_file_open(struct import_file *file, const char *path, struct error *error)
{
    struct stat info;
    enum status status = STATUS_OK;
    *file = (struct import_file){.path = path};
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not block us */
    if (descriptor < 0 || fstat(descriptor, &info) != 0) {
        status = error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
    } else if (!S_ISREG(info.st_mode)) {
        status = error_add(error, STATUS_INVALID, "%s: is no regular file", path);
    } else if (info.st_size == 0) {
        status = error_add(error, STATUS_INVALID, "%s: is empty", path);
    } else {
        void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, descriptor, 0);
        if (data == MAP_FAILED) {
            status = error_add(error, STATUS_IO, "%s: cannot be mapped: %s", path, strerror(errno));
        } else {
            file->data = data;
            file->num_bytes = info.st_size;
        }
    }
    if (descriptor >= 0) {
        close(descriptor);
    }
    return status;
}

void import_file_close(struct import_file *file)
{
    if (file->data != NULL) {
        munmap((void *)(uintptr_t)file->data, (size_t)file->num_bytes);
    }
    *file = (struct import_file){.path = NULL};
}

void import_forget(const void *data, size_t num_bytes)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = (uintptr_t)data & ~(page - 1);
    uintptr_t end = ((uintptr_t)data + num_bytes) & ~(page - 1); /* the last page is still in use */
    if (end > first) {
        (void)madvise((void *)first, end - first, MADV_DONTNEED); /* a hint: no harm in failing */
    }
}

/* Reads the beginning of the first file. */
static enum status probe_open(struct import_probe *probe, unsigned char *text, const char *path,
                              struct error *error)
{
    struct stat info;
    const char *slash = strrchr(path, '/');
    *probe = (struct import_probe){.path = path, .name = slash != NULL ? slash + 1 : path};
    probe->text = text;
    text[0] = '\0';
    if (stat(path, &info) != 0) {
        return error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
    }
    probe->is_folder = S_ISDIR(info.st_mode);
    if (probe->is_folder) {
        return STATUS_OK;
    }
    if (!S_ISREG(info.st_mode)) {
        return error_add(error, STATUS_INVALID, "%s: is no regular file", path);
    }
    FILE *stream = fopen(path, "rb");
    if (stream == NULL) {
        return error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
    }
    probe->num_bytes = fread(text, 1, IMPORT_PROBE_BYTES, stream);
    text[probe->num_bytes] = '\0';
    (void)fclose(stream);
    if (probe->num_bytes == 0) {
        return error_add(error, STATUS_INVALID, "%s: is empty", path);
    }
    return STATUS_OK;
}

/* "npy, sglang_routed_experts, ..." */
static void list_formats(char *text, size_t room)
{
    int32_t count = 0;
    size_t used = 0;
    const struct import_format *const *all = import_formats(&count);
    for (int32_t i = 0; i < count && used < room; i++) {
        used += (size_t)snprintf(text + used, room - used, "%s%s", i > 0 ? ", " : "", all[i]->name);
    }
}

/* An answer of an inference server (OpenAI's API, or SGLang's own), but without its routing? */
static bool is_bare_response(const char *text)
{
    return strchr("{[ \n\r\t\xef", text[0]) != NULL &&
           (strstr(text, "\"choices\"") != NULL || strstr(text, "\"meta_info\"") != NULL) &&
           strstr(text, "\"routed_experts\"") == NULL;
}

static enum status refuse_unknown(const struct import_probe *probe, const char *names,
                                  struct error *error)
{
    if (is_bare_response((const char *)probe->text)) {
        return error_add(error, STATUS_INVALID,
                         "%s: responses without routed_experts: start vLLM or SGLang with "
                         "--enable-return-routed-experts (SGLang's requests also need "
                         "\"return_routed_experts\": true); moesim trace import --help lists all "
                         "formats",
                         probe->path);
    }
    return error_add(error, STATUS_INVALID,
                     "%s: looks like no format that is known; say with --from which of %s it is; "
                     "moesim trace import --help says what they are",
                     probe->path, names);
}

enum status import_detect(const struct import_format **format, const struct import_options *options,
                          struct error *error)
{
    char names[1024];
    list_formats(names, sizeof names);
    if (options->format != NULL) {
        *format = import_format_find(options->format);
        return *format != NULL
                   ? STATUS_OK
                   : error_add(error, STATUS_INVALID, "there is no format '%s'; there are %s",
                               options->format, names);
    }
    unsigned char *text = malloc(IMPORT_PROBE_BYTES + 1);
    if (text == NULL) {
        return error_add(error, STATUS_NO_MEMORY, "no memory to look into a file");
    }
    struct import_probe probe;
    int32_t count = 0;
    int32_t best = 0;
    const struct import_format *const *all = import_formats(&count);
    enum status status = probe_open(&probe, text, options->paths[0], error);
    for (int32_t i = 0; i < count && status == STATUS_OK; i++) {
        int32_t sure = all[i]->detect(&probe);
        if (sure > best) {
            best = sure;
            *format = all[i];
        }
    }
    if (status == STATUS_OK && best == 0) {
        status = refuse_unknown(&probe, names, error);
    }
    free(text);
    return status;
}
