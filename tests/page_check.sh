#!/bin/sh
# page_check.sh -- opens the report in a headless Chromium as a desk and as a phone would.
#
# Usage: page_check.sh FAKE_RESULTS MOESIM DIRECTORY
#
# Fails if a script complains, if the page is wider than its window, if a name and a long value among
# the assumptions run into each other, or if the maps do not answer to arrow keys with the numbers of
# the CSV. Leaves a screenshot of each width in DIRECTORY. Exits with
# 77 where there is no Chromium.
set -eu

fake_results=$1
moesim=$2
directory=$3
problems=0

browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
if [ -z "$browser" ]; then
    echo "page_check: skipped, there is no chromium here (apt-get install chromium)"
    exit 77
fi
if ! command -v gnuplot > /dev/null; then
    echo "page_check: skipped, there is no gnuplot here (apt-get install gnuplot-nox)"
    exit 77
fi

problem() {
    echo "page_check: $*"
    problems=$((problems + 1))
}

# browse WINDOW OPTION... FILE: what the page says goes to $directory/dom, complaints to log.
browse() {
    window=$1
    shift
    timeout 120 "$browser" --headless=new --no-sandbox --disable-gpu --hide-scrollbars \
        --enable-logging=stderr --user-data-dir="$directory/profile" \
        --window-size="$window,3000" "$@" > "$directory/dom" 2> "$directory/log" ||
        problem "the browser failed"
    if grep 'CONSOLE' "$directory/log"; then
        problem "a script complained"
    fi
}

# What a user would do, done by a script that is only in the test's copy of the page.
# shellcheck disable=SC2016
act='<script>
const root = document.documentElement;
const answers = [];
for (const plot of document.querySelectorAll(".plot[tabindex]")) {
  plot.focus();
  plot.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight", bubbles: true}));
  answers.push(plot.parentElement.querySelector(".readout").textContent);
}
const fact = document.querySelectorAll(".facts tbody tr")[1].cells;
fact[0].textContent = "attention and dense GEMMs";
fact[1].textContent = "attention: flash, median error 6.7 %; dense GEMMs: deepgemm, 8.3 %";
const cramped = [...fact].filter((cell) => cell.scrollWidth > cell.clientWidth).length;
parent.postMessage(`width ${innerWidth} content ${root.scrollWidth} cramped ${cramped} ` +
  `maps ${answers.length} first ${answers[0]}`, "*");
</script></body>'

rm -rf "$directory"
mkdir -p "$directory"
"$fake_results" "$directory/results.db" compare > /dev/null
"$moesim" report "$directory/results.db" -o "$directory/page" > /dev/null
awk -v act="$act" '$0 == "</body>" { print act; next } { print }' \
    "$directory/page/index.html" > "$directory/page/acted.html"

# A window cannot be as narrow as a phone, but a frame can.
for width in 1440 390; do
    cat > "$directory/page/frame-$width.html" << END
<!DOCTYPE html>
<script>onmessage = (event) => { document.documentElement.dataset.check = event.data; };</script>
<iframe src="acted.html" style="border: 0; width: ${width}px; height: 2000px"></iframe>
END
done

# The cell right of the first one is the CSV's second row; its numbers as page.js writes them.
expected=$(awk -F, 'NR == 3 {
    tokens = $3
    if (length(tokens) > 3) {
        tokens = substr(tokens, 1, length(tokens) - 3) "," substr(tokens, length(tokens) - 2)
    }
    printf "layer %s, expert %s: %s tokens, %.2f times the mean", $1, $2, tokens, $4
}' "$directory/page/figures/expert_load.csv")

for width in 1440 390; do
    browse "$width" --screenshot="$directory/page-$width.png" "file://$directory/page/index.html"
    if [ "$(wc -c < "$directory/page-$width.png")" -lt 50000 ]; then
        problem "the screenshot at $width px is empty"
    fi
    browse 1600 --virtual-time-budget=5000 --dump-dom "file://$directory/page/frame-$width.html"
    check=$(sed -n 's/.*data-check="\([^"]*\)".*/\1/p' "$directory/dom" | head -n 1)
    case $check in
    "width $width content $width cramped 0 maps 3 first $expected") ;;
    *) problem "at $width px: got '$check', expected 'width $width content $width cramped 0 maps 3" \
        "first $expected'" ;;
    esac
done

rm -rf "$directory/profile" "$directory/dom" "$directory/log" "$directory"/page/frame-*.html \
    "$directory/page/acted.html"
echo "page_check: $problems problems; screenshots in $directory"
[ "$problems" -eq 0 ]
