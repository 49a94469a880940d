#!/usr/bin/env bash
# measure.sh -- one command for a GPU machine: build, check, measure, compare.
#
# Needs gcc, CMake 3.22 and the CUDA Toolkit 12.5, or a moe-bench that lies in --build already;
# compute-sanitizer and PyTorch are used where they are.
# Whatever happens, what was measured until then stays in --out: rows.csv (every check and timing, one
# schema), log.txt (all that was said), cuda.log (what the driver says of calls that failed).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PATH+=:${CUDA_HOME:+$CUDA_HOME/bin:}/usr/local/cuda/bin # compute-sanitizer, where nvcc is

usage() {
    cat <<'TEXT'
usage: kernels/measure.sh [options] [PART...]

Parts, in this order (default: all of the first nine, 9 minutes at most):
  build     moe-bench, in --build
  prove     every kernel, and every version of the grouped GEMMs, on small sizes, a process each:
            one that hangs or breaks the GPU takes no other with it, and is left out from there on
  sanitize  the same under compute-sanitizer: memcheck, racecheck, synccheck
  check     every kernel at full size, and the core models' layers on sampled rows
  ceilings  copy, dense bf16, launch
  kernels   every kernel and version of the core models, with cuBLAS beside the grouped GEMMs
  forward   core models x 1 ... 16384 tokens x routings, phases, cuBLAS in the same layer
  ragged    grouped GEMMs under uneven loads and odd sizes: tile and wave effects
  peers     the same layers by torch._grouped_mm and a Triton fused MoE, in turns with ours
  fp8       kernels and forward of the core models in fp8, with cuBLASLt's block scales, and the
            layers by torch._scaled_grouped_mm and DeepGEMM, in turns with ours
  rest      forward of every other MoE model of scenarios/models
  ranks     forward of the core models over virtual ranks
  nccl      expert parallelism by NCCL, a rank a GPU: checked, and the core models' forward

A build that never ran on a GPU: "build prove" says in a minute or two which kernels are right; of
one that is not, where it differs and the first values. Then "sanitize check" for those, then the
timings: they leave out what prove found wrong only in the same run, so name prove among the parts.

options:
  --out DIR           where results go (default $OUT, else ./measured)
  --build DIR         build directory (default build/measure)
  --budget SECONDS    for all parts together (default 540): a part alone has it all
  --models A,B        instead of the core models deepseek-v3,mixtral-8x7b,qwen3-30b-a3b,gpt-oss-20b
  --tokens A,B        instead of 1,8,64,512,4096,16384
  --trace MODEL=FILE  replay .npy routing (FILE or FILE:LAYER) for a model too; may be repeated
  --seed N            of all random data (default 1)
  --dry-run           print the commands; run moe-bench only to list what it would do
  --help

MOESIM_COMMIT, CUDACXX, CUDA_HOME in the environment: what the rows shall name as commit where there
is no git checkout; nvcc and the CUDA Toolkit where they are in no usual place.

example: kernels/measure.sh --out results --trace gpt-oss-20b=experts.npy:12
TEXT
}

out=${OUT:-measured} build=$here/../build/measure budget=540 dry_run=0 seed=1
models=deepseek-v3,mixtral-8x7b,qwen3-30b-a3b,gpt-oss-20b
tokens=1,8,64,512,4096,16384
traces=() parts=()
default_parts=(build prove sanitize check ceilings kernels forward ragged peers)
all_parts=("${default_parts[@]}" fp8 rest ranks nccl)
without= # versions of the grouped GEMMs that are left out, separated by commas
peers=(--peers) # empty where cuBLAS breaks the GPU

# Seconds that each part is planned to take. The budget is shared out among those asked for: limits
# are given for the planned time, and `stretch`, in percent, makes them what a part has.
declare -A planned=([build]=40 [prove]=70 [sanitize]=85 [check]=130 [ceilings]=15 [kernels]=85
    [forward]=90 [ragged]=40 [peers]=90 [fp8]=230 [rest]=400 [ranks]=120 [nccl]=140)
stretch=100

fail() {
    printf 'measure.sh: %s\n' "$*" >&2
    exit 1
}

