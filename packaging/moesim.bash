# moesim.bash -- completion of moesim in bash.
#
# Commands, options and names are asked of the program itself, so they are those that it knows.

# The words that "moesim ARGUMENTS... --help" lists as commands.
_moesim_commands() {
    "$@" --help 2>/dev/null | sed -n '/^  moesim /d; /^usage:/,$s/^  \([a-z][a-z-]*\)  *[a-z].*$/\1/p'
}

_moesim_options() {
    "$@" --help 2>/dev/null |
        sed -n 's/^ *\(-[a-z], \)\{0,1\}\(--[a-z][a-z-]*\).*$/\1\2/p' | tr -d , | tr ' ' '\n'
    echo --help
}

# The names in "moesim list KIND": the first word of every line that is not indented.
_moesim_names() {
    "$1" list "$2" 2>/dev/null | sed -n 's/^\([^ ][^ ]*\).*$/\1/p'
}

# COMMAND PREVIOUS: which lists have what the command takes behind the word before.
_moesim_kinds_of_command() {
    case $1 in
    run | compare | check) echo studies serving ;;
    serve) echo serving ;;
    study) echo studies ;;
    sweep) echo sweeps ;;
    plan) echo plans ;;
    claims) echo claims ;;
    memory | kernels) echo models ;;
    list) echo "$2" ;;
    esac
}

# Which list has the values of a scenario's key.
_moesim_kind_of_key() {
    case $1 in
    model) echo models ;;
    cluster.gpu) echo gpus ;;
    cluster.preset) echo clusters ;;
    price) echo prices ;;
    trace.preset) echo traces ;;
    routing.policy) echo routers ;;
    routing.drop) echo drops ;;
    placement.strategy) echo strategies ;;
    dispatch.replica) echo replicas ;;
    dispatch.collective | dispatch.prefill_collective) echo collectives ;;
    network) echo networks ;;
    compute.model) echo gpu-models ;;
    offload.policy) echo caches ;;
    serving.engine) echo engines ;;
    esac
}

_moesim_keys="model= cluster.gpu= cluster.preset= price= trace.preset= routing.policy= routing.drop=
placement.strategy= dispatch.replica= dispatch.collective= dispatch.prefill_collective= network=
compute.model= offload.policy= serving.engine="

# --set KEY=VALUE and --vary KEY=A,B: the value is what stands behind "=" and the last comma.
_moesim_setting() {
    local program=$1 key=$2 value=$3 earlier=
    local kind
    kind=$(_moesim_kind_of_key "$key")
    case $value in
    *,*) earlier=${value%,*}, ;;
    esac
    [ -z "$kind" ] ||
        mapfile -t COMPREPLY < <(compgen -P "$earlier" -W "$(_moesim_names "$program" "$kind")" \
            -- "${value##*,}")
}

_moesim() {
    local program=${COMP_WORDS[0]} current=${COMP_WORDS[COMP_CWORD]} words
    local previous=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]} kind
    local -a asked=("$program" "$command")
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="$(_moesim_commands "$program") --help --version"
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
        return
    fi
    # bash makes "=" a word of its own.
    if [ "$current" = = ]; then
        _moesim_setting "$program" "$previous" ""
        return
    elif [ "$previous" = = ]; then
        _moesim_setting "$program" "${COMP_WORDS[COMP_CWORD - 2]}" "$current"
        return
    fi
    words=$(_moesim_commands "$program" "$command")
    if [ -n "$words" ] && "$program" "$command" --help 2>/dev/null | head -n 1 |
        grep -q ' COMMAND'; then
        if [ "$COMP_CWORD" -eq 2 ]; then
            mapfile -t COMPREPLY < <(compgen -W "$words --help" -- "$current")
            return
        fi
        asked+=("${COMP_WORDS[2]}")
    fi
    case $previous in
    --set | --vary)
        compopt -o nospace 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -W "$_moesim_keys" -- "$current")
        return
        ;;
    --model) words=$(_moesim_names "$program" models) ;;
    --preset) words=$(_moesim_names "$program" traces) ;;
    --gpu) words=$(_moesim_names "$program" gpus) ;;
    --price) words=$(_moesim_names "$program" prices) ;;
    --strategy) words=$(_moesim_names "$program" strategies) ;;
    list) words=$("$program" list 2>/dev/null | sed -n 's/^\([a-z-][a-z-]*\) .*$/\1/p') ;;
    -*) words= ;;
    *)
        words=
        for kind in $(_moesim_kinds_of_command "$command" "$previous"); do
            words="$words $(_moesim_names "$program" "$kind")"
        done
        ;;
    esac
    case $current in
    -*) words=$(_moesim_options "${asked[@]}") ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}

# Where nothing above fits, files.
complete -o bashdefault -o default -F _moesim moesim
