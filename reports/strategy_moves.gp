stats csv using (column('change_bytes')) name 'B' nooutput
stats csv using (column('balancedness')) name 'L' nooutput
divisor = byte_divisor(B_max)
width = B_max / divisor
set xlabel 'weights moved by a change ('.byte_unit(B_max).')'
set ylabel 'balancedness of a step'
set xrange [-0.03 * width:width * (narrow ? 1.3 : 1.15)]
gap = (L_max - L_min) > 0 ? L_max - L_min : 0.1
set yrange [L_min - 0.08 * gap:L_max + 0.08 * gap]
set xtics tidy_step(width, narrow ? 4 : 8)
set grid xtics ytics
# Names stand right of their points, or left, or below, where none is yet.
array px[192]
array py[192]
placed = 0
free(x, y) = (placed == 0) ? 1 : (sum [i=1:placed] (abs(px[i] - x) < width * (narrow ? 0.33 : 0.13) \
    && abs(py[i] - y) < gap * (narrow ? 0.06 : 0.05) ? 1 : 0)) == 0
take(x, y) = (placed < 192 && free(x, y)) ? (placed = placed + 1, px[placed] = x, py[placed] = y, 1) : 0
array side[64]
aside = width * (narrow ? 0.33 : 0.13)
lower = gap * (narrow ? 0.06 : 0.05)
choose(n, x, y) = n > 64 ? 0 : (side[n] = take(x, y) ? 1 : x > 2 * aside && take(x - aside, y) ? 2 : \
    take(x, y - lower) ? 3 : 0)
stats csv using (choose($0 + 1, column('change_bytes') / divisor, column('balancedness'))) nooutput
named(n, s, text) = n <= 64 && side[n] == s ? cut(text, 24) : ''
set datafile missing NaN
plot csv using (column('on_front') > 0 ? column('change_bytes') / divisor : NaN): \
         (column('balancedness')) with lines lc rgb grey lw 1.5 dt 2, \
     csv using (column('change_bytes') / divisor):(column('balancedness')) \
         with points pt 7 ps 1 lc rgb blue, \
     csv using (column('change_bytes') / divisor):(column('balancedness')): \
         (named($0 + 1, 1, stringcolumn('strategy'))) with labels left offset 0.8, 0, \
     csv using (column('change_bytes') / divisor):(column('balancedness')): \
         (named($0 + 1, 2, stringcolumn('strategy'))) with labels right offset -0.8, 0, \
     csv using (column('change_bytes') / divisor):(column('balancedness')): \
         (named($0 + 1, 3, stringcolumn('strategy'))) with labels left offset 0.8, -1
