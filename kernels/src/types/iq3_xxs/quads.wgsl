// Two groups from two entries of four.
fn book_pair(a: u32, b: u32) -> vec2<u32> {
    let x = book(a);
    let y = book(b);
    return vec2<u32>(
        (x & 0x00ff00ffu) | ((y << 8u) & 0xff00ff00u), ((x >> 8u) & 0x00ff00ffu) | (y & 0xff00ff00u));
}
