is_tier(t) = stringcolumn('tier') eq t
stats csv using (100 * column('busy_share')) name 'B' nooutput
stats csv using (is_tier('scale_out') ? 1 : 0) name 'O' nooutput
unset grid
set grid xtics
set border 1
set xlabel 'busy (% of the run)'
set xrange [0:B_max * 1.12]
set xtics tidy_step(B_max, narrow ? 4 : 10)
set yrange [B_records - 0.4:-0.6]
set ytics scale 0
set key on above right horizontal samplen 1
share(row) = 100 * column('busy_share')
plot csv using (share(0) / 2):0:(is_tier('scale_out') ? share(0) / 2 : NaN):(0.36): \
         ytic(stringcolumn('name')) with boxxyerror lc rgb orange \
         title (O_max > 0 ? 'scale-out' : ''), \
     csv using (share(0) / 2):0:(is_tier('scale_up') ? share(0) / 2 : NaN):(0.36) \
         with boxxyerror lc rgb blue title (O_min < 1 ? 'scale-up' : ''), \
     csv using (share(0)):0:(sprintf('%.1f %%', share(0))) with labels left offset 0.4, 0 notitle
