/*
 * figure_draw.c -- has gnuplot draw the figures.
 *
 * A figure's commands are the same for all its forms; what differs is terminal and size. They go
 * to gnuplot as a file in the figures' directory, where it runs, so no shell and no name that a
 * user chose is involved.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "figure.h"
#include "textfile.h"

#define NO_CHILD            (-1)
#define EXIT_NO_GNUPLOT     127
#define GNUPLOT_WORDS_BYTES 600 /* of what gnuplot complained about */

#define FRAME_PIXELS        150 /* of a figure's height: title, axes and labels */

static const struct form {
    const char *terminal;
    const char *font;
    const char *suffix;
    enum figure_form form;
    int width;
    int height;
    double scale; /* of the page's pixels */
} forms[] = {
    {"svg", "sans-serif,14", ".svg", FIGURE_WIDE, 960, 440, 1.0},
    {"svg", "sans-serif,12", ".narrow.svg", FIGURE_NARROW, 390, 400, 1.0},
    {"png truecolor", "DejaVu Sans,14", ".png", FIGURE_WIDE, 1440, 660, 1.5},
};

/* Bars of many rows need room, but gnuplot and browsers have their limits. */
static int form_height(const struct form *form, const struct figure *figure)
{
    double rows = (double)(figure->rows.num_rows < 200 ? figure->rows.num_rows : 200);
    double needed = FRAME_PIXELS + rows * (double)figure->row_pixels[form->form];
    int height = (int)(needed * form->scale);
    return height > form->height ? height : form->height;
}

/* What is written last may be what finds the disk full. */
static enum status close_written(FILE *file, const char *path, struct error *error)
{
    bool failed = fflush(file) != 0 || ferror(file) != 0;
    int reason = errno;
    failed = fclose(file) != 0 || failed;
    return failed ? error_add(error, STATUS_IO, "%s: cannot be written: %s", path, strerror(reason))
                  : STATUS_OK;
}

static enum status write_script(const struct figure *figure, const struct figure_list *list,
                                const char *directory, struct error *error)
{
    char path[FILE_PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s.gp", directory, figure->name);
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        return error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
    }
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        const struct form *form = &forms[i];
        fprintf(file, "csv = '%s.tabs'\nnarrow = %d\nheight = %.1f\n", figure->name,
                form->form == FIGURE_NARROW, form_height(form, figure) / form->scale);
        fprintf(file, "set terminal %s size %d,%d font '%s' noenhanced\nset output '%s%s'\n",
                form->terminal, form->width, form_height(form, figure), form->font, figure->name,
                form->suffix);
        fprintf(file, "currency = '%s'\nusd_per_unit = %.17g\n", currency_code(&list->shown),
                currency_usd_per_unit(&list->shown));
        fprintf(file, "%s\n%s\nset output\n", list->style, figure->commands);
        fprintf(file,
                "set print '%s.box' append\n"
                "print GPVAL_TERM_XMIN, GPVAL_TERM_XMAX, GPVAL_TERM_YMIN, GPVAL_TERM_YMAX, "
                "GPVAL_TERM_XSIZE / 100.0, GPVAL_TERM_YSIZE / 100.0\n"
                "set print\nreset\n",
                figure->name);
    }
    return close_written(file, path, error);
}

/* The data as one kind of file. */
static enum status write_data(const struct figure *figure, const char *directory,
                              const char *suffix,
                              void (*write_rows)(const struct rows *rows, FILE *file),
                              struct error *error)
{
    char path[FILE_PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s%s", directory, figure->name, suffix);
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        return error_add(error, STATUS_IO, "%s: %s", path, strerror(errno));
    }
    write_rows(&figure->rows, file);
    return close_written(file, path, error);
}

/* The child's life: only calls that are safe after fork in a program with threads. */
static void become_gnuplot(const char *directory, const char *script, const char *log)
{
    int output = -1;
    if (chdir(directory) == 0) {
        output = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    }
    if (output >= 0 && dup2(output, STDOUT_FILENO) >= 0 && dup2(output, STDERR_FILENO) >= 0) {
        execlp("gnuplot", "gnuplot", "-d", script, (char *)NULL); /* -d: no user's start-up file */
    }
    _exit(EXIT_NO_GNUPLOT);
}

static pid_t start_gnuplot(const struct figure *figure, const char *directory)
{
    char script[NAME_BYTES + 8], log[NAME_BYTES + 8];
    snprintf(script, sizeof script, "%s.gp", figure->name);
    snprintf(log, sizeof log, "%s.log", figure->name);
    pid_t child = fork();
    if (child == 0) {
        become_gnuplot(directory, script, log);
    }
    return child;
}

