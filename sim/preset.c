/* preset.c -- finds, names and parses the file of a preset. */
#include "preset.h"

enum status preset_open(struct preset *preset, const char *kind, const char *name_or_path,
                        struct error *error)
{
    *preset = (struct preset){.root = NULL};
    enum status status = data_find(preset->path, sizeof preset->path, kind, name_or_path, error);
    if (status != STATUS_OK) {
        return status;
    }
    data_stem(preset->name, sizeof preset->name, preset->path);
    return yaml_load(&preset->root, preset->path, &preset->arena, error);
}

void preset_close(struct preset *preset)
{
    arena_free(&preset->arena);
    preset->root = NULL;
}
