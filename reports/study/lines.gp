# A line a series over numbers, its rows joined in their order; see case_study_chart.c for what is
# defined before.
set grid xtics ytics
# Three columns of names have room side by side if none is longer than 22 letters, else two.
longest = 0
do for [i = 1:num_series] { if (strlen(names[i]) > longest) { longest = strlen(names[i]) } }
columns = longest > 22 ? 2 : 3
key_rows = narrow ? 7 : (num_series > 3 * columns ? (num_series + columns - 1) / columns : 3)
set key at graph 0, screen 0.99 top left Left reverse samplen 2 maxrows key_rows width narrow ? -4 : 2
set tmargin num_series > 0 ? (num_series < key_rows ? num_series : key_rows) + 1 : 1
if (log_x) { set logscale x 2 }
set autoscale xfix
stats csv using (column(y_name)) name 'Y' nooutput
if (log_y) {
    set logscale y
    set yrange [Y_min * 0.8:Y_max * 1.25]
    # Powers of ten alone would leave an axis of one or two decades with one number or two.
    if (Y_max < 1000 * Y_min) {
        digits = Y_max < 8 * Y_min ? "1 1.2 1.5 2 2.5 3 4 5 6 8" : "1 2 5"
        set ytics ()
        do for [power = -12:12] {
            do for [digit in digits] {
                set ytics add (sprintf("%g", digit * 10.0 ** power) digit * 10.0 ** power)
            }
        }
    }
} else {
    set yrange [Y_min < 0 ? Y_min * 1.1 : 0:*]
}
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
