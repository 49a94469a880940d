# curves.gp -- draws loss.svg and balance.svg from the logs of train.py:
#   gnuplot curves.gp
set datafile separator ","
set datafile missing ""
set terminal svg size 720,360 font "sans-serif,12" background "white"
set key autotitle columnheader top right
set grid lc rgb "#dddddd"
set xlabel "tokens seen (millions)"
runs = "unbalanced aux_loss loss_free"
array colour[3] = ["#d55e00", "#0072b2", "#009e73"]
name(i) = word(runs, i)
array label[3] = ["unbalanced", "auxiliary loss", "loss-free bias"]

set output "loss.svg"
set title "Loss of the language model (nats a token); points: held out"
set yrange [*:8.5]
plot for [i=1:3] name(i).".csv" using ($2/1e6):5 with lines lc rgb colour[i] lw 1.5 \
         title label[i], \
     for [i=1:3] name(i).".csv" using ($2/1e6):6 with points pt 7 ps 0.5 lc rgb colour[i] notitle

set output "balance.svg"
set title "Load of the hottest expert over the mean, mean of the layers"
set yrange [1:8]
plot for [i=1:3] name(i).".csv" using ($2/1e6):8 with lines lc rgb colour[i] lw 1.5 \
         title label[i]
