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
    double scale;    /* of the page's pixels */
    double per_unit; /* pixels of one unit of the terminal's sizes */
    const char *unit;
} forms[] = {
    {"svg", "sans-serif,14", ".svg", FIGURE_WIDE, 960, 440, 1.0, 1.0, ""},
    {"svg", "sans-serif,12", ".narrow.svg", FIGURE_NARROW, 390, 400, 1.0, 1.0, ""},
    {"png truecolor", "DejaVu Sans,14", ".png", FIGURE_WIDE, 1440, 660, 1.5, 1.0, ""},
    {"pdfcairo fontscale 0.58", "sans-serif,14", ".pdf", FIGURE_WIDE, 960, 440, 1.0, 96.0, "in"},
};

/* What a reader finds beside the page, the PDF only where it was asked for. */
static const char *const published[] = {".csv", ".svg", ".png", ".pdf"};

static bool is_pdf(const char *suffix)
{
    return strcmp(suffix, ".pdf") == 0;
}

/* Bars of many rows need room, but gnuplot and browsers have their limits. */
static int form_height(const struct form *form, const struct figure *figure)
{
    double rows = (double)(figure->rows.num_rows < 200 ? figure->rows.num_rows : 200);
    double needed = FRAME_PIXELS + rows * (double)figure->row_pixels[form->form];
    int height = (int)(needed * form->scale);
    return height > form->height ? height : form->height;
}

static enum status write_script(const struct figure *figure, const struct figure_list *list,
                                const struct draft *draft, struct error *error)
{
    char name[NAME_BYTES + 8];
    FILE *file = NULL;
    snprintf(name, sizeof name, "%s.gp", figure->name);
    enum status status = draft_create(&file, draft, name, error);
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        const struct form *form = &forms[i];
        if (is_pdf(form->suffix) && !list->has_pdf) {
            continue;
        }
        fprintf(file, "csv = '%s.tabs'\nnarrow = %d\nheight = %.1f\n", figure->name,
                form->form == FIGURE_NARROW, form_height(form, figure) / form->scale);
        fprintf(file,
                "set terminal %s size %.9g%s,%.9g%s font '%s' noenhanced\nset output '%s%s'\n",
                form->terminal, form->width / form->per_unit, form->unit,
                form_height(form, figure) / form->per_unit, form->unit, form->font, figure->name,
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
    return draft_finish(file, draft, name, error);
}

/* The data as one kind of file. */
static enum status write_data(const struct figure *figure, const struct draft *draft,
                              const char *suffix,
                              void (*write_rows)(const struct rows *rows, FILE *file),
                              struct error *error)
{
    char name[NAME_BYTES + 8];
    FILE *file = NULL;
    snprintf(name, sizeof name, "%s%s", figure->name, suffix);
    enum status status = draft_create(&file, draft, name, error);
    if (status != STATUS_OK) {
        return status;
    }
    write_rows(&figure->rows, file);
    return draft_finish(file, draft, name, error);
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

/* gnuplot's own words, on one line. */
static void read_complaint(char words[GNUPLOT_WORDS_BYTES], const char *directory, const char *name)
{
    char path[FILE_PATH_BYTES + NAME_BYTES + 8];
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
    char path[FILE_PATH_BYTES + NAME_BYTES + 8];
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
                           words[0] != '\0' ? words : "it gave no reason; is the disk full?");
    }
    figure->drawn = status == STATUS_OK;
    return status;
}

enum status figures_draw(struct figure_list *list, const struct draft *draft, struct error *error)
{
    enum { CHILDREN_MAX = 64 };
    pid_t child[CHILDREN_MAX];
    enum status status = STATUS_OK;
    assert(list->count <= CHILDREN_MAX);
    for (int32_t i = 0; i < list->count; i++) {
        struct figure *figure = &list->figure[i];
        child[i] = NO_CHILD;
        if (status != STATUS_OK || !figure_has_data(figure)) {
            continue;
        }
        status = write_data(figure, draft, ".csv", rows_write_csv, error);
        if (status == STATUS_OK) {
            status = write_data(figure, draft, ".tabs", rows_write_tabs, error);
        }
        if (status == STATUS_OK) {
            status = write_script(figure, list, draft, error);
        }
        if (status == STATUS_OK) {
            child[i] = start_gnuplot(figure, draft->directory);
        }
        if (status == STATUS_OK && child[i] < 0) {
            status = error_add(error, STATUS_IO, "cannot start gnuplot: %s", strerror(errno));
        }
    }
    for (int32_t i = 0; i < list->count; i++) {
        if (child[i] > 0) { /* all are waited for; the first failure is told */
            enum status ended = finish_gnuplot(&list->figure[i], child[i], draft->directory,
                                               status == STATUS_OK ? error : NULL);
            status = status == STATUS_OK ? ended : status;
        }
    }
    return status;
}

/* What an earlier report left of a figure must not pass for this one's. */
static void remove_old(const struct figure *figure, const char *out)
{
    for (size_t i = 0; i < sizeof published / sizeof published[0]; i++) {
        char path[FILE_PATH_BYTES + NAME_BYTES + 16];
        snprintf(path, sizeof path, "%s/figures/%s%s", out, figure->name, published[i]);
        unlink(path);
    }
}

enum status figures_publish(const struct figure_list *list, const struct draft *draft,
                            struct error *error)
{
    enum status status = STATUS_OK;
    for (int32_t i = 0; i < list->count && status == STATUS_OK; i++) {
        const struct figure *figure = &list->figure[i];
        remove_old(figure, draft->out);
        for (size_t k = 0; k < sizeof published / sizeof published[0] && figure->drawn; k++) {
            char name[NAME_BYTES + 8], path[NAME_BYTES + 16];
            if (is_pdf(published[k]) && !list->has_pdf) {
                continue;
            }
            snprintf(name, sizeof name, "%s%s", figure->name, published[k]);
            snprintf(path, sizeof path, "figures/%s", name);
            status = status == STATUS_OK ? draft_publish(draft, name, path, error) : status;
        }
    }
    return status;
}
