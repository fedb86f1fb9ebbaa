//! What the system says of the disk.

use std::path::Path;

/// Bytes that this user may still write to the disk of a folder; None where the system does not say.
#[cfg(unix)]
pub fn free(folder: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(folder.as_os_str().as_bytes()).ok()?;
    // SAFETY: the path ends with a zero, the answer goes into a value of its own, for which all zeros is valid.
    let stat = unsafe {
        let mut stat: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &mut stat) == 0).then_some(stat)?
    };
    // The types of both differ from system to system.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    let bytes = (stat.f_bavail as u64).checked_mul(stat.f_frsize as u64);
    bytes
}

/// Bytes that this user may still write to the disk of a folder; None where the system does not say.
#[cfg(windows)]
pub fn free(folder: &Path) -> Option<u64> {
    use std::os::windows::ffi::OsStrExt;
    #[link(name = "kernel32")]
    unsafe extern "system" {
        fn GetDiskFreeSpaceExW(folder: *const u16, mine: *mut u64, all: *mut u64, free: *mut u64) -> i32;
    }
    let path: Vec<u16> = folder.as_os_str().encode_wide().chain([0]).collect();
    let mut mine = 0;
    let none = std::ptr::null_mut();
    // SAFETY: the path ends with a zero, and the one answer that is asked for has its place.
    let ok = unsafe { GetDiskFreeSpaceExW(path.as_ptr(), &mut mine, none, none) };
    (ok != 0).then_some(mine)
}

/// Bytes that this user may still write to the disk of a folder; None where the system does not say.
#[cfg(not(any(unix, windows)))]
pub fn free(_: &Path) -> Option<u64> {
    None
}
