# style.gp -- read before every figure. narrow is 1 for the phone's figure, else 0; height is in
# pixels of the page; csv names the data, whose columns go by name; dollars become money(x) of
# currency, by usd_per_unit. Colours are those of Okabe and Ito (2008) for series and viridis for
# maps: both hold for colour-blind eyes and in grey. Black becomes the page's text colour, #dddddd
# its grid. A phase has one colour in all figures.
set datafile separator tab
set datafile commentschars ''
set datafile columnheaders
set encoding utf8
set border 3 lc rgb '#999999' lw 1
set tics nomirror out scale 0.4 textcolor rgb 'black'
set grid ytics lc rgb '#dddddd' lw 1 lt 1
set style fill solid 1.0 noborder
set key off
set palette defined (0 '#440154', 1 '#482878', 2 '#3e4989', 3 '#31688e', 4 '#26828e', \
                     5 '#1f9e89', 6 '#35b779', 7 '#6ece58', 8 '#b5de2b', 9 '#fde725')
blue = 0x0072B2; sky = 0x56B4E9; green = 0x009E73; yellow = 0xF0E442
orange = 0xE69F00; vermillion = 0xD55E00; purple = 0xCC79A7; grey = 0x999999; olive = 0x999933
phases = 'attention dense gate dispatch expert combine exchange waiting rebalance fetch'
phase_color(p) = p eq 'attention' ? blue : p eq 'dense' ? sky : p eq 'gate' ? yellow : \
    p eq 'dispatch' ? orange : p eq 'expert' ? green : p eq 'combine' ? vermillion : \
    p eq 'exchange' ? purple : p eq 'waiting' ? grey : p eq 'fetch' ? olive : 0

# A text of at most length characters, cut in the middle: names often differ at their ends.
cut(text, length) = strlen(text) <= length ? text : \
    text[1:length / 2].'…'.text[strlen(text) - (length - length / 2 - 2):strlen(text)]

# Labels of runs without the sections of their keys: "routing.capacity_factor=2" is
# "capacity_factor=2", so that what was varied is not cut away; nor the directories of paths.
bare_word(w) = strstrt(w, '.') > 0 && strstrt(w, '.') < strstrt(w, '=') ? \
    bare_word(w[strstrt(w, '.') + 1:*]) : w
last_part(v) = strstrt(v, '/') > 0 ? last_part(v[strstrt(v, '/') + 1:*]) : v
bare_path(w) = strstrt(w, '/') > strstrt(w, '=') && strstrt(w, '=') > 0 ? \
    w[1:strstrt(w, '=')].last_part(w[strstrt(w, '=') + 1:*]) : w
bare_from(text, i) = i > words(text) ? '' : \
    (i > 1 ? ' ' : '').bare_path(bare_word(word(text, i))).bare_from(text, i + 1)
bare(text) = strstrt(text, '=') > 0 ? bare_from(text, 1) : text

# The same in at most length characters: keys lose their ends first, for values tell runs apart.
short_word(w, n) = strstrt(w, '=') > n + 2 ? w[1:n].'…'.w[strstrt(w, '='):*] : w
short_from(text, i, n) = i > words(text) ? '' : \
    (i > 1 ? ' ' : '').short_word(word(text, i), n).short_from(text, i + 1, n)
key_letters(length, text) = length / (2 * words(text)) - 1
short(text, length) = strlen(bare(text)) <= length || strstrt(text, '=') == 0 ? \
    cut(bare(text), length) : \
    cut(short_from(bare(text), 1, key_letters(length, text) < 2 ? 2 : key_letters(length, text)), \
        length)

# Dollars in the currency of the page.
money(usd) = usd / usd_per_unit

# At least three significant digits, without an exponent: labels of bars.
decimals(x) = x == 0 || abs(x) >= 99.95 ? 0 : 2 - floor(log10(abs(x) * 1.0005))
digits(x) = sprintf(sprintf('%%.%df', decimals(x)), x)

# A maximum in ns becomes a divisor and its unit.
time_divisor(ns) = ns >= 1e9 ? 1e9 : ns >= 1e6 ? 1e6 : ns >= 1e3 ? 1e3 : 1.0
time_unit(ns) = ns >= 1e9 ? 's' : ns >= 1e6 ? 'ms' : ns >= 1e3 ? 'us' : 'ns'
byte_divisor(b) = b >= 1e12 ? 1e12 : b >= 1e9 ? 1e9 : b >= 1e6 ? 1e6 : b >= 1e3 ? 1e3 : 1.0
byte_unit(b) = b >= 1e12 ? 'TB' : b >= 1e9 ? 'GB' : b >= 1e6 ? 'MB' : b >= 1e3 ? 'kB' : 'bytes'

# A map is an image, which needs two cells each way; one row or column alone is made of boxes.
map_plot(x, y, value, width, is_line) = 'plot csv using ('.x.'):('.y.'):'. \
    (is_line ? '('.width.' / 2.0):(0.5):('.value.') with boxxyerror lc palette' \
             : '('.value.') with image')

# A step of 1, 2 or 5 times a power of ten that parts range into at most count steps.
mantissa(x) = x / 10 ** floor(log10(x))
tidy_step(range, count) = range <= 0 ? 1 : 10 ** floor(log10(range / (1.0 * count))) * \
    (mantissa(range / (1.0 * count)) <= 1.0001 ? 1 : mantissa(range / (1.0 * count)) <= 2.0001 ? 2 : \
     mantissa(range / (1.0 * count)) <= 5.0001 ? 5 : 10)

# The same for what is counted: layers, ranks, steps.
whole_step(range, count) = tidy_step(range, count) < 1 ? 1 : tidy_step(range, count)
