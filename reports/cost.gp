stats csv using (money(column('usd_per_million_tokens'))) name 'C' nooutput
unset grid
set grid xtics
set border 1
set xlabel currency.' per million tokens'
set xrange [0:C_max * (narrow ? 1.5 : 1.2)]
set xtics tidy_step(C_max, narrow ? 4 : 8)
set format x '%g'
set yrange [C_records - 0.4:-0.6]
set ytics scale 0
plot csv using (money(column('usd_per_million_tokens')) / 2):0: \
         (money(column('usd_per_million_tokens')) / 2):(0.34):(phase_color(stringcolumn('phase'))): \
         ytic(stringcolumn('phase')) with boxxyerror lc rgb variable, \
     csv using (money(column('usd_per_million_tokens'))):0: \
         (digits(money(column('usd_per_million_tokens'))).sprintf(column('time_share') < 0.01 ? ' (%.2f %%)' : ' (%.0f %%)', \
                  100 * column('time_share'))) \
         with labels left offset 0.4, 0
