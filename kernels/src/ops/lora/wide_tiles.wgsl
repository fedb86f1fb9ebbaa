// The wide operand lies in tiles of T x T: value c of row t is at row_at(t) + column_at(c), and four values from a
// multiple of 4 on lie side by side.
fn row_at(t: u32) -> u32 {
    return t / T * T * p.wide_stride + t % T * T;
}
fn column_at(c: u32) -> u32 {
    return c / T * T * T + c % T;
}