while [ $# -gt 0 ]; do
    case $1 in
    --help) usage && exit 0 ;;
    --dry-run) dry_run=1 ;;
    --out | --build | --budget | --models | --tokens | --trace | --seed)
        [ $# -ge 2 ] || fail "$1 needs a value (see --help)"
        case $1 in
        --out) out=$2 ;;
        --build) build=$2 ;;
        --budget) budget=$2 ;;
        --models) models=$2 ;;
        --tokens) tokens=$2 ;;
        --trace) traces+=("$2") ;;
        --seed) seed=$2 ;;
        esac
        shift
        ;;
    *)
        [[ " ${all_parts[*]} " == *" $1 "* ]] || fail "$1: no such part or option (see --help)"
        parts+=("$1")
        ;;
    esac
    shift
done
[ ${#parts[@]} -gt 0 ] || parts=("${default_parts[@]}")
[[ $budget =~ ^[1-9][0-9]*$ ]] || fail "--budget $budget: whole seconds are needed"
for trace in "${traces[@]}"; do
    file=${trace#*=}
    [[ $trace == *=* && -r ${file%:*} ]] || fail "--trace $trace: MODEL=FILE.npy[:LAYER] is needed"
done

bench=$build/moe-bench
rows=$out/rows.csv
began=$SECONDS
failures=()
looked=0 # whether the GPU was

left() {
    echo $((budget - (SECONDS - began)))
}

# plan_stretch PART...: of the parts still to come, the first is about to begin. So time that parts
# before did not need is shared out; and what may hang is not given more to hang in.
plan_stretch() {
    local part sum=0
    for part in "$@"; do
        sum=$((sum + planned[$part]))
    done
    stretch=$((100 * $(left) / sum))
    case $1 in build | prove) stretch=100 ;; esac
    [ "$stretch" -ge 50 ] || stretch=50 # the first parts whole rather than bits of all
}

# allowed SECONDS: so many, stretched, or what is left.
allowed() {
    local seconds=$(($1 * stretch / 100)) remaining
    remaining=$(left)
    echo $((seconds < remaining ? seconds : remaining))
}

# run SECONDS COMMAND...: prints the command; runs it for at most so long (stretched), and no longer
# than is left. Its exit status is then in the variable status.
run() {
    local seconds
    seconds=$(allowed "$1")
    shift
    status=0
    if [ "$seconds" -lt 2 ] && [ "$dry_run" = 0 ]; then # told once: nothing behind it in its part will run
        [[ "${failures[*]:-}" == *"out of time in $part"* ]] ||
            failures+=("out of time in $part, from here on: $*")
        status=77
        return 0
    fi
    printf '+ %s\n' "$*"
    [ "$dry_run" = 0 ] || return 0
    timeout --kill-after=5 "$seconds" "$@" 2>&1 || status=$?
    case $status in
    0) ;;
    77) echo "skipped" ;;
    124 | 137) failures+=("cut off after $seconds s: $*") ;;
    *) failures+=("exit $status: $*") ;;
    esac
}

# ask SECONDS COMMAND...: what it says, if it says so in time.
ask() {
    local seconds=$1 remaining
    remaining=$(left)
    shift
    [ "$remaining" -ge 2 ] || return 1
    timeout --kill-after=5 $((seconds < remaining ? seconds : remaining)) "$@" 2>/dev/null
}

# bench SECONDS COMMAND OPTION...: moe-bench with this run's file and seed. A dry run lists its cases.
bench() {
    local seconds=$1
    shift
    [ -z "$without" ] || set -- "$@" --without "$without"
    if [ "$dry_run" = 1 ]; then
        printf '+ %s\n' "$bench $*"
        status=0
        [ ! -x "$bench" ] || "$bench" "$@" --dry-run >/dev/null || fail "moe-bench $* is refused"
        return 0
    fi
    # Some time before the end no new case is begun, so that none is cut off.
    local budget_s
    budget_s=$(allowed "$seconds")
    budget_s=$((budget_s - (budget_s > 40 ? 10 : budget_s / 4)))
    run "$seconds" "$bench" "$@" --csv "$rows" --seed "$seed" --budget "$budget_s"
}

# value MODEL KEY: a number of scenarios/models/MODEL.yaml, or nothing.
value() {
    sed -n "s/^ *$2: *\([0-9]*\).*/\1/p" "$here/../scenarios/models/$1.yaml" | head -n 1
}

