stats csv using (money(column('usd_per_day'))) name 'C' nooutput
stats csv using (strlen(stringcolumn('gpu'))) name 'N' nooutput
unit = C_max >= 2e6 ? 1e6 : C_max >= 2e3 ? 1e3 : 1.0
set lmargin at screen 0.04 + N_max * (narrow ? 0.021 : 0.0084)
unset grid
set grid xtics
set border 1
set xlabel currency.' a day'.(unit == 1e6 ? ' (million)' : unit == 1e3 ? ' (thousand)' : '')
set xrange [0:C_max / unit * (narrow ? 1.5 : 1.25)]
set xtics tidy_step(C_max / unit, narrow ? 4 : 8)
set yrange [C_records - 0.4:-0.6]
set ytics scale 0
end(usd) = strlen(usd) > 0 ? money(real(usd)) / unit : NaN
label_at(high, usd) = strlen(high) > 0 ? end(high) : money(usd) / unit
plot csv using (money(column('usd_per_day')) / unit / 2):0:(money(column('usd_per_day')) / unit / 2):(0.34): \
         ytic(stringcolumn('gpu')) with boxxyerror lc rgb green, \
     csv using (money(column('usd_per_day')) / unit):0:(end(stringcolumn('usd_per_day_low'))): \
         (end(stringcolumn('usd_per_day_high'))) with xerrorbars pt 0 lw 1.5 lc rgb 'black', \
     csv using (label_at(stringcolumn('usd_per_day_high'), column('usd_per_day'))):0: \
         (digits(money(column('usd_per_day')) / unit).sprintf(' (%d GPU%s)', column('num_gpus'), \
                  column('num_gpus') == 1 ? '' : 's')) \
         with labels left offset 0.4, 0
