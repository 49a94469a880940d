stats csv using (column('expert')):(column('layer')) name 'E' nooutput
stats csv using (column('tokens_over_mean')) name 'L' nooutput
unset grid
set border 0
set xlabel 'expert'
set ylabel 'layer' offset 1, 0
set logscale cb 2
top = L_max > 2 ? L_max : 2
set cbrange [0.125:top]
set cbtics ('1/8' 0.125, '1/4' 0.25, '1/2' 0.5, '1' 1, '2' 2, '4' 4, '8' 8, '16' 16, '32' 32, \
            '64' 64, '128' 128)
set cblabel "tokens over the layer's mean"
set xrange [E_min_x - 0.5:E_max_x + 0.5]
set yrange [E_max_y + 0.5:E_min_y - 0.5]
set xtics whole_step(E_max_x - E_min_x, narrow ? 5 : 10)
set ytics whole_step(E_max_y - E_min_y, 7)
if (narrow) {
    set colorbox horizontal user origin screen 0.18, 0.13 size screen 0.74, 0.03
    set bmargin at screen 0.36
    set cblabel offset 0, 0.5
}
clamp(x) = x < 0.125 ? 0.125 : x
eval map_plot("column('expert')", "column('layer')", "clamp(column('tokens_over_mean'))", '1', \
              E_min_x == E_max_x || E_min_y == E_max_y)
