stats csv using (column('prefill_gpus') + column('decode_gpus') + column('idle_gpus')) name 'G' nooutput
stats csv using (column('idle_gpus')) name 'I' nooutput
stats csv using (column('idle_paid')) name 'P' nooutput
set xlabel 'hour of the day'
set ylabel 'GPUs'
set xrange [-0.6:23.6]
set xtics 0, narrow ? 6 : 3, 23
set yrange [0:G_max * 1.05]
set ytics whole_step(G_max, 6)
set key outside above right horizontal Left reverse samplen 1 maxcols (narrow ? 2 : 4)
prefill(i) = column('prefill_busy_gpus')
decode(i) = prefill(0) + column('decode_busy_gpus')
run(i) = column('prefill_gpus') + column('decode_gpus')
all(i) = run(0) + column('idle_gpus')
paid = sprintf('scaled down (%.0f %% paid)', 100 * P_max)
plot csv using (column('hour')):(prefill(0) / 2):(0.42):(prefill(0) / 2) \
         with boxxyerror lc rgb blue title 'prefill at work', \
     csv using (column('hour')):((prefill(0) + decode(0)) / 2):(0.42):((decode(0) - prefill(0)) / 2) \
         with boxxyerror lc rgb green title 'decode at work', \
     csv using (column('hour')):((decode(0) + run(0)) / 2):(0.42):((run(0) - decode(0)) / 2) \
         with boxxyerror lc rgb sky title 'room in groups that run', \
     csv using (column('hour')):((run(0) + all(0)) / 2):(0.42):(I_max > 0 ? (all(0) - run(0)) / 2 : NaN) \
         with boxxyerror lc rgb 'grey' title (I_max > 0 ? paid : '')
