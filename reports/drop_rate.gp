stats csv using (column('capacity_factor')):(column('run_capacity_factor')) name 'F' nooutput
set xlabel 'capacity factor'
set ylabel 'dropped assignments (%)'
set yrange [0:*]
set xrange [0.9:F_max_x + 0.1]
set key on top right samplen 2 spacing 1.3
if (F_max_y > 0 && F_max_y <= F_max_x) {
    set arrow from first F_max_y, graph 0 to first F_max_y, graph 1 nohead lc rgb 'black' dt 2
    set label sprintf('this run: %g', F_max_y) at first F_max_y, graph (narrow ? 0.7 : 0.94) \
        left offset 0.7, 0
}
plot csv using (column('capacity_factor')): \
         (stringcolumn('scope') eq 'rank' ? 100 * column('dropped_share') : NaN) \
         with linespoints lc rgb vermillion lw 2 pt 7 ps 0.5 title 'scope rank', \
     csv using (column('capacity_factor')): \
         (stringcolumn('scope') eq 'global' ? 100 * column('dropped_share') : NaN) \
         with linespoints lc rgb blue lw 2 pt 5 ps 0.5 title 'scope global'
