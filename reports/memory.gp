stats csv using (column('bytes') / 1e9) name 'M' nooutput
unset grid
set grid xtics
set border 1
set xlabel 'GB'
set xrange [0:M_max * 1.15]
set xtics tidy_step(M_max, narrow ? 5 : 10)
set yrange [M_records - 0.4:-0.6]
set ytics scale 0
label(part) = part eq 'kv_cache' ? 'KV cache' : part eq 'dense' ? 'dense weights' : \
    part eq 'experts' ? 'experts' : part eq 'limit' ? 'limit' : part
plot csv using (column('bytes') / 2e9):0:(column('bytes') / 2e9):(0.34): \
         (stringcolumn('part') eq 'limit' ? grey : sky): \
         ytic(label(stringcolumn('part'))) with boxxyerror lc rgb variable, \
     csv using (column('bytes') / 1e9):0:(sprintf('%.1f', column('bytes') / 1e9)) \
         with labels left offset 0.4, 0
