stats csv using (column('layer')):(column('expert_ns_max')) name 'E' nooutput
divisor = time_divisor(E_max_y)
set xrange [E_min_x - 0.5:E_max_x + 0.5]
set yrange [0:*]
stats csv using (column('rank_tokens_max_over_mean')) name 'I' nooutput
set xtics whole_step(E_max_x - E_min_x, narrow ? 6 : 15)
set multiplot layout 2, 1 margins (narrow ? 0.17 : 0.08), 0.98, (narrow ? 0.22 : 0.15), 0.97 \
    spacing 0, 0.08
set format x ''
set ytics tidy_step(I_max, 4)
set ylabel 'busiest / mean rank'
plot csv using (column('layer')):(column('rank_tokens_max_over_mean')):(0.8) \
         with boxes lc rgb orange, \
     1 with lines lc rgb 'black' dt 3
set format x '%g'
set xlabel 'layer'
set ytics tidy_step(E_max_y / divisor, 4)
set ylabel 'expert time ('.time_unit(E_max_y).')'
set key on bottom right horizontal samplen 2
if (narrow) {
    set key below
}
set style data linespoints
plot csv using (column('layer')):(column('expert_ns_max') / divisor) \
         lc rgb vermillion lw 2 pt 7 ps (E_records == 1 ? 1 : 0.35) title 'slowest rank', \
     csv using (column('layer')):(column('expert_ns_mean') / divisor) \
         lc rgb blue lw 2 pt 7 ps (E_records == 1 ? 1 : 0.35) title 'mean rank'
unset multiplot
