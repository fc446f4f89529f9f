//! The system calls that the program makes, by name: what `sandbox::seccomp` allows. Everything else fails with EPERM.
//!
//! Found by strace over the prototypes (72 calls), widened by what the libraries do in rarer moments. There is no execve, no
//! ptrace, no mount, no bpf, no io_uring, no keyctl, no setuid. aarch64 never had the calls that x86_64 keeps for old
//! programs, hence two lists. 32-bit ARM and others run without seccomp and say so.

/// Numbers of this architecture, name by name.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! numbers {
    ($($name:ident)*) => { &[$(libc::$name),*] };
}

/// On every architecture.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const COMMON: &[libc::c_long] = numbers![
    // files of the store, the configuration and the certificates
    SYS_openat SYS_close SYS_read SYS_write SYS_readv SYS_writev SYS_pread64 SYS_pwrite64 SYS_preadv SYS_pwritev
    SYS_lseek SYS_fstat SYS_newfstatat SYS_statx SYS_statfs SYS_fstatfs SYS_getdents64 SYS_fcntl SYS_flock
    SYS_fsync SYS_fdatasync SYS_ftruncate SYS_fallocate SYS_fadvise64
    SYS_mkdirat SYS_unlinkat SYS_renameat2 SYS_linkat SYS_readlinkat SYS_faccessat SYS_faccessat2
    SYS_fchmod SYS_fchmodat SYS_umask SYS_getcwd SYS_ioctl
    // sockets
    SYS_socket SYS_socketpair SYS_bind SYS_listen SYS_accept SYS_accept4 SYS_connect SYS_shutdown
    SYS_getsockname SYS_getpeername SYS_setsockopt SYS_getsockopt
    SYS_sendto SYS_recvfrom SYS_sendmsg SYS_recvmsg SYS_sendmmsg SYS_recvmmsg
    // the event loop, threads and timers
    SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_eventfd2 SYS_timerfd_create SYS_timerfd_settime SYS_timerfd_gettime
    SYS_ppoll SYS_pselect6 SYS_pipe2 SYS_dup SYS_dup3
    SYS_clone SYS_clone3 SYS_futex SYS_set_robust_list SYS_get_robust_list SYS_rseq SYS_set_tid_address SYS_gettid SYS_getpid SYS_getppid SYS_tgkill
    SYS_sched_yield SYS_sched_getaffinity SYS_membarrier SYS_restart_syscall SYS_exit SYS_exit_group
    SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_sigaltstack SYS_kill
    SYS_clock_gettime SYS_clock_getres SYS_clock_nanosleep SYS_nanosleep SYS_gettimeofday SYS_times SYS_getrusage
    // memory
    SYS_mmap SYS_munmap SYS_mremap SYS_mprotect SYS_madvise SYS_msync SYS_brk SYS_mincore SYS_mlock SYS_munlock SYS_getrandom
    // what a process asks about itself
    SYS_getuid SYS_geteuid SYS_getgid SYS_getegid SYS_getgroups SYS_uname SYS_sysinfo SYS_prlimit64 SYS_prctl SYS_capget
    SYS_landlock_create_ruleset
];

/// Calls that only x86_64 has, and its libraries still make.
#[cfg(target_arch = "x86_64")]
const OF_THE_ARCHITECTURE: &[libc::c_long] = numbers![
    SYS_open SYS_stat SYS_lstat SYS_access SYS_mkdir SYS_rmdir SYS_unlink SYS_rename SYS_link SYS_readlink SYS_chmod SYS_getdents
    SYS_poll SYS_select SYS_epoll_create SYS_epoll_wait SYS_eventfd SYS_pipe SYS_dup2 SYS_arch_prctl SYS_time
    SYS_getrlimit SYS_sync_file_range SYS_renameat
];

/// getrlimit, sync_file_range and renameat, whose names libc has for this architecture under musl only; the numbers are
/// those of asm-generic/unistd.h.
#[cfg(target_arch = "aarch64")]
const OF_THE_ARCHITECTURE: &[libc::c_long] = &[163, 84, 38];

/// All numbers that are allowed here; `None` where no list has been made.
pub fn allowed() -> Option<Vec<i64>> {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    {
        Some(COMMON.iter().chain(OF_THE_ARCHITECTURE).copied().collect())
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        None
    }
}

#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_starts_programs_or_changes_the_machine_is_allowed() {
        let allowed = allowed().unwrap();
        let forbidden: &[libc::c_long] = numbers![
            SYS_execve SYS_execveat SYS_ptrace SYS_mount SYS_umount2 SYS_pivot_root SYS_chroot SYS_unshare SYS_setns SYS_bpf
            SYS_io_uring_setup SYS_perf_event_open SYS_keyctl SYS_add_key SYS_init_module SYS_finit_module SYS_kexec_load SYS_reboot
            SYS_setuid SYS_setgid SYS_setresuid SYS_setgroups SYS_capset SYS_process_vm_readv SYS_process_vm_writev SYS_userfaultfd
            SYS_mknodat SYS_symlinkat SYS_fchownat SYS_memfd_create SYS_personality SYS_settimeofday SYS_clock_settime SYS_sethostname
        ];
        for call in forbidden {
            assert!(!allowed.contains(call), "system call {call}");
        }
        let mut unique = allowed.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), allowed.len());
    }
}
