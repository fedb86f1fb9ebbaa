// The end of a forward tile: one value of y, where it lies inside.

fn store(position: u32, row: u32, value: f32) {
    if (position < tile.z && row < p.y_stride) {
        y[position * p.y_stride + row] = value;
    }
}
