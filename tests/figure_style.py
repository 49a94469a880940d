"""Words and numbers on figures: the functions of reports/style.gp, as gnuplot computes them.

Usage: figure_style.py STYLE. Exits with 77 where there is no gnuplot.
"""
import shutil
import subprocess
import sys

# Every digit that is shown is one of x; no label has an exponent or ends in a point.
CASES = {
    "digits(0.0)": "0",
    "digits(0.0000123)": "0.0000123",
    "digits(0.00123)": "0.00123",
    "digits(0.5)": "0.500",
    "digits(0.99996)": "1.00",
    "digits(9.996)": "10.0",
    "digits(12.0)": "12.0",
    "digits(99.96)": "100",
    "digits(500.0)": "500",
    "digits(1500.0)": "1500",
    "digits(40000.0)": "40000",
    "digits(-2.5)": "-2.50",
    "digits(money(2.32))": "2.00",  # of EUR at 1.16
    "bare('routing.capacity_factor=2 trace.path=/a/b.c/d')": "capacity_factor=2 path=d",
    "bare('plain words')": "plain words",
    "sprintf('%g', tidy_step(7.0, 4))": "2",
    "sprintf('%g', whole_step(3.0, 8))": "1",
}


def main():
    style = sys.argv[1]
    if shutil.which("gnuplot") is None:
        print("figure_style: skipped, there is no gnuplot here (apt-get install gnuplot-nox)")
        return 77
    script = "narrow = 0; height = 400; currency = 'EUR'; usd_per_unit = 1.16\n"
    script += f"load '{style}'\nset print '-'\n"
    script += "".join(f"print {expression}\n" for expression in CASES)
    shown = subprocess.run(["gnuplot"], input=script, capture_output=True, text=True, check=True)
    problems = 0
    for (expression, expected), got in zip(CASES.items(), shown.stdout.splitlines(), strict=True):
        if got != expected:
            print(f"figure_style: {expression} is '{got}', not '{expected}'")
            problems += 1
    print(f"figure_style: {len(CASES)} cases, {problems} problems")
    return 1 if problems > 0 else 0


if __name__ == "__main__":
    sys.exit(main())
