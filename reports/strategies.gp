stats csv using (100 * column('gain_share')) name 'G' nooutput
stats csv using (strlen(stringcolumn('settled_gain_share')) > 0 ? \
                 100 * column('settled_gain_share') : 0) name 'S' nooutput # of some nobody can say
stats csv using (strlen(cut(stringcolumn('strategy'), 24))) name 'N' nooutput
low = G_min < S_min ? G_min : S_min
high = G_max > S_max ? G_max : S_max
low = low > 0 ? 0 : low
high = high < 0 ? 0 : high
# A loss of many steps must not flatten all gains: its bar is cut, and says its length.
floor_at = low < -3 * high ? -1.5 * high : low
floor_at = high == 0 ? low : floor_at
pad = (high - floor_at) * (narrow ? 0.22 : 0.12)
unset grid
set grid xtics
set border 1
set ytics scale 0
set lmargin at screen 0.03 + N_max * (narrow ? 0.019 : 0.0092)
set rmargin at screen 0.97
set xlabel 'shorter than static (% of a step)'
# Numbers stand left of their bars, so that they are not taken for the mark's.
set xrange [floor_at - pad:high + 0.3 * pad]
set yrange [G_records - 0.4:-0.6]
set xtics tidy_step(high - floor_at, narrow ? 4 : 10)
set arrow 1 from 0, graph 0 to 0, graph 1 nohead lc rgb 'black' lw 1 back
shown(x) = x < floor_at ? floor_at : x
set tmargin 2.5
set key on at graph 1, screen 1 top right horizontal Left reverse samplen 1
plot csv using (shown(100 * column('gain_share')) / 2):0: \
         (abs(shown(100 * column('gain_share'))) / 2):(0.3):ytic(cut(stringcolumn('strategy'), 24)) \
         with boxxyerror lc rgb blue title 'net of its moves', \
     csv using (100 * column('settled_gain_share')):0 with points pt 2 ps 1 lw 2 lc rgb vermillion \
         title 'once settled', \
     csv using (column('gain_share') < 0 ? shown(100 * column('gain_share')) : 0):0: \
         (sprintf('%+.1f', 100 * column('gain_share'))) with labels right offset -1.2, 0 notitle
