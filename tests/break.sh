#!/usr/bin/env bash
# Do the cases notice a broken kernel? Each round breaks several kernels at once, one line each, builds,
# and runs for each only the cases that reach it. Changes the WGSL of this working tree and puts it back,
# so it wants a tree without changes in kernels/.
#   tests/break.sh [ROUND]...
set -euo pipefail
cd "$(dirname "$0")/.."
git diff --quiet HEAD -- kernels || { echo "error: kernels/ has changes; commit them first" >&2; exit 1; }
trap 'git checkout -q HEAD -- kernels/src' EXIT
target=${CARGO_TARGET_DIR:-target}

# round ~ file under kernels/src ~ sed that breaks it, or `drop N` for its N-th barrier ~ what that is ~ cases to run
# Within a round no two touch the same cases. Round 4 wants a device with cooperative matrices.
mutations() {
    cat <<TABLE
1~types/q4_0/ints.wgsl~s/-8\.0 \* h/-9.0 * h/~offset 8 is 9~--op embed --type q4_0
1~types/q6_k/ints.wgsl~s/vec4<u32>(4u)/vec4<u32>(5u)/~shift 4 is 5~--op embed --type q6_k
1~ops/activation/silu.wgsl~s/(1\.0 + exp/(1.5 + exp/~1 is 1.5~--op glu
1~ops/rope/kernel.wgsl~s/127u/126u/~mask 127 is 126~--op rope
1~ops/sample/kernel.wgsl~drop 2~barrier of the argmax's steps~--op sample
1~ops/attention/kernel.wgsl~drop 2~barrier after the scores~--op attention --variant rows
1~ops/matmul/tiled.wgsl~drop 1~barrier after the loads~--op matmul --variant tiled --type q8_0
1~ops/qk_norm_rope/kernel.wgsl~drop 1~barrier before the rotation~--op qk_norm_rope
2~types/q4_0/ints.wgsl~s/half_of(h.q, half)/half_of(h.q, half ^ 1u)/~halves swapped~--op embed --type q4_0
2~types/q6_k/ints.wgsl~s/8u \* half, 8u/8u * half, 9u/~width 8 is 9~--op embed --type q6_k
2~ops/activation/gelu_erf.wgsl~s/0\.23164188/0.24164188/~a coefficient off by a twentieth~--op activation
2~ops/softcap/kernel.wgsl~s/p\.cap \* act/act/~not scaled back~--op softcap
2~ops/strengths/kernel.wgsl~s/p\.first + /p.first * 0u + /~the strengths of other rows~--op strengths
2~ops/rope/kernel.wgsl~s/>> 7u/>> 6u/~shift 7 is 6~--op rope
2~ops/sample/kernel.wgsl~s/24u - 8u/25u - 8u/~shift 24 is 25~--op sample
2~ops/attention/kernel.wgsl~drop 5~barrier after the values~--op attention --variant rows
2~ops/attention/decode.wgsl~s/= coming.*;/= 0u;/~blocks of later rounds~--op attention --variant decode
3~types/nines.wgsl~s/word >> 9u/word >> 8u/~shift 9 is 8~--op embed --type iq2_xs
3~types/iq1_m/ints.wgsl~s/0xf00u/0x700u/~a sign dropped~--op embed --type iq1_m
3~ops/matmul/matvec_dot.wgsl~drop 1~barrier after the code book~--op matmul --variant matvec_dot --type iq3_s
3~ops/matmul/lanes_shuffled.wgsl~drop 1~barrier after the shuffles~--op matmul --variant chain --type q8_0
3~ops/matmul/chain_residual.wgsl~drop 1~barrier before the squares are added~--op matmul --variant chain --type q4_0
3~ops/matmul/gradient.wgsl~drop 1~barrier after the loads~--op matmul_dx --variant tiled --type q8_0
3~ops/lora/outer.wgsl~drop 1~barrier before the splits are added~--op lora_grad_b
3~ops/attention/decode.wgsl~drop 1~barrier after the new key~--op attention --variant decode
3~ops/attention/paged.wgsl~s/- 1u - p.chunk)/- p.chunk)/~a chunk's blocks miscounted~--op attention --variant tiled
3~ops/qk_norm_rope/paged.wgsl~s/block % p.chunks/(block + 1u) % p.chunks/~another's chunk~--op qk_norm_rope
3~ops/attention/backward_kv.wgsl~drop 1~barrier after the loads~--op attention_backward --variant rows
3~ops/layernorm/kernel.wgsl~s/wb.p.cols + i./wb[i]/~weights added for biases~--op layernorm
3~ops/pooling/kernel.wgsl~s/begin > wanted.x/begin >= wanted.x/~a first token adds to what was there~--op pool
3~wgsl/reduce.wgsl~drop 2~barrier of a sum's steps~--op rmsnorm
4~ops/matmul/coop.wgsl~drop 1~barrier after the loads~--op matmul --variant coop --type q8_0
4~ops/attention/coop.wgsl~drop 3~barrier after the keys~--op attention --variant coop
4~ops/attention/backward_coop.wgsl~drop 2~barrier before the first product~--op attention_backward --variant coop
TABLE
}

# break_one FILE EDIT
break_one() {
    case $2 in
    drop\ *)
        awk -v n="${2#drop }" '/workgroupBarrier\(\);/ && ++k == n { sub(/workgroupBarrier\(\);/, "") } 1' "$1" >"$1.new"
        mv "$1.new" "$1"
        ;;
    *) sed -i "$2" "$1" ;;
    esac
}

build() { cargo build --release --locked --quiet -p weft-harness; }
# The last line of the cases' output: N passed, N failed, N unsupported.
count() {
    # shellcheck disable=SC2086
    "$target/release/weft" kernels test $1 2>/dev/null | tail -n 1 || true
}

for round in "${@:-1}"; do
    git checkout -q HEAD -- kernels/src
    while IFS='~' read -r _ file edit _; do
        break_one "kernels/src/$file" "$edit"
        ! git diff --quiet HEAD -- "kernels/src/$file" || { echo "error: $file: nothing matches $edit" >&2; exit 1; }
    done < <(mutations | grep "^$round~")
    build
    while IFS='~' read -r _ file _ what cases; do
        last=$(count "$cases")
        case $last in
        *" passed, 0 failed"*) said=SURVIVED ;;
        *" failed, "*) said=caught ;;
        *) said="DID NOT RUN" ;;
        esac
        echo "| $said | $file | $what | $last |"
    done < <(mutations | grep "^$round~")
done

# Without a mutation all of them pass; else being caught means nothing.
git checkout -q HEAD -- kernels/src
build
mutations | cut -d'~' -f5 | sort -u | while IFS= read -r cases; do
    last=$(count "$cases")
    [[ $last == *" passed, 0 failed"* ]] || { echo "error: unbroken: $cases: $last" >&2; exit 1; }
    echo "| unbroken | $cases | | $last |"
done
