#!/bin/sh
# What Weft should reach on a large GPU beside llama.cpp: every row once, and a part of it without optional
# features. `benches/table.sh [WEFT [OUT [rows|without]]]` writes OUT/table.md, and OUT/NAME.json for each call.
set -u
weft=${1:-target/release/weft}
out=${2:-benches/results/table}
part=${3:-all}
mkdir -p "$out"

# NAME ARGUMENTS...: a call that fails is noted and does not end the others.
bench() {
    file=$1
    shift
    echo "weft bench $*" >&2
    printf '## weft bench %s\n\n' "$*" >> "$out/table.md"
    "$weft" bench "$@" -o json --output-err md > "$out/$file.json" 2>> "$out/table.md" || rm -f "$out/$file.json"
    printf '\n' >> "$out/table.md"
}

if [ "$part" != without ]; then
    bench qwen3-4b-q4_k_m --synthetic qwen3-4b:q4_k_m -p 512,2048 -n 128
    bench qwen3-4b-q4_k_m-deep --synthetic qwen3-4b:q4_k_m -p 0 -n 128 -d 4096,16384
    bench qwen3-4b-q4_k_m-streams --synthetic qwen3-4b:q4_k_m -p 0 -n 64 -b 4,16,32 -d 128
    bench qwen3-4b-q8_0 --synthetic qwen3-4b:q8_0 -p 2048 -n 128
    bench qwen3-4b-f16 --synthetic qwen3-4b:f16 -p 512,2048 -n 128
    bench qwen3-1.7b-q4_k_m --synthetic qwen3-1.7b:q4_k_m -p 2048 -n 128
    bench llama-3.2-1b-q4_k_m --synthetic llama-3.2-1b:q4_k_m -p 2048 -n 128
    bench qwen3-8b-q4_k_m --synthetic qwen3-8b:q4_k_m -p 2048 -n 128
fi
[ "$part" = rows ] && exit
for without in coop coop,subgroups,f16,dot; do
    name=without-$(echo "$without" | tr , -)
    bench "$name" --without "$without" --synthetic qwen3-4b:q4_k_m -p 2048 -n 128 -b 1,32 -r 3
    bench "$name-deep" --without "$without" --synthetic qwen3-4b:q4_k_m -p 0 -n 128 -d 16384 -r 2
    bench "$name-f16" --without "$without" --synthetic qwen3-4b:f16 -p 2048 -n 0 -r 3
    for model in qwen3-4b:q8_0 qwen3-1.7b:q4_k_m llama-3.2-1b:q4_k_m qwen3-8b:q4_k_m; do
        bench "$name-$(echo $model | tr : -)" --without "$without" --synthetic $model -p 0 -n 128 -r 3
    done
done
