ways = ''
stats csv using (ways = strstrt(ways, '|'.strcol('way').'|') ? ways : ways.'|'.strcol('way').'|', 0) \
    name 'W' nooutput
count = (strlen(ways) == 0 ? 0 : sum [i=1:strlen(ways)] (ways[i:i] eq '|')) / 2
way(n) = (rest = ways, first = 0, last = 0, sum [i=1:n] \
    (first = strstrt(rest, '|'), rest = rest[first + 1:*], last = strstrt(rest, '|'), \
     name = rest[1:last - 1], rest = rest[last + 1:*], 0), name)
array color[8] = [blue, vermillion, green, orange, purple, sky, olive, grey]
stats csv using (100 * column('slots_share')) name 'S' nooutput
set xrange [0:(S_max > 0 ? S_max * 1.04 : 1)]
set multiplot layout 2, 1 margins (narrow ? 0.17 : 0.08), 0.98, (narrow ? 0.3 : 0.22), 0.97 \
    spacing 0, 0.06
set format x ''
set xtics tidy_step(S_max, narrow ? 4 : 10)
set ylabel 'hits (%)'
set yrange [0:100]
plot for [n=1:count] csv using (strcol('way') eq way(n) ? 100 * column('slots_share') : NaN): \
         (100 * column('hits_share')) with linespoints lc rgb color[(n - 1) % 8 + 1] lw 2 \
         pt 4 + n ps 0.6 title way(n), \
     csv using (100 * column('slots_share')):(100 * column('best_hits_share')) \
         smooth unique with lines lc rgb 'black' dt 3 lw 2 title 'at most, by any policy'
set format x '%g'
set xlabel 'slots, of a layer''s experts (%)'
set ylabel 'tokens/s a GPU'
set yrange [0:*]
set key on below horizontal maxcols (narrow ? 2 : 4) Left reverse samplen 2
plot for [n=1:count] csv using (strcol('way') eq way(n) ? 100 * column('slots_share') : NaN): \
         (column('tokens_per_s')) with linespoints lc rgb color[(n - 1) % 8 + 1] lw 2 \
         pt 4 + n ps 0.6 title way(n), \
     NaN with lines lc rgb 'black' dt 3 lw 2 title 'at most, by any policy'
unset multiplot
