//! Memory that is a buffer and textures at once, on llvmpipe (Mesa's Vulkan on the CPU).
//!
//! Mesa before 23 loads from a storage buffer lane by lane through the stack, some 18 clocks for each lane's
//! word; a texel of four words it gathers in some 15 a lane. So weights there are read through textures that lie
//! over the memory of their buffer. Vulkan allows it for linear images, whose layout in memory it defines
//! ("Memory Aliasing" in its specification); WebGPU has no word for it, so buffer and textures are made
//! here by hand. On other drivers than llvmpipe, which knows no layouts of images and no caches of textures,
//! this would need barriers that wgpu cannot be told of.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use ash::vk;
use wgpu::hal::api::Vulkan;
use wgpu::hal::vulkan;

use crate::{Error, Result};

/// Texels in a row of a texture, of 16 bytes each.
pub(crate) const WIDTH: u32 = 1024;

/// A row of texels in bytes.
const ROW: u64 = WIDTH as u64 * 16;

/// What a texture may need behind its last row: llvmpipe rounds heights up to 64.
const BEHIND: u64 = 64 * ROW;

/// The memory of a buffer, with the textures that were made over it.
#[derive(Debug)]
pub(crate) struct Memory {
    memory: vk::DeviceMemory,
    bytes: u64,
    views: Mutex<BTreeMap<(u64, u64), wgpu::TextureView>>,
}

/// Rows that a texture can have, which hold all that one binding can: llvmpipe's takes 128 MiB.
const ROWS: u64 = 16_384;

/// Whether an adapter can have them.
pub(crate) fn possible(adapter: &wgpu::AdapterInfo, limits: &wgpu::Limits) -> bool {
    adapter.backend == wgpu::Backend::Vulkan
        && adapter.driver == "llvmpipe"
        && limits.max_storage_buffer_binding_size <= ROWS * ROW
}

/// A buffer whose memory textures can lie over. `None` where there is no more memory.
///
/// # Errors
/// The driver's.
pub(crate) fn buffer(
    device: &wgpu::Device,
    descriptor: &wgpu::BufferDescriptor<'_>,
) -> Result<Option<(wgpu::Buffer, Memory)>> {
    let size = descriptor.size;
    let usage = vk::BufferUsageFlags::STORAGE_BUFFER
        | vk::BufferUsageFlags::UNIFORM_BUFFER
        | vk::BufferUsageFlags::TRANSFER_SRC
        | vk::BufferUsageFlags::TRANSFER_DST;
    // SAFETY: the handles are made on this device and used by nobody else; memory and buffer go to wgpu, which
    // frees both with the buffer. Weights are written whole before a kernel uses them, so it need not be zeroed.
    unsafe {
        let hal = hal(device)?;
        let raw = hal.raw_device();
        let info = vk::BufferCreateInfo::default().size(size).usage(usage);
        let buffer = raw.create_buffer(&info, None).map_err(error)?;
        let needs = raw.get_buffer_memory_requirements(buffer);
        let bytes = needs.size.max(size) + BEHIND;
        let info = vk::MemoryAllocateInfo::default()
            .allocation_size(bytes)
            .memory_type_index(needs.memory_type_bits.trailing_zeros());
        let memory = match raw.allocate_memory(&info, None) {
            Ok(memory) => memory,
            Err(e) => {
                raw.destroy_buffer(buffer, None);
                let full = [vk::Result::ERROR_OUT_OF_DEVICE_MEMORY, vk::Result::ERROR_OUT_OF_HOST_MEMORY];
                return if full.contains(&e) { Ok(None) } else { Err(error(e)) };
            }
        };
        let bound = raw.bind_buffer_memory(buffer, memory, 0);
        let managed = vulkan::Buffer::from_raw_managed(buffer, memory, 0, bytes);
        drop(hal);
        let buffer = device.create_buffer_from_hal::<Vulkan>(managed, descriptor);
        bound.map_err(error)?;
        Ok(Some((buffer, Memory { memory, bytes, views: Mutex::default() })))
    }
}

