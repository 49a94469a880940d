/*
 * import_directory.h -- a directory for an array and the trace that is made of it.
 *
 * For one program: TestSuite(name, .init = make_directory, .fini = remove_directory).
 */
#ifndef MOESIM_IMPORT_DIRECTORY_H
#define MOESIM_IMPORT_DIRECTORY_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static char directory[64];
static char array_path[96];
static char out_path[96];

static void make_directory(void)
{
    (void)snprintf(directory, sizeof directory, "/tmp/moesim-import-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
    (void)snprintf(array_path, sizeof array_path, "%s/experts.npy", directory);
    (void)snprintf(out_path, sizeof out_path, "%s/trace", directory);
}

static void remove_directory(void)
{
    char command[96];
    (void)snprintf(command, sizeof command, "rm -r %s", directory);
    cr_assert_eq(system(command), 0);
}

#endif
