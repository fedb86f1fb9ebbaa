//! The order of values in tiles, on the host: see [`Format::Tiles`](super::Format::Tiles).

/// The values of rows `[rows, cols]` in the order of tiles of `side`; 0 past the last row.
pub fn tiles(x: &[f32], cols: usize, side: usize) -> Vec<f32> {
    let rows = x.len() / cols;
    let mut y = vec![0.0; rows.next_multiple_of(side) * cols];
    for (r, row) in x.chunks_exact(cols).enumerate() {
        for (c, &v) in row.iter().enumerate() {
            y[place(r, c, cols, side)] = v;
        }
    }
    y
}

/// The rows that tiles hold, the inverse of [`tiles`].
pub fn rows(y: &[f32], rows: usize, cols: usize, side: usize) -> Vec<f32> {
    let row = |r: usize| (0..cols).map(move |c| place(r, c, cols, side));
    (0..rows).flat_map(row).map(|at| y[at]).collect()
}

fn place(row: usize, col: usize, cols: usize, side: usize) -> usize {
    (row / side * (cols / side) + col / side) * side * side + row % side * side + col % side
}
