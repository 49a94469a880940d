/*
 * bench_measure.c -- moesim validate --device cpu: moe-bench measures, here and now.
 *
 * Fitted: some shapes, balanced and lognormal routing, one rank and two. Predicted: other shapes
 * and other routing, recorded where it is given. Everything runs on one thread a rank, so that what
 * else the machine does is left out of the phases' times (kernels/bench_cpu_forward.c).
 */
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/bench_cli.h"
#include "cli/cli.h"

#define PATH_BYTES    4096
#define ARGUMENTS_MAX 64
#define SKIPPED       77 /* kernels/bench.h: the device, or MPI, is not there */

extern char **environ;

/* moe-bench: beside this program as installed, in the build tree, or where $PATH finds it. */
static void find_bench(char path[PATH_BYTES])
{
    char here[PATH_BYTES - 64];
    ssize_t length = readlink("/proc/self/exe", here, sizeof here - 1);
    here[length > 0 ? length : 0] = '\0';
    char *slash = strrchr(here, '/');
    if (slash != NULL) {
        *slash = '\0';
        (void)snprintf(path, PATH_BYTES, "%s/moe-bench", here);
        if (access(path, X_OK) == 0) {
            return;
        }
        (void)snprintf(path, PATH_BYTES, "%s/kernels/moe-bench", here);
        if (access(path, X_OK) == 0) {
            return;
        }
    }
    (void)snprintf(path, PATH_BYTES, "moe-bench");
}

/* Cuts the words of line (no quotes) behind what is in argument already. */
static void add_words(char **argument, int *count, char *line)
{
    for (char *word = strtok(line, " "); word != NULL && *count < ARGUMENTS_MAX - 1;
         word = strtok(NULL, " ")) {
        argument[(*count)++] = word;
    }
    argument[*count] = NULL;
}

/* Runs a program, its table put aside; returns its exit code, 127 when it is not there. */
static int run(char **argument)
{
    pid_t process = 0;
    int state = 0;
    posix_spawn_file_actions_t actions;
    if (posix_spawn_file_actions_init(&actions) != 0) {
        return 127;
    }
    int failed = posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", 1, 0) != 0;
    failed = failed || posix_spawnp(&process, argument[0], &actions, NULL, argument, environ) != 0;
    posix_spawn_file_actions_destroy(&actions);
    while (!failed && waitpid(process, &state, 0) < 0) {
        failed = errno != EINTR;
    }
    return failed ? 127 : WIFEXITED(state) ? WEXITSTATUS(state) : 1;
}

struct measurement {
    const char *shape;
    const char *tokens;
    const char *routing; /* NULL: the recorded one, or lognormal */
    bool is_fit;
    bool is_parallel;
};

#define FIT_A "--name fit-a --num-experts 16 --top-k 2 --hidden-dim 768 --ffn-dim 1024"
#define FIT_B "--name fit-b --num-experts 32 --top-k 4 --hidden-dim 512 --ffn-dim 512"
#define FIT_C "--name fit-c --num-experts 8 --top-k 2 --hidden-dim 1024 --ffn-dim 1536"
#define FIT_D "--name fit-d --num-experts 64 --top-k 8 --hidden-dim 768 --ffn-dim 256"
#define NEW_A "--name new-a --num-experts 32 --top-k 4 --hidden-dim 640 --ffn-dim 768"
#define NEW_B "--name new-b --num-experts 64 --top-k 6 --hidden-dim 512 --ffn-dim 768"

/* Experts' weights of every shape are 100 MB and more: beyond most caches. */
static const struct measurement measurements[] = {
    {FIT_A, "1,4,16,64,256,512", "balanced,lognormal", true, false},
    {FIT_B, "1,4,16,64,256,512", "balanced,lognormal", true, false},
    {FIT_C, "1,4,16,64,256", "balanced,lognormal", true, false},
    {FIT_D, "1,4,16,64,256", "balanced,lognormal", true, false},
    {NEW_A, "2,12,48,128,384", NULL, false, false},
    {NEW_B, "2,12,48,128,384", "lognormal", false, false},
    {FIT_A, "4,16,64,256", "balanced,lognormal", true, true},
    {FIT_B, "4,16,64,256", "balanced,lognormal", true, true},
    {NEW_A, "12,48,128,384", NULL, false, true},
};

/* One run of moe-bench, rows appended to directory/fit.csv or new.csv. */
static int measure(const struct measurement *one, const char *bench, const char *directory,
                   const char *routing)
{
    char line[PATH_BYTES];
    char csv[PATH_BYTES];
    char *argument[ARGUMENTS_MAX];
    int count = 0;
    char launch[] = "mpirun --oversubscribe -np 2";
    char as_root[] = "--allow-run-as-root";
    char program[PATH_BYTES];
    char recorded[PATH_BYTES];
    char csv_option[] = "--csv";
    char routing_option[] = "--routing";
    if (one->is_parallel) {
        add_words(argument, &count, launch);
        if (getuid() == 0) {
            argument[count++] = as_root;
        }
    }
    (void)snprintf(program, sizeof program, "%s", bench);
    argument[count++] = program;
    (void)snprintf(line, sizeof line,
                   "forward --device cpu --threads 1 --renormalize --samples %d %s --tokens %s",
                   one->is_parallel ? 20 : 5, one->shape, one->tokens);
    add_words(argument, &count, line);
    (void)snprintf(csv, sizeof csv, "%s/%s.csv", directory, one->is_fit ? "fit" : "new");
    (void)snprintf(recorded, sizeof recorded, "%s",
                   one->routing != NULL ? one->routing
                   : routing != NULL    ? routing
                                        : "lognormal,uniform");
    argument[count++] = routing_option;
    argument[count++] = recorded;
    argument[count++] = csv_option;
    argument[count++] = csv;
    argument[count] = NULL;
    return run(argument);
}

/* fit.csv and new.csv into the directory. Returns 0 or the exit code, told already. */
static int measure_all(const char *directory, const char *routing)
{
    char bench[PATH_BYTES];
    bool has_mpi = true;
    find_bench(bench);
    for (size_t i = 0; i < sizeof measurements / sizeof measurements[0]; i++) {
        const struct measurement *one = &measurements[i];
        if (one->is_parallel && !has_mpi) {
            continue;
        }
        int code = measure(one, bench, directory, routing);
        if ((code == 127 || code == SKIPPED) && one->is_parallel) {
            has_mpi = false;
            fputs("moesim: no MPI here: two ranks are left out\n", stderr);
        } else if (code == 127) {
            return cli_usage("validate",
                             "%s cannot be run: ./bootstrap install-to DIR puts it beside moesim",
                             bench);
        } else if (code != 0) {
            return cli_usage("validate", "%s failed with exit code %d, see above", bench, code);
        }
    }
    return 0;
}

int bench_validate_cpu(const char *routing, bool as_json)
{
    const char *temporary = getenv("TMPDIR");
    char directory[PATH_BYTES / 2];
    char fit[PATH_BYTES];
    char new[PATH_BYTES];
    (void)snprintf(directory, sizeof directory, "%s/moesim-XXXXXX",
                   temporary != NULL ? temporary : "/tmp");
    if (mkdtemp(directory) == NULL) {
        return cli_usage("validate", "%s: %s", directory, strerror(errno));
    }
    (void)snprintf(fit, sizeof fit, "%s/fit.csv", directory);
    (void)snprintf(new, sizeof new, "%s/new.csv", directory);
    int code = measure_all(directory, routing);
    if (code == 0) {
        code = bench_validate(fit, new, as_json);
    }
    unlink(fit);
    unlink(new);
    rmdir(directory);
    return code;
}
