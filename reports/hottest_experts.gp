stats csv using (column('tokens_over_mean')) name 'L' nooutput
unset grid
set grid xtics
set border 1
set xlabel "tokens over the layer's mean"
set xrange [0:L_max * 1.1]
set xtics tidy_step(L_max, narrow ? 5 : 10)
set yrange [L_records - 0.4:-0.6]
set ytics scale 0
label(row) = narrow ? sprintf('L%d E%d', column('layer'), column('expert')) \
                    : sprintf('layer %d, expert %d', column('layer'), column('expert'))
plot csv using (column('tokens_over_mean') / 2):0:(column('tokens_over_mean') / 2):(0.36): \
         ytic(label(0)) with boxxyerror lc rgb phase_color('expert'), \
     csv using (column('tokens_over_mean')):0:(sprintf('%.1f', column('tokens_over_mean'))) \
         with labels left offset 0.4, 0