# flags MODEL: the layer as moe-bench's options, in the array layer. The gates are not in the
# presets: as in the models' Hugging Face code.
flags() {
    local model=$1 shared groups
    [ -r "$here/../scenarios/models/$model.yaml" ] || fail "no scenarios/models/$model.yaml"
    [ -n "$(value "$model" num_experts)" ] || fail "$model has no experts"
    shared=$(value "$model" shared_ffn_dim) groups=$(value "$model" num_expert_groups)
    layer=(--name "$model" --hidden-dim "$(value "$model" hidden_dim)"
        --ffn-dim "$(value "$model" expert_ffn_dim)" --num-experts "$(value "$model" num_experts)"
        --top-k "$(value "$model" top_k)" --shared-ffn-dim "${shared:-0}")
    [ -z "$groups" ] ||
        layer+=(--num-groups "$groups" --topk-groups "$(value "$model" topk_groups)")
    case $model in
    deepseek-v3*) layer+=(--score sigmoid --choice-bias --renormalize --scale 2.5 --group-score top2) ;;
    kimi-k2) layer+=(--score sigmoid --choice-bias --renormalize --scale 2.827) ;;
    glm-*) layer+=(--score sigmoid --choice-bias --renormalize --scale 2.5) ;;
    minimax-m2) layer+=(--score sigmoid --choice-bias --renormalize) ;;
    gpt-oss-*) layer+=(--score chosen_softmax --activation swiglu_clamped --biases) ;;
    llama-4-*) layer+=(--score chosen_sigmoid --weigh-input) ;;
    deepseek-v2) layer+=(--score softmax --scale 16) ;;
    deepseek-v2-lite | deepseek-moe-16b | olmoe-1b-7b | qwen1.5-moe-a2.7b) layer+=(--score softmax) ;;
    *) layer+=(--score softmax --renormalize) ;;
    esac
}

