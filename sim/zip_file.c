/* zip_file.c -- libzip, with limits on what an archive may claim. */
#include "zip_file.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zip.h>

/* Only regular files: libzip would wait for a pipe. */
static enum status file_size(int64_t *num_bytes, const char *path, struct error *error)
{
    struct stat info;
    if (stat(path, &info) != 0) {
        return error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
    }
    if (!S_ISREG(info.st_mode)) {
        return error_add(error, STATUS_INVALID, "%s: is no regular file", path);
    }
    *num_bytes = info.st_size;
    return STATUS_OK;
}

/* Members that share bytes unpack to far more than the archive is large, each with a fair ratio. */
static enum status check_members(const struct zip_file *zip, struct error *error)
{
    uint64_t sum = 0;
    for (int64_t index = 0; index < zip->num_members; index++) {
        zip_stat_t stat;
        bool is_known = zip_stat_index(zip->archive, (zip_uint64_t)index, 0, &stat) == 0 &&
                        (stat.valid & ZIP_STAT_COMP_SIZE) != 0 && (stat.valid & ZIP_STAT_SIZE) != 0;
        if (!is_known || stat.comp_size > (uint64_t)zip->num_bytes - sum) {
            return error_add(error, STATUS_INVALID,
                             "%s: member %lld: the archive's %lld bytes cannot hold what it claims",
                             zip->path, (long long)index, (long long)zip->num_bytes);
        }
        sum += stat.comp_size;
    }
    return STATUS_OK;
}

enum status zip_file_open(struct zip_file *zip, const char *path, struct error *error)
{
    *zip = (struct zip_file){.path = path};
    enum status status = file_size(&zip->num_bytes, path, error);
    if (status != STATUS_OK) {
        return status;
    }
    int code = 0;
    zip->archive = zip_open(path, ZIP_RDONLY, &code);
    if (zip->archive == NULL) {
        zip_error_t reason;
        zip_error_init_with_code(&reason, code);
        status = code == ZIP_ER_MEMORY ? STATUS_NO_MEMORY
                 : code == ZIP_ER_OPEN || code == ZIP_ER_READ || code == ZIP_ER_SEEK
                     ? STATUS_IO
                     : STATUS_INVALID;
        (void)error_add(error, status, "%s: is no ZIP archive that can be read: %s", path,
                        zip_error_strerror(&reason));
        zip_error_fini(&reason);
        return status;
    }
    zip->num_members = zip_get_num_entries(zip->archive, 0);
    status = check_members(zip, error);
    if (status != STATUS_OK) {
        zip_file_close(zip);
    }
    return status;
}

void zip_file_close(struct zip_file *zip)
{
    if (zip->archive != NULL) {
        zip_discard(zip->archive);
    }
    *zip = (struct zip_file){.archive = NULL};
}

const char *zip_file_name(const struct zip_file *zip, int64_t index)
{
    const char *name = zip_get_name(zip->archive, (zip_uint64_t)index, 0);
    return name != NULL ? name : "";
}

int64_t zip_file_find(const struct zip_file *zip, const char *name)
{
    return zip_name_locate(zip->archive, name, 0);
}

/* Says what is wrong with a member, its name cut and without control characters. */
static enum status refuse(const struct zip_member *member, const char *what, struct error *error)
{
    char name[80];
    size_t length = strlen(member->name);
    length = length < sizeof name ? length : sizeof name - 1;
    for (size_t i = 0; i < length; i++) {
        name[i] = (unsigned char)member->name[i] < ' ' ? '?' : member->name[i];
    }
    name[length] = '\0';
    return error_add(error, STATUS_INVALID, "%s: member %s: %s", member->zip->path, name, what);
}

enum status zip_member_open(struct zip_member *member, struct zip_file *zip, int64_t index,
                            struct error *error)
{
    zip_stat_t stat;
    *member = (struct zip_member){.zip = zip, .index = index, .name = zip_file_name(zip, index)};
    const zip_uint64_t wanted = ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD;
    if (zip_stat_index(zip->archive, (zip_uint64_t)index, 0, &stat) != 0 ||
        (stat.valid & wanted) != wanted) {
        return refuse(member, "its sizes are missing", error);
    }
    if ((stat.valid & ZIP_STAT_ENCRYPTION_METHOD) != 0 && stat.encryption_method != ZIP_EM_NONE) {
        return refuse(member, "is encrypted", error);
    }
    if (stat.comp_method == ZIP_CM_STORE ? stat.size != stat.comp_size
                                         : stat.comp_method != ZIP_CM_DEFLATE) {
        return refuse(member, "is neither stored nor deflated", error);
    }
    if (stat.size > INT64_MAX ||
        (stat.size > ZIP_FREE_BYTES && stat.size / ZIP_RATIO_MAX > stat.comp_size)) {
        return refuse(member, "claims to unpack to more than 200 times its size: a ZIP bomb?",
                      error);
    }
    member->num_bytes = (int64_t)stat.size;
    member->stream = zip_fopen_index(zip->archive, (zip_uint64_t)index, 0);
    return member->stream != NULL ? STATUS_OK : refuse(member, zip_strerror(zip->archive), error);
}

enum status zip_member_read(struct zip_member *member, void *data, int64_t bytes,
                            struct error *error)
{
    char *to = data;
    if (bytes > member->num_bytes - member->num_read) {
        return refuse(member, "ends too early; the file is truncated, write it again", error);
    }
    while (bytes > 0) {
        zip_int64_t got = zip_fread(member->stream, to, (zip_uint64_t)bytes);
        if (got <= 0) {
            return refuse(member,
                          got == 0 ? "unpacks to less than it claims"
                                   : zip_file_strerror(member->stream),
                          error);
        }
        to += got;
        bytes -= got;
        member->num_read += got;
    }
    char more;
    if (member->num_read == member->num_bytes) { /* at the end libzip compares the checksum */
        zip_int64_t got = zip_fread(member->stream, &more, 1);
        if (got != 0) {
            return refuse(member,
                          got > 0 ? "unpacks to more than it claims"
                                  : zip_file_strerror(member->stream),
                          error);
        }
    }
    return STATUS_OK;
}

void zip_member_close(struct zip_member *member)
{
    if (member->stream != NULL) {
        (void)zip_fclose(member->stream); /* what went wrong was told when it was read */
    }
    *member = (struct zip_member){.stream = NULL};
}

enum status zip_member_load(void **data, int64_t *num_bytes, struct zip_file *zip, int64_t index,
                            int64_t bytes_max, struct error *error)
{
    struct zip_member member;
    *data = NULL;
    *num_bytes = 0;
    enum status status = zip_member_open(&member, zip, index, error);
    if (status == STATUS_OK && member.num_bytes > bytes_max) {
        status = refuse(&member, "is larger than can be read", error);
    }
    if (status == STATUS_OK) {
        *data = malloc((size_t)member.num_bytes + 1);
        status = *data != NULL ? STATUS_OK
                               : error_add(error, STATUS_NO_MEMORY, "%s: no memory for %lld bytes",
                                           zip->path, (long long)member.num_bytes);
    }
    if (status == STATUS_OK) {
        status = zip_member_read(&member, *data, member.num_bytes, error);
    }
    if (status == STATUS_OK) {
        ((char *)*data)[member.num_bytes] = '\0';
        *num_bytes = member.num_bytes;
    } else {
        free(*data);
        *data = NULL;
    }
    zip_member_close(&member);
    return status;
}
