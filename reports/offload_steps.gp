stats csv using (column('first_step')) name 'S' nooutput
stats csv using (column('bytes_per_step')) name 'B' nooutput
set xrange [S_min:(S_max > S_min ? S_max : S_min + 1)]
set multiplot layout 2, 1 margins (narrow ? 0.17 : 0.08), 0.98, (narrow ? 0.22 : 0.15), 0.97 \
    spacing 0, 0.06
set format x ''
set xtics whole_step(S_max - S_min, narrow ? 4 : 10)
set ylabel 'hits (%)'
set yrange [0:100]
set key on bottom right horizontal samplen 2
plot csv using (column('first_step')):(100 * column('best_hits_share')) with lines \
         lc rgb 'black' dt 3 lw 2 title 'at most, by any policy', \
     csv using (column('first_step')):(100 * column('hits_share')) with lines lc rgb blue lw 2 \
         title 'the policy'
set format x '%g'
set xlabel 'step'
set ylabel byte_unit(B_max).' a step'
set yrange [0:*]
set key off
plot csv using (column('first_step')):(column('bytes_per_step') / byte_divisor(B_max)) \
         with fillsteps lc rgb olive
unset multiplot
