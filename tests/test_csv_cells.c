/* test_csv_cells.c -- a line is cut at its commas, but not at those within quotes. */
#include <criterion/criterion.h>
#include <string.h>

#include "csv_cells.h"

Test(csv_cells, quotes_hold_commas_together_and_come_off)
{
    static const struct {
        const char *line;
        int32_t count;
        const char *cell[4];
    } cases[] = {
        {"a,b,,d\r\n", 4, {"a", "b", "", "d"}},
        {"\"a,b\",c\n", 2, {"a,b", "c"}},
        {"x,\"says \"\"no\"\", twice\",z", 3, {"x", "says \"no\", twice", "z"}},
        {"\"\",\"\"", 2, {"", ""}},
        {"half a \"quote,b", 2, {"half a \"quote", "b"}},
        {"\"without an end,b", 1, {"without an end,b"}},
        {"1,2,3,4,5", 4, {"1", "2", "3", "4"}},
        {"", 1, {""}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char line[64];
        char *cell[4];
        (void)strcpy(line, cases[i].line);
        int32_t count = csv_cells(cell, 4, line);
        cr_assert_eq(count, cases[i].count, "%s: %d cells", cases[i].line, (int)count);
        for (int32_t k = 0; k < count; k++) {
            cr_expect_str_eq(cell[k], cases[i].cell[k], "%s", cases[i].line);
        }
    }
}
