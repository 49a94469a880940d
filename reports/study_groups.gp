stats csv using (100 * column('gain_share')) name 'G' nooutput
stats csv using (strlen(short(stringcolumn('setting'), narrow ? 24 : 44))) name 'N' nooutput
high = G_max > 0.5 ? G_max : 0.5
unset grid
set grid xtics
set border 1
set ytics scale 0
set lmargin at screen 0.03 + N_max * (narrow ? 0.0175 : 0.0084)
set rmargin at screen 0.97
set xlabel 'shorter steps, net (%)'
set xrange [0:high * (narrow ? 1.9 : 1.35)]
set yrange [G_records - 0.4:-0.6]
set xtics tidy_step(high, narrow ? 3 : 8)
plot csv using (50 * column('gain_share')):0:(50 * column('gain_share')):(0.3): \
         ytic(short(stringcolumn('setting'), narrow ? 24 : 44)) with boxxyerror lc rgb blue, \
     csv using (100 * column('gain_share')):0:(sprintf('%+.1f %s', 100 * column('gain_share'), \
         cut(stringcolumn('strategy'), narrow ? 14 : 24))) with labels left offset 0.5, 0
