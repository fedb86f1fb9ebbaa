#!/usr/bin/env bash
# Two Wefts in two network namespaces, with a wire between them that is cut and mended: paired, used, cut, fallen back,
# used again. server/tests/peers.rs looks at what goes between two machines; here it is the network itself that goes away.
# Needs root and `ip`; where either is missing it says so and ends well.
#
#   tests/namespaces.sh [WEFT]
set -euo pipefail
cd "$(dirname "$0")/.."
weft=$(realpath "${1:-target/debug/weft}")
skip() { echo "skipped: $1"; exit 0; }
command -v ip >/dev/null || skip "there is no ip(8)"
tag=weft$$
desk=$tag-d laptop=$tag-l
ip netns add "$desk" 2>/dev/null || skip "no network namespaces can be made here"
work=$(mktemp -d)
pids=()
end() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    ip netns del "$desk" 2>/dev/null || true
    ip netns del "$laptop" 2>/dev/null || true
    rm -rf "$work"
}
trap end EXIT
ip netns add "$laptop"
ip -n "$desk" link add wire type veth peer name wire netns "$laptop" 2>/dev/null || skip "no veth can be made here"
for side in "$desk 10.77.0.1" "$laptop 10.77.0.2"; do
    read -r ns ip <<<"$side"
    ip -n "$ns" addr add "$ip/24" dev wire
    ip -n "$ns" link set wire up
    ip -n "$ns" link set lo up
done
fail() {
    echo "failed: $1"
    cat "$work"/*.log
    exit 1
}
start() { # NAMESPACE LOG ARGUMENTS...
    local ns=$1 log=$2
    shift 2
    ip netns exec "$ns" "$weft" serve --port 8080 "$@" >"$work/$log" 2>&1 &
    pids+=($!)
    for _ in $(seq 600); do
        grep -q '^listening at' "$work/$log" && return
        kill -0 "$!" 2>/dev/null || fail "weft serve ended"
        sleep 0.1
    done
    fail "weft serve does not come up"
}
# Prints the head and the body of an answer to a question for MODEL.
ask() { # MODEL [FIELDS]
    ip netns exec "$laptop" curl -s -i -m 120 http://127.0.0.1:8080/v1/chat/completions \
        -H 'Content-Type: application/json' \
        -d "{\"model\": \"$1\", \"messages\": [{\"role\": \"user\", \"content\": \"What is 17 + 25?\"}]${2:-}}"
}
want() { # WHAT TEXT MACHINE
    grep -qi "^x-weft-machine: $3" <<<"$2" && grep -q "The answer is 42" <<<"$2" || fail "$1: $2"
    echo "$1: answered by $3"
}
start "$desk" desk.log --pair --machine-name desk --pair-dir "$work/desk"
code=$(sed -n 's/.*weft pair \([^@ ]*\)@.*/\1/p' "$work/desk.log")
# Without an address, it is found by mDNS.
if ip netns exec "$laptop" "$weft" pair "$code" --machine-name laptop --pair-dir "$work/laptop" 2>"$work/found.log"; then
    echo "paired: found by mDNS"
else
    echo "mDNS finds nothing here: $(cat "$work/found.log")"
    ip netns exec "$laptop" "$weft" pair "$code@10.77.0.1" --machine-name laptop --pair-dir "$work/laptop" \
        2>"$work/pair.log" || fail "it is not paired"
fi
start "$laptop" laptop.log --machine-name laptop --pair-dir "$work/laptop"
want used "$(ask weft-mini@desk)" desk
# The wire goes in the middle of a stream.
(ask weft-mini@desk ', "stream": true, "max_tokens": 2000, "ignore_eos": true' >"$work/stream.log") &
stream=$!
for _ in $(seq 100); do [ -s "$work/stream.log" ] && break; sleep 0.1; done
ip -n "$desk" link set wire down
wait "$stream" || true
grep -q 'machine_lost' "$work/stream.log" || fail "a stream that was cut does not say so"
echo "cut: the stream ends with an error"
want "fallen back" "$(ask weft-mini@desk)" laptop
ip -n "$desk" link set wire up
for _ in $(seq 50); do
    again=$(ask weft-mini@desk)
    grep -qi '^x-weft-machine: desk' <<<"$again" && break
    sleep 0.2
done
want "used again" "$again" desk
