stats csv using (abs(column('change_percent'))) name 'C' nooutput
stats csv using (strlen(stringcolumn('what'))) name 'N' nooutput
widest = C_max > 0 ? C_max : 1
set lmargin at screen 0.03 + N_max * (narrow ? 0.0165 : 0.0084)
unset grid
set grid xtics
set border 1
set xlabel 'change of a day''s cost (%)'
room = narrow ? 0.6 : 0.14 # from a bar's end to the middle of its number
reach = widest * (narrow ? 2.25 : 1.44)
set xrange [-reach:reach]
set xtics tidy_step(2 * reach, narrow ? 3 : 8)
set yrange [N_records - 0.4:-0.6]
set ytics scale 0
set arrow from 0, graph 0 to 0, graph 1 nohead lc rgb '#999999'
plot csv using (column('change_percent') / 2):0:(column('change_percent') / 2):(0.34): \
         (column('factor') < 1 ? sky : orange):ytic(stringcolumn('what')) \
         with boxxyerror lc rgb variable, \
     csv using (column('change_percent') + (column('change_percent') < 0 ? -1 : 1) * widest * room):0: \
         (sprintf('%+.1f', column('change_percent'))) with labels
