stats csv using (column('dst_cell')):(column('bytes')) name 'B' nooutput
stats csv using (column('ranks_per_cell')) name 'R' nooutput
divisor = byte_divisor(B_max_y)
group = R_max > 1 ? sprintf('group of %d ranks', R_max) : 'rank'
unset grid
set border 0
set xlabel 'to '.group
set ylabel 'from '.group offset 1, 0
set cblabel 'dispatched ('.byte_unit(B_max_y).')'
set cbrange [0:*]
set xrange [-0.5:B_max_x + 0.5]
set yrange [B_max_x + 0.5:-0.5]
set xtics whole_step(B_max_x, narrow ? 6 : 10)
set ytics whole_step(B_max_x, 7)
if (narrow) {
    set colorbox horizontal user origin screen 0.18, 0.13 size screen 0.74, 0.03
    set bmargin at screen 0.36
    set cblabel offset 0, 0.5
}
eval map_plot("column('dst_cell')", "column('src_cell')", "column('bytes') / divisor", '1', \
              B_max_x == 0)
