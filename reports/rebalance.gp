stats csv using (column('step')):(column('duration_ns')) name 'D' nooutput
divisor = time_divisor(D_max_y)
# A change lands in one step: a bar is narrow, however far the changes are apart.
gap = D_records > 1 ? (D_max_x - D_min_x) / (D_records - 1.0) * 0.6 : 1
width = gap < 0.02 * D_max_x ? gap : 0.02 * D_max_x
set xlabel 'step'
set ylabel 'stall ('.time_unit(D_max_y).')'
set xrange [0:D_max_x + width]
set xtics whole_step(D_max_x, narrow ? 5 : 12)
set yrange [0:*]
plot csv using (column('step')):(column('duration_ns') / divisor):(width) \
    with boxes lc rgb phase_color('rebalance')
