stats csv using (column('change_bytes')) name 'B' nooutput
stats csv using (column('balancedness')) name 'L' nooutput
divisor = byte_divisor(B_max)
width = B_max > 0 ? B_max / divisor : 1
gap = L_max > L_min ? L_max - L_min : 0.1
set xlabel 'weights moved by a change ('.byte_unit(B_max).')'
set ylabel 'balancedness of a step'
low = -0.03 * width
high = width * (narrow ? 1.2 : 1.1)
set xrange [low:high]
set yrange [L_min - 0.1 * gap:L_max + 0.12 * gap]
set xtics tidy_step(width, narrow ? 4 : 8)
set grid xtics ytics

# Names stand right of their points, left, above or below, where they hide no point and no name.
letter = width * (narrow ? 0.030 : 0.0125)
line = gap * (narrow ? 0.065 : 0.06)
dot = width * (narrow ? 0.03 : 0.012)
array x0[256]
array x1[256]
array y0[256]
array tall[256]
taken = 0
hides(i, a, b, y) = a < x1[i] && b > x0[i] && abs(y - y0[i]) < (line + tall[i]) / 2 ? 1 : 0
free(a, b, y) = (taken == 0) ? 1 : (sum [i=1:taken] hides(i, a, b, y)) == 0
take(a, b, y, h) = taken < 256 ? (taken = taken + 1, x0[taken] = a, x1[taken] = b, y0[taken] = y, \
    tall[taken] = h, 1) : 0
try(a, b, y) = free(a, b, y) && a > low && b < high ? take(a, b, y, line) : 0
array side[64]
do for [i = 1:64] { side[i] = 0 }
choose(n, x, y, w) = n > 64 || side[n] > 0 ? 0 : (side[n] = try(x + dot, x + dot + w, y) ? 1 : \
    try(x - dot - w, x - dot, y) ? 2 : try(x, x + w, y + line) ? 3 : try(x - w, x, y + line) ? 4 : \
    try(x, x + w, y - line) ? 5 : try(x - w, x, y - line) ? 6 : 0)
shown(text) = cut(text, 24)
first(front, text) = front > 0 || text eq 'static'
stats csv using (take(column('change_bytes') / divisor - dot, column('change_bytes') / divisor + dot, \
    column('balancedness'), 0.3 * line)) nooutput
stats csv using (first(column('on_front'), stringcolumn('strategy')) ? choose($0 + 1, \
    column('change_bytes') / divisor, column('balancedness'), \
    letter * (1 + strlen(shown(stringcolumn('strategy'))))) : 0) nooutput
stats csv using (choose($0 + 1, column('change_bytes') / divisor, column('balancedness'), \
    letter * (1 + strlen(shown(stringcolumn('strategy')))))) nooutput
named(n, s, text) = n <= 64 && side[n] == s ? shown(text) : ''
set datafile missing NaN
plot csv using (column('on_front') > 0 ? column('change_bytes') / divisor : NaN): \
         (column('balancedness')) with lines lc rgb grey lw 1.5 dt 2, \
     csv using (column('change_bytes') / divisor):(column('balancedness')) \
         with points pt 7 ps 1 lc rgb blue, \
     csv using (column('change_bytes') / divisor):(column('balancedness')): \
         (named($0 + 1, 1, stringcolumn('strategy'))) with labels left offset 0.8, 0, \
     csv using (column('change_bytes') / divisor):(column('balancedness')): \
         (named($0 + 1, 2, stringcolumn('strategy'))) with labels right offset -0.8, 0, \
     csv using (column('change_bytes') / divisor):(column('balancedness') + line): \
         (named($0 + 1, 3, stringcolumn('strategy'))) with labels left offset 0.5, 0, \
     csv using (column('change_bytes') / divisor):(column('balancedness') + line): \
         (named($0 + 1, 4, stringcolumn('strategy'))) with labels right offset -0.5, 0, \
     csv using (column('change_bytes') / divisor):(column('balancedness') - line): \
         (named($0 + 1, 5, stringcolumn('strategy'))) with labels left offset 0.5, 0, \
     csv using (column('change_bytes') / divisor):(column('balancedness') - line): \
         (named($0 + 1, 6, stringcolumn('strategy'))) with labels right offset -0.5, 0