impl Memory {
    /// The texture over `size` bytes from `offset` on: four words a texel, [`WIDTH`] texels a row.
    ///
    /// # Errors
    /// The driver's; a layout of images that is not the one expected.
    pub(crate) fn view(&self, device: &wgpu::Device, offset: u64, size: u64) -> Result<wgpu::TextureView> {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = views.get(&(offset, size)) {
            return Ok(view.clone());
        }
        let extent =
            wgpu::Extent3d { width: WIDTH, height: size.div_ceil(ROW) as u32, depth_or_array_layers: 1 };
        let format = wgpu::TextureFormat::Rgba32Uint;
        let info = vk::ImageCreateInfo::default()
            .image_type(vk::ImageType::TYPE_2D)
            .format(vk::Format::R32G32B32A32_UINT)
            .extent(vk::Extent3D { width: extent.width, height: extent.height, depth: 1 })
            .mip_levels(1)
            .array_layers(1)
            .samples(vk::SampleCountFlags::TYPE_1)
            .tiling(vk::ImageTiling::LINEAR)
            .usage(vk::ImageUsageFlags::SAMPLED)
            .initial_layout(vk::ImageLayout::PREINITIALIZED);
        // SAFETY: the image is made on this device and goes to wgpu, which destroys it; it lies inside the memory,
        // which is that of a buffer that every group binding the texture binds as well. Who fills the buffer
        // waits for it before a texture is read.
        let texture = unsafe {
            let hal = hal(device)?;
            let raw = hal.raw_device();
            let image = raw.create_image(&info, None).map_err(error)?;
            let of = hal.texture_from_raw(
                image,
                &wgpu::hal::TextureDescriptor {
                    label: Some("texels"),
                    size: extent,
                    mip_level_count: 1,
                    sample_count: 1,
                    dimension: wgpu::TextureDimension::D2,
                    format,
                    usage: wgpu::TextureUses::RESOURCE,
                    memory_flags: wgpu::hal::MemoryFlags::empty(),
                    view_formats: Vec::new(),
                },
                None,
                vulkan::TextureMemory::External,
            );
            let needs = raw.get_image_memory_requirements(image);
            let colour = vk::ImageSubresource::default().aspect_mask(vk::ImageAspectFlags::COLOR);
            let layout = raw.get_image_subresource_layout(image, colour);
            let lies = layout.offset == 0
                && layout.row_pitch == ROW
                && offset.is_multiple_of(needs.alignment)
                && offset + needs.size <= self.bytes;
            let bound = match lies {
                true => raw.bind_image_memory(image, self.memory, offset).map_err(error),
                false => Err(Error::Gpu(format!(
                    "images of {WIDTH} texels lie otherwise than expected ({layout:?}, {needs:?}): try --without texels"
                ))),
            };
            drop(hal);
            let texture = device.create_texture_from_hal::<Vulkan>(
                of,
                &wgpu::TextureDescriptor {
                    label: Some("texels"),
                    size: extent,
                    mip_level_count: 1,
                    sample_count: 1,
                    dimension: wgpu::TextureDimension::D2,
                    format,
                    usage: wgpu::TextureUsages::TEXTURE_BINDING,
                    view_formats: &[],
                },
                wgpu::TextureUses::RESOURCE,
            );
            bound?;
            texture
        };
        let view = texture.create_view(&Default::default());
        views.insert((offset, size), view.clone());
        Ok(view)
    }
}

/// The device as Vulkan's.
unsafe fn hal(device: &wgpu::Device) -> Result<impl std::ops::Deref<Target = vulkan::Device>> {
    // SAFETY: what is done with it is the caller's to answer for.
    unsafe { device.as_hal::<Vulkan>() }.ok_or_else(|| Error::Gpu("no Vulkan device".into()))
}

fn error(e: vk::Result) -> Error {
    Error::Gpu(format!("Vulkan: {e}"))
}
