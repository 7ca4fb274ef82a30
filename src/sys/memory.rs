//! Memory of this process. Nothing here touches a file system.
#![allow(unsafe_code)]

/// Gives memory that was freed back to the system.
///
/// glibc's allocator does that by itself only at the upper end of a heap, where after a walk some object that is still
/// in use nearly always is. Takes some milliseconds for each hundred megabytes. Does nothing with other C libraries.
pub fn give_back() {
    // SAFETY: malloc_trim has no preconditions, and is safe to call from several threads.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
