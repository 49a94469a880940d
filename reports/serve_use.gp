stats csv using (column('end_s')) name 'T' nooutput
# Cells of a pool that is not there are empty: nothing is drawn, and nothing stands in the key.
stats csv using (strlen(stringcolumn('prefill_busy_percent')) > 0 ? 1 : 0) name 'P' nooutput
divisor = T_max > 7200 ? 3600.0 : T_max > 600 ? 60.0 : 1.0
set xlabel T_max > 7200 ? 'hours' : T_max > 600 ? 'minutes' : 'seconds'
set ylabel '%'
set xrange [0:T_max / divisor]
set yrange [0:105]
if (narrow) {
    set bmargin at screen 0.3
    set key on at screen 0.52, 0.085 center center horizontal maxcols 2 Left reverse samplen 1
} else {
    set key on outside right center vertical Left reverse samplen 1 spacing 1.3
}
two = P_max > 0
plot csv using (column('begin_s') / divisor):(column('main_busy_percent')) with steps lw 2 \
         lc rgb blue title two ? 'busy, answers' : 'busy', \
     csv using (column('begin_s') / divisor):(column('main_kv_percent')) with steps lw 2 \
         lc rgb green title two ? 'KV, answers' : 'KV cache', \
     csv using (column('begin_s') / divisor):(two ? column('prefill_busy_percent') : NaN) \
         with steps lw 2 lc rgb orange title two ? 'busy, prompts' : '', \
     csv using (column('begin_s') / divisor):(two ? column('prefill_kv_percent') : NaN) \
         with steps lw 2 lc rgb vermillion title two ? 'KV, prompts' : ''
