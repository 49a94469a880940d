# Shares of requests over times on a logarithmic axis; what takes no time is left of it. Columns may
# be empty, of targets that nobody set and of gaps in answers of one token; gnuplot leaves such
# curves out of the key.
stats csv using (column('answer_s')) name 'A' nooutput
stats csv using (column('gap_s') > 0 ? column('gap_s') : column('answer_s')) name 'G' nooutput
left = G_min > 0 ? 10 ** floor(log10(G_min)) : 1e-3
set logscale x
set xrange [left:A_max * 1.2]
set xlabel 'seconds'
set format x '%g'
set yrange [0:100]
set ylabel '% of requests'
set grid xtics
if (narrow) {
    set bmargin at screen 0.3
    set key on at screen 0.52, 0.085 center center horizontal maxcols 2 Left reverse samplen 1
} else {
    set key on outside right center vertical Left reverse samplen 1 spacing 1.3
}
plot csv using (column('first_token_s')):(100 * column('fraction')) with lines lw 2 \
         lc rgb blue title 'first token', \
     csv using (column('further_token_s')):(100 * column('fraction')) with lines lw 2 \
         lc rgb green title 'each further', \
     csv using (column('gap_s')):(100 * column('fraction')) with lines lw 1 \
         lc rgb sky title 'gaps', \
     csv using (column('answer_s')):(100 * column('fraction')) with lines lw 2 \
         lc rgb orange title 'whole answer', \
     csv using (column('first_token_target_s')):(100 * column('fraction')) with lines lw 2 dt 2 \
         lc rgb blue title 'first, target', \
     csv using (column('further_token_target_s')):(100 * column('fraction')) with lines lw 2 dt 2 \
         lc rgb green title 'further, target'
