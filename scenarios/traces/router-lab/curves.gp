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
set title "Loss of the language model"
set ylabel "nats a token"
set yrange [*:8.5]
# The three read the same text, so their curves lie on each other: drawn from wide to thin.
array wide[3] = [5, 3, 1]
array shape[3] = [4, 6, 2]
plot for [i=1:3] name(i).".csv" using ($2/1e6):5 with lines lc rgb colour[i] lw wide[i] \
         title label[i].", training", \
     for [i=1:3] name(i).".csv" using ($2/1e6):6 with points pt shape[i] ps 0.9 \
         lc rgb "black" title label[i].", held out"

set output "balance.svg"
set title "Load of the hottest expert, mean of the layers"
set ylabel "over the mean load"
set yrange [1:8]
plot for [i=1:3] name(i).".csv" using ($2/1e6):8 with lines lc rgb colour[i] lw 1.5 \
         title label[i]
