array heading[3] = ['step time', currency.' per million tokens', 'busiest rank / mean rank']
array name[3] = ['step_ns_mean', 'usd_per_million_tokens', 'rank_tokens_max_over_mean']
array divisor[3] = [1, usd_per_unit, 1]
array color[3] = [blue, green, orange]
array top[3]
stats csv using (column('step_ns_mean')) name 'T' nooutput
divisor[1] = time_divisor(T_max)
heading[1] = 'step time ('.time_unit(T_max).')'
do for [i=1:3] {
    stats csv using (column(name[i]) / divisor[i]) name 'V' nooutput
    top[i] = V_max
}
name_of(row) = short(stringcolumn('run'), narrow ? 24 : 44)
stats csv using (strlen(name_of(0))) name 'N' nooutput
left = 0.03 + N_max * (narrow ? 0.0195 : 0.0084)
label(row) = panel == 1 || narrow ? name_of(0) : ''
unset grid
set grid xtics
set border 1
set ytics scale 0
if (narrow) {
    set multiplot layout 3, 1 margins left, 0.93, 28 / height, 1 - 28 / height spacing 0, 60 / height
} else {
    set multiplot layout 1, 3 margins left, 0.97, 60 / height, 1 - 44 / height spacing 0.04, 0
}
do for [i=1:3] {
    panel = i
    set title heading[i] offset 0, -0.5
    set xrange [0:top[i] * 1.25]
    set yrange [T_records - 0.4:-0.6]
    set xtics tidy_step(top[i], top[i] < 0.1 ? 2 : 4) # small numbers are long
    plot csv using (column(name[i]) / divisor[i] / 2):0:(column(name[i]) / divisor[i] / 2):(0.3): \
             ytic(label(0)) with boxxyerror lc rgb color[i], \
         csv using (column(name[i]) / divisor[i]):0: \
             (digits(column(name[i]) / divisor[i])) with labels left offset 0.4, 0
}
unset multiplot
