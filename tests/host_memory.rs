//! Memory of the process as the kernel counts it, and giving it back. One test: others in the process would be in it.

use pipit::host::memory::resident;
use pipit::host::memory::settle;
use pipit::host::memory::trim;

#[test]
fn what_is_used_is_seen_and_what_is_freed_goes_back() {
    settle();
    let before = resident().unwrap();
    let blocks: Vec<Vec<u8>> = (0..16_000).map(|_| vec![1; 2000]).collect();
    let full = resident().unwrap();
    assert!(full >= before + 24_000_000, "{before} {full}");
    drop(blocks);
    trim();
    if cfg!(target_env = "gnu") {
        assert!(resident().unwrap() < full - 16_000_000);
    }
}
