# Stacked shares: the sum first, then each shorter sum over it.
parts = 'hits ahead on_cpu fetched'
part_title(p) = p eq 'hits' ? 'in GPU memory' : p eq 'ahead' ? 'fetched ahead' : \
    p eq 'on_cpu' ? 'computed by CPUs' : 'fetched'
part_color(p) = p eq 'hits' ? blue : p eq 'ahead' ? sky : p eq 'on_cpu' ? green : olive
stats csv using (column('layer')) name 'L' nooutput
shown = ''
do for [p in parts] {
    stats csv using (column(p.'_share')) name 'P' nooutput
    if (P_max > 0) {
        shown = shown.' '.p
    }
}
set xlabel 'layer'
set ylabel 'experts touched (%)'
set xrange [L_min - 0.5:L_max + 0.5]
set yrange [0:100]
set xtics whole_step(L_max - L_min, narrow ? 6 : 15)
if (narrow) {
    set bmargin at screen 0.3
    set key on at screen 0.52, 0.085 center center horizontal maxcols 2 Left reverse samplen 1
} else {
    set key on outside right center vertical Left reverse samplen 1 spacing 1.3
}
plot for [n=words(shown):1:-1] csv \
    using (column('layer')):(100 * sum [i=1:n] column(word(shown, i).'_share')):(0.8) \
    with boxes lc rgb part_color(word(shown, n)) title part_title(word(shown, n)), \
    csv using (column('layer')):(100 * column('best_hits_share')) with linespoints \
    lc rgb 'black' lw 2 pt 7 ps (L_records == 1 ? 1 : 0.3) title 'at most, by any policy'
