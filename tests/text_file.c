/* text_file.c -- see text_file.h. */
#include "text_file.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <unistd.h>

const char *text_file(const char *extension, const char *text)
{
    static char path[64];
    (void)snprintf(path, sizeof path, "/tmp/moesim-test-%d%s", (int)getpid(), extension);
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    cr_assert_geq(fputs(text, file), 0);
    cr_assert_eq(fclose(file), 0);
    return path;
}
