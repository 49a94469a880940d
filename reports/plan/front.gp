stats csv using (column('tpot_ms')) name 'T' nooutput
stats csv using (money(column('usd_per_day'))) name 'C' nooutput
stats csv using (strlen(stringcolumn('tpot_target_ms')) > 0 ? column('tpot_target_ms') : 0) name 'G' nooutput
is_role(role) = stringcolumn('role') eq role
stats csv using (is_role('winner') || is_role('front') || is_role('other') ? 0 : 1) name 'R' nooutput
unit = C_max >= 2e6 ? 1e6 : C_max >= 2e3 ? 1e3 : 1.0
set xlabel 'time between tokens (ms)'
set ylabel currency.' a day'.(unit == 1e6 ? ' (million)' : unit == 1e3 ? ' (thousand)' : '')
low = 0
high = T_max * 1.08
set yrange [0:C_max / unit * 1.08]
set xtics tidy_step(T_max, narrow ? 4 : 8)
if (T_min > 0 && T_max > 20 * T_min) { # what is slow must not press what is fast against the axis
    set logscale x
    low = T_min / 1.3
    high = T_max * 1.3
    set xtics 10
    set mxtics 10
    set format x '%g'
}
set xrange [low:high]
set ytics tidy_step(C_max / unit, 6)
set key outside above right horizontal Left reverse samplen 1
target = G_max # 0: there is none
if (target > low && target < high) {
    set arrow from target, graph 0 to target, graph 1 nohead lc rgb '#999999'
    place = low > 0 ? log(target / low) / log(high / low) : target / high
    words = sprintf('target %g ms', target)
    if (place < (narrow ? 0.6 : 0.8)) {
        set label words at target, graph 0.97 left offset 0.5, 0
    } else {
        set label words at target, graph 0.97 right offset -0.5, 0
    }
}
point(wanted) = wanted ? money(column('usd_per_day')) / unit : NaN
low_end(wanted) = wanted && strlen(stringcolumn('usd_per_day_low')) > 0 ? \
    money(column('usd_per_day_low')) / unit : NaN
high_end(wanted) = wanted && strlen(stringcolumn('usd_per_day_high')) > 0 ? \
    money(column('usd_per_day_high')) / unit : NaN
marked(i) = !is_role('front') && !is_role('other')
plot csv using (column('tpot_ms')):(point(marked(0))):(low_end(marked(0))):(high_end(marked(0))) \
         with yerrorbars pt 0 lw 1.5 lc rgb '#999999' notitle, \
     csv using (column('tpot_ms')):(point(column('on_front') == 0)) with points pt 7 ps 0.3 \
         lc rgb sky title 'others', \
     csv using (column('tpot_ms')):(point(column('on_front') == 1)) with points pt 7 ps 0.6 \
         lc rgb blue title 'front', \
     csv using (column('tpot_ms')):(point(!is_role('winner') && !is_role('front') && !is_role('other'))) \
         with points pt 5 ps 1.1 lc rgb orange title (R_max > 0 ? 'reference' : ''), \
     csv using (column('tpot_ms')):(point(is_role('winner'))) with points pt 9 ps 1.4 \
         lc rgb vermillion title 'winner'
