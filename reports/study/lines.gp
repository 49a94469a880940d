# A line a series over numbers, its rows joined in their order; see case_study_chart.c for what is
# defined before.
set grid xtics ytics
set key at graph 0, screen 1 top left Left reverse samplen 2 maxrows 3 width narrow ? -4 : 2
set tmargin num_series > 0 ? (narrow ? num_series + 1 : (num_series < 3 ? num_series : 3) + 1) : 1
if (narrow) { set key maxrows 7 }
if (log_x) { set logscale x 2 }
set autoscale xfix
stats csv using (column(y_name)) name 'Y' nooutput
if (log_y) { set logscale y; set yrange [Y_min * 0.8:Y_max * 1.25] } else { set yrange [Y_min < 0 ? Y_min * 1.1 : 0:*] }
set offsets graph 0.02, graph 0.02, graph 0.05, 0
array shades[7] = [blue, vermillion, green, orange, purple, sky, grey]
array marks[7] = [7, 5, 9, 13, 11, 15, 3]
if (num_series == 0) {
    plot csv using (column(x_name)):(column(y_name)) with linespoints lc rgb blue lw 2 pt 7 notitle
} else {
    set key on
    plot for [i = 1:num_series] csv \
        using (stringcolumn(series_name) eq names[i] ? column(x_name) : NaN):(column(y_name)) \
        with linespoints lc rgb shades[i] lw 2 pt marks[i] ps 1 title names[i]
}
