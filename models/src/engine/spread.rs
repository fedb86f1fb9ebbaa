//! Work of the host on whole vocabularies, on as many threads as there are pieces of it and cores.

/// What `each` makes of every piece, in their order.
///
/// # Panics
/// If `each` does.
pub fn side_by_side<T: Send, R: Send>(work: Vec<T>, each: impl Fn(T) -> R + Sync) -> Vec<R> {
    let cores = match cfg!(target_arch = "wasm32") {
        true => 1,
        false => std::thread::available_parallelism().map_or(1, |n| n.get()),
    };
    let threads = cores.min(work.len());
    if threads < 2 {
        return work.into_iter().map(each).collect();
    }
    let share = work.len().div_ceil(threads);
    let (mut work, each) = (work.into_iter(), &each);
    std::thread::scope(|scope| {
        let part = || Some(work.by_ref().take(share).collect::<Vec<_>>()).filter(|part| !part.is_empty());
        let parts: Vec<_> = std::iter::from_fn(part)
            .map(|part| scope.spawn(|| part.into_iter().map(each).collect::<Vec<_>>()))
            .collect();
        parts.into_iter().flat_map(|part| part.join().expect("work that does not panic")).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::side_by_side;

    #[test]
    fn pieces_come_back_in_their_order() {
        for n in [0, 1, 2, 7, 100] {
            let doubled = side_by_side((0..n).collect(), |i| 2 * i);
            assert_eq!(doubled, (0..n).map(|i| 2 * i).collect::<Vec<u32>>());
        }
    }
}
