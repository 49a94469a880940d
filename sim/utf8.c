/* utf8.c -- the characters of RFC 3629: no overlong forms, no surrogates, nothing beyond U+10FFFF.
 */
#include "utf8.h"

#include <stdbool.h>

int utf8_bytes(const char *text)
{
    const unsigned char *byte = (const unsigned char *)text;
    if (byte[0] < 0x80) {
        return 1;
    }
    int bytes = byte[0] >= 0xf0 && byte[0] <= 0xf4  ? 4
                : byte[0] >= 0xe0 && byte[0] < 0xf0 ? 3
                : byte[0] >= 0xc2 && byte[0] < 0xe0 ? 2
                                                    : 0;
    for (int i = 1; i < bytes; i++) {
        if ((byte[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool overlong = (byte[0] == 0xe0 && byte[1] < 0xa0) || (byte[0] == 0xf0 && byte[1] < 0x90);
    bool beyond = (byte[0] == 0xf4 && byte[1] > 0x8f) || (byte[0] == 0xed && byte[1] > 0x9f);
    return bytes > 0 && (overlong || beyond) ? 0 : bytes;
}

void utf8_mend(char *text)
{
    while (*text != '\0') {
        int bytes = utf8_bytes(text);
        if (bytes == 0) {
            *text = '?';
        }
        text += bytes > 0 ? bytes : 1;
    }
}
