// relu(v) = max(v, 0), and its slope

fn act(v: f32) -> f32 {
    return max(v, 0.0);
}

fn act_and_slope(v: f32) -> vec2<f32> {
    return vec2<f32>(max(v, 0.0), select(0.0, 1.0, v > 0.0));
}
