//! Matrices of made-up weights: some blocks are repacked once and then copied on the GPU as often as a matrix
//! is long, so that neither host memory nor the bus sees a model's size.

use weft_runtime::{Gpu, Pool, Recorder, Slice};

use crate::weight::planes;
use crate::{Result, Weight, WeightShape, WeightType};

/// Blocks of one type on the GPU, in planes.
#[derive(Debug, Clone)]
pub struct Pattern {
    ty: WeightType,
    /// Whole blocks of each.
    planes: Vec<Slice>,
}

impl Pattern {
    /// The pattern of `blocks`, which are a multiple of 4 blocks of `ty` as a file has them.
    ///
    /// # Errors
    /// Out of memory; a fault of the device.
    ///
    /// # Panics
    /// If they are not.
    pub fn new(gpu: &Gpu, ty: WeightType, blocks: &[u8]) -> Result<Pattern> {
        // Copies begin at multiples of 4 bytes, and no plane has less than a byte of a block.
        assert!(!blocks.is_empty() && blocks.len().is_multiple_of(4 * ty.layout().bytes), "blocks of {ty}");
        let planes = planes(ty, blocks);
        // In a pool of its own: a buffer cannot be copied to itself.
        let plane = |bytes: &Vec<u8>| gpu.alloc_init(Pool::Activations, bytes, "made-up weights");
        Ok(Pattern { ty, planes: planes.iter().map(plane).collect::<std::result::Result<_, _>>()? })
    }

    /// A matrix of repetitions of the pattern, each of its slabs from the pattern's beginning.
    ///
    /// # Errors
    /// Out of memory; a fault of the device.
    ///
    /// # Panics
    /// If the type is not the pattern's.
    pub fn weight(&self, gpu: &Gpu, shape: WeightShape, label: &str) -> Result<Weight> {
        assert_eq!(shape.ty, self.ty, "{label}");
        let layout = self.ty.layout();
        let mut slices = Vec::with_capacity(shape.slabs.len());
        let mut rec = Recorder::new(gpu);
        for slab in &shape.slabs {
            let slice = gpu.alloc(Pool::Weights, slab.bytes, label)?;
            if !layout.table.is_empty() {
                gpu.write(&slice, 0, bytemuck::cast_slice(layout.table))?;
            }
            let blocks = u64::from(slab.count()) * u64::from(shape.cols) / layout.block as u64;
            for ((pattern, &each), &start) in self.planes.iter().zip(layout.planes).zip(&slab.planes) {
                // Planes begin at multiples of 16 bytes, so that there is room for the last word.
                let bytes = (blocks * each as u64).next_multiple_of(4);
                let (start, size) = (u64::from(start) * 4, pattern.size());
                for at in (0..bytes).step_by(size as usize) {
                    let n = size.min(bytes - at);
                    rec.copy(&pattern.range(0, n), &slice.range(start + at, n));
                }
            }
            slices.push(slice);
        }
        gpu.run(&rec.finish()?, None)?;
        Ok(Weight { shape, slices })
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;
    use crate::testing::{Rng, random_blocks};
    use crate::{Weight, WeightShape, WeightType};

    /// The same planes as an upload of the repeated blocks, over several slabs.
    #[test]
    fn a_pattern_is_an_upload_of_its_repetitions() {
        let budget = crate::Budget { max_binding: 1 << 14, ..crate::Budget::WEBGPU };
        let options = weft_runtime::Options { budget: Some(budget), ..Default::default() };
        let gpu = pollster::block_on(crate::open(&options)).expect("a device");
        let row_of = |ty: WeightType, row: u32, cols: u32| (ty.row_bytes(cols as usize), row as usize);
        for ty in [WeightType::F16, WeightType::Q8_0, WeightType::Q4_K, WeightType::Q6_K, WeightType::IQ4_NL]
        {
            let (rows, cols) = (301, 512);
            let blocks = random_blocks(ty, 6, cols as usize, &mut Rng::new(7));
            let shape = WeightShape::new(ty, rows, cols, gpu.budget()).expect("a shape");
            assert!(shape.slabs.len() > 1, "{ty}");
            let made = Pattern::new(&gpu, ty, &blocks).and_then(|p| p.weight(&gpu, shape.clone(), "made"));
            let made = made.expect("made");
            for (slab, slice) in shape.slabs.iter().zip(&made.slices) {
                let (row, count) = row_of(ty, slab.count(), cols);
                let bytes: Vec<u8> = blocks.iter().copied().cycle().take(row * count).collect();
                let alone = WeightShape::new(ty, slab.count(), cols, gpu.budget()).expect("a slab");
                let want = Weight::upload(&gpu, alone, &[&bytes], "uploaded").expect("uploaded");
                let read = |s| gpu.read_vec::<u8>(s).expect("bytes");
                let (got, want) = (read(slice), read(&want.slices[0]));
                let blocks = slab.count() as usize * cols as usize / ty.layout().block;
                for (&start, &each) in slab.planes.iter().zip(ty.layout().planes) {
                    let plane = start as usize * 4..start as usize * 4 + blocks * each;
                    assert!(
                        got[plane.clone()] == want[plane.clone()],
                        "{ty}, rows {:?}, {plane:?}",
                        slab.rows
                    );
                }
            }
        }
    }
}
