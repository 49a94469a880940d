# A bar a name, the first on top; see case_study_chart.c for what is defined before.
stats csv using (column(y_name)) name 'V' nooutput
stats csv using (strlen(cut(stringcolumn(x_name), narrow ? 22 : 44))) name 'N' nooutput
low = V_min < 0 ? V_min : 0
high = V_max > 0 ? V_max : 0
pad = (high - low) * (narrow ? 0.28 : 0.12)
unset grid
set grid xtics
set border 1
set ytics scale 0
set lmargin at screen 0.03 + N_max * (narrow ? 0.0185 : 0.0086)
set rmargin at screen 0.97
set xrange [low - (low < 0 ? pad : 0):high + pad]
set yrange [V_records - 0.4:-0.6]
set xtics tidy_step(high - low + pad, narrow ? 3 : 8)
plot csv using (column(y_name) / 2):0:(abs(column(y_name)) / 2):(0.3): \
         ytic(cut(stringcolumn(x_name), narrow ? 22 : 44)) with boxxyerror lc rgb blue, \
     csv using (column(y_name) < 0 ? 0 : column(y_name)):0:(digits(column(y_name))) \
         with labels left offset 0.5, 0
