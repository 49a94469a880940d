stats csv using (column('layer')):(column('hottest_in_batch')) name 'H' nooutput
stats csv using (100 * column('given_up_share')) name 'G' nooutput
set xrange [H_min_x - 0.5:H_max_x + 0.5]
set yrange [(G_min < 0 ? 1.1 * G_min : 0):(G_max > 0 ? 1.1 * G_max : 1)]
set xtics whole_step(H_max_x - H_min_x, narrow ? 6 : 15)
set multiplot layout 2, 1 margins (narrow ? 0.17 : 0.08), 0.98, (narrow ? 0.22 : 0.15), 0.97 \
    spacing 0, 0.08
set format x ''
set ytics tidy_step(G_max > -G_min ? G_max : -G_min, 5)
set ylabel 'given up (%)'
plot csv using (column('layer')):(100 * column('given_up_share')):(0.8) \
         with boxes lc rgb orange
set format x '%g'
set xlabel 'layer'
set yrange [0:*]
set ytics tidy_step(H_max_y, 4)
set ylabel 'hottest / mean expert'
set key on bottom right horizontal samplen 2
if (narrow) {
    set key below
}
plot csv using (column('layer')):(column('hottest_in_batch')) with linespoints \
         lc rgb vermillion lw 2 pt 7 ps (H_records == 1 ? 1 : 0.35) title 'in a batch', \
     csv using (column('layer')):(column('hottest_in_run')) with linespoints \
         lc rgb blue lw 2 pt 5 ps (H_records == 1 ? 1 : 0.35) title 'over the run', \
     1 with lines lc rgb 'black' dt 3 notitle
unset multiplot