# routings MODEL: balanced, lognormal, and the model's traces.
routings() {
    local list=balanced,lognormal trace
    for trace in "${traces[@]}"; do
        [ "${trace%%=*}" != "$1" ] || list+=,${trace#*=}
    done
    echo "$list"
}

# each_model SECONDS COMMAND OPTION...: for every model, an equal share of the time each.
each_model() {
    local seconds=$1 command=$2 list model
    shift 2
    IFS=, read -r -a list <<<"$models"
    for model in "${list[@]}"; do
        flags "$model"
        bench $((seconds / ${#list[@]})) "$command" "${layer[@]}" "$@" \
            --routing "$(routings "$model")"
    done
}

# build_in DIRECTORY OPTION...: without MPI, which every one of many short processes would start.
build_in() {
    local directory=$1 options=(-DCMAKE_BUILD_TYPE=Release -DMOESIM_CUDA=ON -DMOESIM_WERROR=OFF
        -DMOESIM_TESTS=OFF -DCMAKE_DISABLE_FIND_PACKAGE_MPI=ON)
    shift
    [ -z "${MOESIM_COMMIT:-}" ] || options+=("-DMOESIM_COMMIT=$MOESIM_COMMIT")
    ! command -v ninja >/dev/null || options+=(-G Ninja)
    run 60 cmake -S "$here" -B "$directory" "${options[@]}" "$@"
    [ "$status" != 0 ] ||
        run 240 cmake --build "$directory" --target moe-bench --parallel "$(nproc)"
}

part_build() {
    build_in "$build"
    if [ "$status" != 0 ] && [ -x "$bench" ]; then
        echo "not built: going on with the moe-bench that lies there, of an older commit perhaps"
    fi
}

# The GPU, before anything is tried on it: where it cannot be used every part would only be skipped.
look() {
    looked=1
    [ "$(left)" -ge 5 ] || return 0
    if [ "$dry_run" = 0 ] && [ ! -x "$bench" ]; then
        fail "there is no $bench: part build makes it, and says what it lacks"
    fi
    ! command -v nvidia-smi >/dev/null || run 20 nvidia-smi
    run 30 "$bench" device
    [ "$status" = 0 ] || fail "nothing can be measured here: moe-bench says above why"
}

# watch_hang OPTION...: what was cut off, once more in a build whose waits say where they hang.
watch_hang() {
    local bench=$build-watchdog/moe-bench
    [ -x "$bench" ] || build_in "$build-watchdog" -DMOESIM_WATCHDOG=ON
    [ ! -x "$bench" ] || bench 15 check --size small "$@"
}

# Smallest first, so that what everything else stands on is known before it.
part_prove() {
    local kernel version
    for kernel in gate permute permute_rows combine; do
        bench 20 check --size small --kernels "$kernel"
    done
    for version in plain mma wgmma persistent cluster stream; do
        bench 25 check --size small --kernels grouped_gemm --versions "$version"
        case $status in 124 | 137)
            watch_hang --kernels grouped_gemm --versions "$version"
            status=124
            ;;
        esac
        if [ "$status" != 0 ] && [ "$status" != 77 ] && [ "$version" != plain ]; then
            without+=${without:+,}$version
            echo "from here on without $version"
        fi
    done
    for kernel in layer ep; do
        bench 25 check --size small --kernels "$kernel"
    done
    # What is timed beside ours is in the same process, and can take ours with it.
    bench 20 time --name tiny --num-experts 8 --top-k 2 --hidden-dim 256 --ffn-dim 256 --peers \
        --kernels grouped_gate_up,grouped_down --tokens 8 --samples 3
    if [ "$status" != 0 ] && [ "$status" != 77 ]; then
        peers=()
        echo "from here on without cuBLAS beside"
    fi
}

# sanitizer TOOL SECONDS KERNELS
sanitizer() {
    local tool=$1 seconds=$2
    run "$seconds" compute-sanitizer --tool "$tool" --print-limit 10 --error-exitcode 9 "$bench" \
        check --size small --seed "$seed" --csv "$rows" --kernels "$3" --without "$without" \
        --budget $(($(allowed "$seconds") * 3 / 4))
}

part_sanitize() {
    if [ "$dry_run" = 0 ] && ! command -v compute-sanitizer >/dev/null; then
        echo "skipped: no compute-sanitizer"
        return 0
    fi
    sanitizer memcheck 20 gate,permute,permute_rows,combine,layer,ep
    sanitizer memcheck 25 grouped_gemm
    # Races are looked for in shared memory, which gate and combine do not use.
    sanitizer racecheck 10 permute,ep
    sanitizer racecheck 20 grouped_gemm
    sanitizer synccheck 10 grouped_gemm
}

part_check() {
    bench 15 check --kernels gate,permute,permute_rows,combine
    bench 20 check --kernels grouped_gemm
    bench 15 check --kernels layer,ep
    # The reference of sampled rows reads an expert's weights for each, on one core.
    each_model 56 check --kernels model --tokens 4096
    # More than 2^31 elements of x and y.
    models=${models%%,*} each_model 24 check --kernels model --tokens 65536
}

part_ceilings() {
    bench 15 ceilings
}

part_kernels() {
    bench 10 time --kernels gate --name softmax-256 --num-experts 256 --top-k 8 --score softmax \
        --renormalize --hidden-dim 1024 --ffn-dim 64 --tokens 1,64,1024,8192
    # 64 experts of 1024 and 2048 rows: none of the core models.
    bench 15 time --name e64-4096x2048 --num-experts 64 --top-k 4 --score softmax --renormalize \
        --hidden-dim 4096 --ffn-dim 2048 --kernels grouped_gate_up,grouped_down "${peers[@]}" \
        --samples 20 --tokens 16384,32768
    each_model 60 time "${peers[@]}" --samples 20 --tokens "${tokens%%,*},64,4096,${tokens##*,}"
}

part_forward() {
    each_model 90 forward "${peers[@]}" --tokens "$tokens"
}

part_ragged() {
    local sigma gemms=(--kernels "grouped_gate_up,grouped_down" --samples 15
        --versions "automatic,persistent,cluster,stream")
    flags mixtral-8x7b
    for sigma in 0.5 1.5; do
        bench 10 time "${layer[@]}" "${gemms[@]}" --routing lognormal --sigma "$sigma" \
            --tokens 100,300,700,1500,3000
    done
    bench 10 time "${layer[@]}" "${gemms[@]}" --routing balanced \
        --tokens 508,512,516,1020,1024,1028,1536,2048,2560
    flags qwen3-30b-a3b
    bench 10 time "${layer[@]}" "${gemms[@]}" --routing lognormal,uniform,one \
        --tokens 128,1024,5000
}

# python_peers SECONDS OPTION...: the layers by PyTorch and Triton, in turns with ours.
python_peers() {
    local seconds=$1 list model share
    shift
    if [ "$dry_run" = 0 ] && ! ask 60 python3 -c 'import torch'; then
        echo "skipped: no PyTorch, or no time to begin it"
        return 0
    fi
    IFS=, read -r -a list <<<"$models"
    for model in "${list[@]}"; do
        flags "$model"
        [ -z "$without" ] || layer+=(--without "$without")
        # PyTorch begins slowly, and Triton compiles in a case's own time: 20 seconds at least.
        seconds=$((seconds * stretch < 2000 * ${#list[@]} ? 2000 * ${#list[@]} / stretch : seconds))
        share=$(allowed $((seconds / ${#list[@]})))
        if [ "$share" -lt 18 ] && [ "$dry_run" = 0 ]; then
            failures+=("out of time: peers of $model")
            continue
        fi
        run $((seconds / ${#list[@]})) python3 "$here/peers.py" --csv "$rows" --tokens "$tokens" \
            --routing "$(routings "$model")" --seconds $((share - 8 - share / 8)) -- \
            "$bench" forward "${layer[@]}" "$@" --seed "$seed"
    done
}

part_peers() {
    python_peers 90
}

part_fp8() {
    each_model 60 time --dtype fp8 "${peers[@]}" --samples 20 --tokens "64,4096,${tokens##*,}" \
        --kernels permute_rows,grouped_gate_up,grouped_down
    each_model 80 forward --dtype fp8 "${peers[@]}" --tokens "$tokens"
    python_peers 90 --dtype fp8
}

part_rest() {
    local file model others=
    for file in "$here"/../scenarios/models/*.yaml; do
        model=$(basename "$file" .yaml)
        [ -n "$(value "$model" num_experts)" ] || continue
        case ,$models, in *",$model,"*) continue ;; esac
        others+=${others:+,}$model
    done
    models=$others each_model 400 forward --tokens 64,4096
}

part_ranks() {
    each_model 120 forward --ranks 8 --tokens 512,4096,16384
}

# NCCL where the loader finds it, or the one that came with PyTorch.
part_nccl() {
    local gpus=1 path
    if [ "$dry_run" = 0 ]; then
        gpus=$(ask 20 nvidia-smi --list-gpus | wc -l) || gpus=1
        path=$(ask 20 python3 -c \
            'import nvidia.nccl as n; print(n.__path__[0] + "/lib/libnccl.so.2")') || path=
        [ ! -r "$path" ] || export MOESIM_NCCL="${MOESIM_NCCL:-$path}"
    fi
    bench 60 check --kernels ep_nccl
    each_model 80 forward --ep nccl --ranks $((gpus > 0 ? gpus : 1)) --tokens 512,4096,16384
}

# Ours against the best of the others, for every layer that both have timed.
summary() {
    [ -s "$rows" ] || return 0
    awk -F, '
        NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
        $column["command"] == "check" && ++checked && $column["status"] != "ok" && ++wrong < 20 {
            printf "WRONG %s %s, %s %s, %s tokens %s: %s\n", $column["kernel"], $column["version"],
                $column["model"], $column["dtype"], $column["num_tokens"], $column["routing"],
                $column["status"]
        }
        $column["command"] == "forward" && $column["kernel"] == "layer" && $column["phase"] == "" &&
            $column["num_ranks"] == "" && $column["median_ns"] > 0 {
            key = $column["model"] " " $column["dtype"] " " $column["num_tokens"] " " $column["routing"]
            version = $column["version"]; ns = $column["median_ns"] + 0
            if (version == "graph") { ours[key] = ns }
            else if (!(key in best) || ns < best[key]) { best[key] = ns; who[key] = version }
        }
        END {
            printf "%d checks, %d wrong\n", checked, wrong
            for (key in ours) if (key in best)
                printf "%-48s %10.1f us  %6.2f x  %s\n", key, ours[key] / 1000,
                    best[key] / ours[key], who[key]
        }' "$rows" | sort -V
}

main() {
    local part next=0
    printf '%s, %s, budget %s s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$(uname -n)" "$budget"
    for part in "${parts[@]}"; do
        plan_stretch "${parts[@]:next}"
        next=$((next + 1))
        printf '\n=== %s (at %d s of %d)\n' "$part" $((SECONDS - began)) "$budget"
        if [ "$(left)" -lt 5 ]; then
            failures+=("out of time before $part")
            continue
        fi
        [ "$part" = build ] || [ "$looked" = 1 ] || look
        "part_$part"
    done
    [ "$looked" = 1 ] || look
    [ "$dry_run" = 1 ] || summary
    printf '\n%d s; %d problems\n' $((SECONDS - began)) ${#failures[@]}
    [ ${#failures[@]} -eq 0 ] || printf '  %s\n' "${failures[@]}"
    [ ${#failures[@]} -eq 0 ]
}

IFS=, read -r -a list <<<"$models"
for model in "${list[@]}"; do
    flags "$model" # a name that is none shall not be found in the middle
done
if [ "$dry_run" = 1 ]; then
    main
else
    mkdir -p "$out"
    out=$(cd "$out" && pwd) rows=$out/rows.csv
    export CUDA_LOG_FILE=$out/cuda.log # of the driver, from CUDA 12.9 on
    main 2>&1 | tee -a "$out/log.txt"
fi
