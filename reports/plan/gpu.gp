stats csv using (column('usd_per_day')) name 'C' nooutput
stats csv using (strlen(stringcolumn('gpu'))) name 'N' nooutput
dollars = C_max >= 2e6 ? 1e6 : C_max >= 2e3 ? 1e3 : 1.0
set lmargin at screen 0.04 + N_max * (narrow ? 0.021 : 0.0084)
unset grid
set grid xtics
set border 1
set xlabel 'dollars a day'.(dollars == 1e6 ? ' (million)' : dollars == 1e3 ? ' (thousand)' : '')
set xrange [0:C_max / dollars * (narrow ? 1.5 : 1.25)]
set xtics tidy_step(C_max / dollars, narrow ? 4 : 8)
set yrange [C_records - 0.4:-0.6]
set ytics scale 0
plot csv using (column('usd_per_day') / dollars / 2):0:(column('usd_per_day') / dollars / 2):(0.34): \
         ytic(stringcolumn('gpu')) with boxxyerror lc rgb green, \
     csv using (column('usd_per_day') / dollars):0: \
         (sprintf(dollars == 1 ? '%.0f (%d GPUs)' : '%.3g (%d GPUs)', column('usd_per_day') / dollars, column('num_gpus'))) \
         with labels left offset 0.4, 0
