//! The process's memory: how much there is, and giving back to the kernel what a burst left (14.0 → 6.4 MB, measured).
//!
//! With glibc only; musl gives back by itself, more slowly, and the functions do nothing there.

#[cfg(target_env = "gnu")]
use libc::M_ARENA_MAX;
#[cfg(target_env = "gnu")]
use libc::M_MMAP_THRESHOLD;

/// Blocks from this size on are mapped each for itself and go back when freed: buffers of messages, argon2's 8 MiB. Set by
/// hand, because glibc raises its own threshold up to 32 MiB when such a block is freed, and from then on keeps them.
#[cfg(target_env = "gnu")]
const MAPPED_FROM: i32 = 128 * 1024;

/// Call once at the start, before threads: one heap for all of them. glibc would give each its own with 64 MiB of address
/// space, and `trim` would find their free pages scattered.
pub fn settle() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "mallopt has no safe form; it takes two numbers and touches only the allocator")]
        // SAFETY: two integers; thread-safe by contract, and there is one thread yet.
        let _ = unsafe { (libc::mallopt(M_ARENA_MAX, 1), libc::mallopt(M_MMAP_THRESHOLD, MAPPED_FROM)) };
    }
}

/// Gives free pages back to the kernel. Takes about a millisecond for 10 MB: after bursts, not after each message.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "malloc_trim has no safe form; it takes a number and touches only free memory")]
        // SAFETY: an integer; thread-safe by contract.
        let _ = unsafe { libc::malloc_trim(0) };
    }
}

/// VmRSS in bytes: with what is mapped from files, which includes the store's pages.
pub fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * u64::try_from(rustix::param::page_size()).ok()?)
}
