set xlabel 'step'
set ylabel 'tokens a second'
set yrange [0:*]
plot csv using (column('first_step')):(column('tokens_per_s')) with lines lc rgb blue lw 2
