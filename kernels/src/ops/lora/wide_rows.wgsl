// The wide operand lies in rows: value c of row t is at row_at(t) + column_at(c).
fn row_at(t: u32) -> u32 {
    return t * p.wide_stride;
}
fn column_at(c: u32) -> u32 {
    return c;
}
