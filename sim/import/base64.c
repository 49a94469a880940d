/*
 * base64.c -- four characters at a time by four tables, and a slow path for all that is special.
 */
#include "import/base64.h"

#include <string.h>

#include "import/import.h"

#define BAD          UINT32_C(0x80000000)
#define WINDOW_BYTES (INT64_C(4) << 20)

static void set(struct base64 *base64, unsigned char character, uint32_t value)
{
    for (int32_t place = 0; place < 4; place++) {
        base64->value[place][character] = value << (18 - 6 * place);
    }
}

void base64_begin(struct base64 *base64, const char *text, int64_t length)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    *base64 = (struct base64){.begin = (const unsigned char *)text};
    base64->at = base64->begin;
    base64->end = base64->begin + length;
    for (int32_t place = 0; place < 4; place++) {
        for (int32_t i = 0; i < 256; i++) {
            base64->value[place][i] = BAD;
        }
    }
    for (uint32_t i = 0; i < 64; i++) {
        set(base64, (unsigned char)alphabet[i], i);
    }
    set(base64, '-', 62);
    set(base64, '_', 63);
}

int64_t base64_size(const char *text, int64_t length)
{
    int64_t num_characters = length;
    const char *end = text + length;
    while (num_characters > 0 && text[num_characters - 1] == '=') {
        num_characters--;
    }
    for (const char *at = text; at < end; at++) {
        int64_t left = end - at;
        size_t window = (size_t)(left < WINDOW_BYTES ? left : WINDOW_BYTES);
        const char *slash = memchr(at, '\\', window);
        num_characters -= slash != NULL ? 1 : 0;
        import_forget(at, slash == NULL ? window : 0);
        at = slash != NULL ? slash : at + window - 1;
    }
    return num_characters / 4 * 3 + (num_characters % 4 > 1 ? num_characters % 4 - 1 : 0);
}

/* One group with something special in it: an escape, padding, or the end. */
static void read_slowly(struct base64 *base64)
{
    uint32_t group = 0;
    int32_t count = 0;
    while (count < 4 && base64->at < base64->end && *base64->at != '=') {
        bool is_escape =
            *base64->at == '\\' && base64->end - base64->at > 1 && base64->at[1] == '/';
        base64->at += is_escape ? 1 : 0;
        uint32_t value = base64->value[count][*base64->at];
        if ((value & BAD) != 0) {
            base64->bad = base64->at;
            return;
        }
        group |= value;
        count++;
        base64->at++;
    }
    if (count < 4) {
        const unsigned char *padding = base64->at;
        while (base64->at < base64->end && *base64->at == '=') {
            base64->at++;
        }
        bool ends = base64->at == base64->end && base64->at - padding <= 2 && count != 1;
        base64->bad = ends ? NULL : padding < base64->end ? padding : base64->end - 1;
    }
    base64->num_left = count > 1 ? count - 1 : 0;
    base64->left[0] = (unsigned char)(group >> 16);
    base64->left[1] = (unsigned char)(group >> 8);
    base64->left[2] = (unsigned char)group;
}

int64_t base64_read(struct base64 *base64, unsigned char *bytes, int64_t room)
{
    int64_t count = 0;
    while (count < room && base64->bad == NULL) {
        const unsigned char *at = base64->at;
        while (base64->num_left == 0 && room - count >= 3 && base64->end - at >= 4) {
            uint32_t group = base64->value[0][at[0]] | base64->value[1][at[1]] |
                             base64->value[2][at[2]] | base64->value[3][at[3]];
            if ((group & BAD) != 0) {
                break;
            }
            bytes[count] = (unsigned char)(group >> 16);
            bytes[count + 1] = (unsigned char)(group >> 8);
            bytes[count + 2] = (unsigned char)group;
            count += 3;
            at += 4;
        }
        base64->at = at;
        if (base64->num_left == 0) {
            if (base64->at == base64->end) {
                break;
            }
            if (count < room) {
                read_slowly(base64);
            }
            if (base64->num_left == 0) {
                continue;
            }
        }
        while (base64->num_left > 0 && count < room) {
            bytes[count++] = base64->left[0];
            base64->left[0] = base64->left[1];
            base64->left[1] = base64->left[2];
            base64->num_left--;
        }
    }
    return count;
}
