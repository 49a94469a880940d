stats csv using (column('first_step')):(column('rank')) name 'W' nooutput
stats csv using (column('tokens_over_mean')) name 'L' nooutput
columns = W_records / (W_max_y - W_min_y + 1)
width = columns > 1 ? (W_max_x - W_min_x) / (columns - 1.0) : 1.0
unset grid
set border 0
set xlabel 'first step of the window'
set ylabel 'rank' offset 1, 0
set cblabel "tokens over the window's mean"
set cbrange [0:L_max > 1.5 ? L_max : 1.5]
set xrange [W_min_x - width / 2.0:W_max_x + width / 2.0]
set yrange [W_max_y + 0.5:W_min_y - 0.5]
set xtics whole_step(W_max_x - W_min_x, narrow ? 5 : 10)
set ytics whole_step(W_max_y - W_min_y, 7)
if (narrow) {
    set colorbox horizontal user origin screen 0.18, 0.13 size screen 0.74, 0.03
    set bmargin at screen 0.36
    set cblabel offset 0, 0.5
}
eval map_plot("column('first_step')", "column('rank')", "column('tokens_over_mean')", 'width', \
              columns < 2)
