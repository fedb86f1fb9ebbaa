// m(r, c) for four ranks from r on by four columns from c on: a vector of columns for each rank. 0 past
// the end.
fn block(r: u32, c: u32) -> mat4x4<f32> {
    if (BY_RANK == 1u) {
        return mat4x4<f32>(m_row(r, c), m_row(r + 1u, c), m_row(r + 2u, c), m_row(r + 3u, c));
    }
    return transpose(mat4x4<f32>(m_column(r, c), m_column(r, c + 1u), m_column(r, c + 2u), m_column(r, c + 3u)));
}

fn m_row(r: u32, c: u32) -> vec4<f32> {
    if (QUADS == 1u || r < p.ranks) {
        return matrix_at(r * p.width + c, p.width - c);
    }
    return vec4<f32>();
}

fn m_column(r: u32, c: u32) -> vec4<f32> {
    if (QUADS == 1u || c < p.width) {
        return matrix_at(c * p.ranks + r, p.ranks - r);
    }
    return vec4<f32>();
}