static void remove_file(const char *directory, const char *name, const char *suffix)
{
    char path[FILE_PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s%s", directory, name, suffix);
    unlink(path);
}

/* gnuplot's own words, on one line. */
static void read_complaint(char words[GNUPLOT_WORDS_BYTES], const char *directory, const char *name)
{
    char path[FILE_PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s.log", directory, name);
    FILE *file = fopen(path, "r");
    size_t bytes = file == NULL ? 0 : fread(words, 1, GNUPLOT_WORDS_BYTES - 1, file);
    if (file != NULL) {
        fclose(file);
    }
    words[bytes] = '\0';
    for (char *c = words; *c != '\0'; c++) {
        *c = *c == '\n' || *c == '\r' ? ' ' : *c;
    }
}

static bool read_boxes(struct figure *figure, const char *directory)
{
    char path[FILE_PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s.box", directory, figure->name);
    FILE *file = fopen(path, "r");
    bool complete = file != NULL;
    for (int32_t form = 0; form < FIGURE_FORMS && complete; form++) {
        double left, right, bottom, top, width, height; /* from the lower left corner */
        complete = fscanf(file, "%lf %lf %lf %lf %lf %lf", &left, &right, &bottom, &top, &width,
                          &height) == 6 &&
                   width > 0 && height > 0;
        if (complete) {
            figure->box[form] = (struct plot_box){.left = left / width,
                                                  .right = right / width,
                                                  .top = 1 - top / height,
                                                  .bottom = 1 - bottom / height};
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return complete;
}

static void remove_scratch(const struct figure *figure, const char *directory)
{
    static const char *const scratch[] = {".gp", ".tabs", ".log", ".box"};
    for (size_t i = 0; i < sizeof scratch / sizeof scratch[0]; i++) {
        remove_file(directory, figure->name, scratch[i]);
    }
}

static enum status finish_gnuplot(struct figure *figure, pid_t child, const char *directory,
                                  struct error *error)
{
    int state = 0;
    pid_t ended;
    do {
        ended = waitpid(child, &state, 0);
    } while (ended < 0 && errno == EINTR);
    enum status status = STATUS_OK;
    char words[GNUPLOT_WORDS_BYTES];
    read_complaint(words, directory, figure->name);
    if (ended == child && WIFEXITED(state) && WEXITSTATUS(state) == EXIT_NO_GNUPLOT) {
        status = error_add(error, STATUS_IO,
                           "gnuplot was not found: the figures need it (on Debian and Ubuntu: "
                           "apt-get install gnuplot-nox)");
    } else if (ended != child || !WIFEXITED(state) || WEXITSTATUS(state) != 0 ||
               !read_boxes(figure, directory)) {
        status = error_add(error, STATUS_IO, "gnuplot could not draw %s: %s", figure->name,
                           words[0] != '\0' ? words
                                            : "it gave no reason; does another report go to the "
                                              "same directory?");
    }
    remove_scratch(figure, directory);
    figure->drawn = status == STATUS_OK;
    return status;
}

/* What an earlier report left there must not pass for this one's. */
static void remove_old(const struct figure *figure, const char *directory)
{
    static const char *const suffixes[] = {".csv", ".svg", ".narrow.svg", ".png", ".box"};
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        remove_file(directory, figure->name, suffixes[i]);
    }
}

enum status figures_draw(struct figure_list *list, const char *directory, struct error *error)
{
    enum { CHILDREN_MAX = 64 };
    pid_t child[CHILDREN_MAX];
    enum status status = STATUS_OK;
    assert(list->count <= CHILDREN_MAX);
    for (int32_t i = 0; i < list->count; i++) {
        struct figure *figure = &list->figure[i];
        child[i] = NO_CHILD;
        remove_old(figure, directory);
        if (status != STATUS_OK || !figure_has_data(figure)) {
            continue;
        }
        status = write_data(figure, directory, ".csv", rows_write_csv, error);
        if (status == STATUS_OK) {
            status = write_data(figure, directory, ".tabs", rows_write_tabs, error);
        }
        if (status == STATUS_OK) {
            status = write_script(figure, list, directory, error);
        }
        if (status == STATUS_OK) {
            child[i] = start_gnuplot(figure, directory);
        }
        if (status == STATUS_OK && child[i] < 0) {
            status = error_add(error, STATUS_IO, "cannot start gnuplot: %s", strerror(errno));
        }
    }
    for (int32_t i = 0; i < list->count; i++) {
        if (child[i] > 0) { /* all are waited for; the first failure is told */
            enum status ended = finish_gnuplot(&list->figure[i], child[i], directory,
                                               status == STATUS_OK ? error : NULL);
            status = status == STATUS_OK ? ended : status;
        }
    }
    if (status != STATUS_OK) { /* some figures without a page are no report */
        for (int32_t i = 0; i < list->count; i++) {
            remove_old(&list->figure[i], directory);
            remove_scratch(&list->figure[i], directory);
        }
        (void)rmdir(directory);
    }
    return status;
}
