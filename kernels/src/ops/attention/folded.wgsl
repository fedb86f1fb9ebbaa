//@ param NAME
//@ param SCORE
// The sums of a quad for a lane's keys; the second counts if there are two.
fn $NAME(x: array<$SCORE, U>, lane: u32) -> vec2<$SCORE> {
    let odd = (lane & 1u) != 0u;
    let upper = (lane & 2u) != 0u;
    //@ if EIGHT
    let low = vec4<$SCORE>(x[0], x[1], x[2], x[3]);
    let high = vec4<$SCORE>(x[4], x[5], x[6], x[7]);
    let four = select(low, high, odd) + subgroupShuffleXor(select(high, low, odd), 1u);
    return select(four.xy, four.zw, upper) + subgroupShuffleXor(select(four.zw, four.xy, upper), 2u);
    //@ else
    //@ if FOUR
    let low = vec2<$SCORE>(x[0], x[1]);
    let high = vec2<$SCORE>(x[2], x[3]);
    let two = select(low, high, odd) + subgroupShuffleXor(select(high, low, odd), 1u);
    let one = select(two.x, two.y, upper) + subgroupShuffleXor(select(two.y, two.x, upper), 2u);
    //@ else
    //@ if TWO
    var one = select(x[0], x[1], odd) + subgroupShuffleXor(select(x[1], x[0], odd), 1u);
    //@ else
    var one = x[0] + subgroupShuffleXor(x[0], 1u);
    //@ end
    one += subgroupShuffleXor(one, 2u);
    //@ end
    return vec2<$SCORE>(one, one);
    //@ end
}
