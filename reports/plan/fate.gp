stats csv using (column('points')) name 'P' nooutput
stats csv using (strlen(cut(stringcolumn('fate'), narrow ? 26 : 60))) name 'N' nooutput
set lmargin at screen 0.03 + N_max * (narrow ? 0.0165 : 0.0084)
unset grid
set grid xtics
set border 1
set xlabel 'points'
set xrange [0:P_max * 1.15]
set xtics whole_step(P_max, narrow ? 4 : 8)
set yrange [P_records - 0.4:-0.6]
set ytics scale 0
plot csv using (column('points') / 2):0:(column('points') / 2):(0.34): \
         ytic(cut(stringcolumn('fate'), narrow ? 26 : 60)) with boxxyerror lc rgb blue, \
     csv using (column('points')):0:(sprintf('%d', column('points'))) with labels left offset 0.4, 0
