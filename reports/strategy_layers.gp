stats csv using (column('layer')):(column('saved_ns')) name 'E' nooutput
top = abs(E_max_y) > abs(E_min_y) ? abs(E_max_y) : abs(E_min_y)
divisor = time_divisor(top)
set xlabel 'layer'
set ylabel 'saved by the slowest rank ('.time_unit(top).')'
set xrange [E_min_x - 0.6:E_max_x + 0.6]
set xtics whole_step(E_max_x - E_min_x, narrow ? 6 : 15)
set yrange [E_min_y < 0 ? E_min_y / divisor : 0:*]
set xzeroaxis lc rgb 'black'
plot csv using (column('layer')):(column('saved_ns') / divisor):(0.8) with boxes lc rgb green
