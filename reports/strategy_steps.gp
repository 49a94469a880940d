array color[5] = [green, blue, orange, vermillion, purple]
top = 0
lines = 0
array name[5]
do for [n=1:5] {
    stats csv using (column('step_ns_'.n)) name 'T' nooutput
    if (exists('T_max') && T_records > 0) {
        top = T_max > top ? T_max : top
        lines = n
    }
}
stats csv using (column('step')):(column('step_ns_1')) name 'X' nooutput
divisor = time_divisor(top)
set xlabel 'step'
set ylabel 'time of a step ('.time_unit(top).')'
set xrange [0:X_max_x]
set yrange [0:*]
set xtics whole_step(X_max_x, narrow ? 4 : 10)
if (narrow) {
    set bmargin at screen 0.3
    set key on at screen 0.52, 0.085 center center horizontal maxcols 2 Left reverse samplen 2
} else {
    set key on outside right center vertical Left reverse samplen 2 spacing 1.3
}
title_of(n) = word(system('head -n 2 "'.csv.'" | tail -n 1 | cut -f '.(7 + n)), 1)
plot for [n=1:lines] csv using (column('step')):(column('step_ns_'.n) / divisor) \
    with lines lw 2 lc rgb color[n] title title_of(n)
