# Stacked boxes: the sum of all phases first, then each shorter sum over it.
total(row) = sum [i=1:words(phases)] column(word(phases, i).'_ns')
stats csv using (column('first_step') + column('num_steps')):(total(0)) name 'T' nooutput
# One step with a stall of many must not flatten all others: its bar is cut, and says its length.
top = T_max_y > 3 * T_median_y ? 2 * T_median_y : T_max_y * 1.05
divisor = time_divisor(top)
if (T_max_y > top) {
    set tmargin 1.8 # for the lengths above cut bars
}
shown = ''
do for [p in phases] {
    stats csv using (column(p.'_ns')) name 'P' nooutput
    if (P_max > 0) {
        shown = shown.' '.p
    }
}
set xlabel 'step'
set ylabel 'time of a step ('.time_unit(top).')'
set xrange [0:T_max_x]
set yrange [0:top / divisor]
set xtics whole_step(T_max_x, narrow ? 4 : 10)
if (narrow) {
    set bmargin at screen 0.3
    set key on at screen 0.52, 0.085 center center horizontal maxcols 3 Left reverse samplen 1
} else {
    set key on outside right center vertical Left reverse samplen 1 spacing 1.3
}
plot for [n=words(shown):1:-1] csv \
    using (column('first_step') + column('num_steps') / 2.0): \
          ((sum [i=1:n] column(word(shown, i).'_ns')) / divisor):(column('num_steps')) \
    with boxes lc rgb phase_color(word(shown, n)) title word(shown, n), \
    csv using (column('first_step') + column('num_steps') / 2.0):(top / divisor): \
          (total(0) > top ? '▲ '.digits(total(0) / divisor) : '') \
    with labels offset 0, 0.7 notitle
