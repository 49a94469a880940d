stats csv using (column('end_s')) name 'T' nooutput
stats csv using (column('waiting') + column('running')) name 'R' nooutput
divisor = T_max > 7200 ? 3600.0 : T_max > 600 ? 60.0 : 1.0
set xlabel T_max > 7200 ? 'hours' : T_max > 600 ? 'minutes' : 'seconds'
set ylabel 'requests'
set xrange [0:T_max / divisor]
set yrange [0:R_max > 0 ? R_max * 1.1 : 1]
if (narrow) {
    set bmargin at screen 0.3
    set key on at screen 0.52, 0.085 center center horizontal maxcols 2 Left reverse samplen 1
} else {
    set key on outside right center vertical Left reverse samplen 1 spacing 1.3
}
plot csv using (column('begin_s') / divisor):(column('waiting') + column('running')) \
         with fillsteps lc rgb vermillion title 'waiting', \
     csv using (column('begin_s') / divisor):(column('running')) \
         with fillsteps lc rgb sky title 'running'
