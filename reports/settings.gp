row_key = column_key = ''
stats csv using (row_key = stringcolumn('row_setting'), \
                 column_key = stringcolumn('column_setting'), 0) nooutput
stats csv using (column('column_place')):(column('row_place')) name 'P' nooutput
stats csv using (money(column('usd_per_million_tokens'))) name 'C' nooutput
name_of(row) = row_key eq '' ? short(stringcolumn('row_value'), narrow ? 20 : 40) \
                             : cut(last_part(stringcolumn('row_value')), narrow ? 14 : 30)
stats csv using (strlen(name_of(0))) name 'N' nooutput
shade(x) = C_max == C_min ? 0 : (x - C_min) / (C_max - C_min)
unset grid
unset colorbox
set border 0
set tics scale 0
set lmargin at screen (row_key eq '' ? 0.03 : narrow ? 0.1 : 0.05) + N_max * (narrow ? 0.0198 : 0.0086)
set rmargin at screen 0.98
set title currency.' per million tokens'
set xlabel bare(column_key)
set ylabel bare(row_key) offset (narrow ? 1 : 0), 0
set cbrange [C_min:C_max > C_min ? C_max : C_min * 1.01]
set xrange [-0.5:P_max_x + 0.5]
set yrange [P_max_y + 0.5:-0.5]
plot csv using (column('column_place')):(column('row_place')):(0.48):(0.46): \
         (money(column('usd_per_million_tokens'))): \
         xtic(cut(last_part(stringcolumn('column_value')), 60 / (narrow ? 2 : 1) / (P_max_x + 1))): \
         ytic(name_of(0)) with boxxyerror lc palette, \
     csv using (money(column('usd_per_million_tokens')) == C_min ? column('column_place') : NaN): \
         (column('row_place')):(0.48):(0.46) with boxxyerror lc rgb vermillion lw 4 fs empty, \
     csv using (column('column_place')):(column('row_place')): \
         (narrow && P_max_x > 5 ? '' : digits(money(column('usd_per_million_tokens')))): \
         (shade(money(column('usd_per_million_tokens'))) > 0.6 ? 0x111111 : 0xFFFFFF) \
         with labels tc rgb variable
